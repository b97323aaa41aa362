"""Runs in a web instance: clients of the pooler, as the application's environment leads to it. Prints what came of it as JSON.

client.py prepared QUERIES | crowd CLIENTS | watch SECONDS | login USER PASSWORD
"""

import asyncio
import collections
import json
import os
import sys
import threading
import time

import psycopg

WORDS = {
    "host": os.environ["DB_HOST"], "port": os.environ["DB_PORT"], "dbname": os.environ["DB_NAME"], "user": os.environ["DB_USER"],
    "password": os.environ["DB_PASSWORD"], "sslmode": os.environ["DB_SSLMODE"], "connect_timeout": 60, "autocommit": True,
}  # fmt: skip
THREADS, STATEMENTS = 8, 40


def counted(errors):
    return dict(collections.Counter(f"{type(error).__name__}: {str(error).splitlines()[0]}" for error in errors))


def prepared(queries):
    """Each thread prepares its own of the same statements, on connections that the pooler hands to one after the other."""
    errors, right, lock = [], [], threading.Lock()

    def work():
        with psycopg.connect(**WORDS) as base:
            for number in range(queries // THREADS):
                which = number % STATEMENTS
                try:
                    value = base.execute(f"select %s::int + {which}", [number], prepare=True).fetchone()[0]
                    with lock:
                        right.append(value == number + which)
                except psycopg.Error as error:
                    errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return {"right": sum(right), "errors": counted(errors)}


def crowd(clients):
    """All are connected before the first one asks."""

    async def work():
        gate, there = asyncio.Event(), []

        async def one():
            async with await psycopg.AsyncConnection.connect(**WORDS) as base:
                there.append(1)
                await gate.wait()
                return (await (await base.execute("select pg_backend_pid(), pg_sleep(0.02)")).fetchone())[0]

        jobs = [asyncio.create_task(one()) for _ in range(clients)]
        while len(there) < clients and not any(job.done() for job in jobs):
            await asyncio.sleep(0.05)
        gate.set()
        return await asyncio.gather(*jobs, return_exceptions=True)

    found = asyncio.run(work())
    errors = [one for one in found if isinstance(one, BaseException)]
    return {"served": len(found) - len(errors), "servers": len({one for one in found if not isinstance(one, BaseException)}), "errors": counted(errors)}


def watch(seconds):
    """A client that comes anew for each query, until a while after; the longest time from one answer to the next."""
    errors, done, gap, end = [], 0, 0.0, time.monotonic() + seconds
    last = time.monotonic()
    while time.monotonic() < end:
        try:
            with psycopg.connect(**WORDS) as base:
                base.execute("insert into pooler_watch default values")
            now = time.monotonic()
            done, gap, last = done + 1, max(gap, now - last), now
        except psycopg.Error as error:
            errors.append(error)
        time.sleep(0.05)
    return {"done": done, "gap": max(gap, time.monotonic() - last), "errors": counted(errors)}


def login(user, password):
    try:
        with psycopg.connect(**{**WORDS, "user": user, "password": password}) as base:
            return {"as": base.execute("select current_user").fetchone()[0]}
    except psycopg.Error as error:
        return {"refused": str(error)}


if __name__ == "__main__":
    verb, *rest = sys.argv[1:]
    print(json.dumps(login(*rest) if verb == "login" else globals()[verb](int(rest[0]))))
