"""Checks of Redis, its queues, and what workers hold."""

from __future__ import annotations

import datetime
import json
import re

from .findings import Check, Finding, Sample, age, fail, ok, size, warn

# Tasks that workers hold, as Celery's transport for Redis notes them: how many for longer than the timeout that is the script's argument (and 5 minutes,
# for workers look every 100 s), and those that wait for a time, each with when it was handed out, that time and its name. The oldest 200, so that it is cheap.
HELD = (
    "local now = redis.call('TIME')[1] local old = redis.pcall('ZCOUNT', 'unacked_index', '-inf', now - ARGV[1] - 300) "
    "local ids = redis.pcall('ZRANGE', 'unacked_index', 0, 199, 'WITHSCORES') if ids.err or type(old) ~= 'number' then return 'held 0 []' end "
    "local rows = {} for at = 1, #ids, 2 do local good, one = pcall(cjson.decode, redis.pcall('HGET', 'unacked', ids[at])) "
    "local told = good and type(one) == 'table' and type(one[1]) == 'table' and one[1].headers "
    "if type(told) == 'table' and type(told.eta) == 'string' then rows[#rows + 1] = {ids[at + 1], told.eta, tostring(told.task)} end end "
    "return 'held ' .. old .. ' ' .. (#rows > 0 and cjson.encode(rows) or '[]')"
)

# What Redis says of a file that it cannot load: of the log's files by name, of a snapshot that it is one
DAMAGED = re.compile(r"(?:reading the append only file|reading the RDB (?:preamble of the AOF|base) file|Checking RDB file) (?:\S*/)?([\w.-]+\w)")
UNREADABLE = re.compile(r"Terminating server after rdb file reading failure|Fatal error loading the DB|Wrong signature trying to load DB|Invalid AOF manifest")


def read_redis(host, config) -> dict:
    """INFO as a dictionary, the length of each queue, and what workers hold."""
    broker = config.broker
    words = "".join(f"LLEN {queue}\n" for queue in broker.queues)
    info = as_reader(host, broker.container, "INFO\n", "")
    lengths = as_reader(host, broker.container, words, f'EVAL "{HELD}" 0 {broker.visibility_timeout:.0f}\n', "-n", str(broker.broker_database))
    said = lengths.out.split("\n")  # not splitlines: a task is called what it likes
    lines = [line.split() for line in said if line.split()]
    numbers = [int(words[-1]) for words in lines if words[-1].isdigit()]
    if info.code and (damaged := damaged_file(host, broker.container)):
        return {"damaged": damaged}
    if info.code or len(numbers) != len(broker.queues):  # a Redis without EVAL tells its lengths all the same
        raise OSError(f"redis-cli in {broker.container}: {(info if info.code else lengths).said}")
    rows = dict(line.strip().split(":", 1) for line in info.out.split("\n") if ":" in line)
    held = next((line.split(" ", 2) for line in said if line.startswith("held ")), ["held", "0", "[]"])
    return {"info": rows, "queues": dict(zip(broker.queues, numbers, strict=True)), "overdue": int(held[1]), "waiting": json.loads(held[2])}


def as_reader(host, container: str, words: str, script: str, *options: str):
    """What redis-cli answers the user that may only read. A Redis that was started before there was one is asked as before, without the script: an application
    can lead another user's script to do what that user may."""
    done = host.inside(container, "redis-cli", "--user", "_watchdog", "-e", *options, stdin=words + script)
    refused = "AUTH failed" in done.err or done.out.startswith("NOAUTH")  # INFO counts such answers to anybody
    return host.inside(container, "redis-cli", "-e", *options, stdin=words) if refused else done


def damaged_file(host, container: str) -> str:
    """The file that keeps Redis from starting, in its own words of the last minutes; empty where it is something else."""
    words = ["journalctl", "--quiet", "--no-pager", "--output=cat", "--lines=200", "--since=-5min", f"_UID={host.uid}", f"CONTAINER_NAME={container}"]
    said = host.run(*words).out
    if "Ready to accept connections" in said.rpartition("Server initialized")[2]:
        return ""
    named = DAMAGED.findall(said)
    return named[-1] if named else "its log or its snapshot" if UNREADABLE.search(said) else ""


def moment(text: str) -> float:
    """Seconds of the clock; 0 for what is no time."""
    try:
        read = datetime.datetime.fromisoformat(text)
    except ValueError:
        return 0
    return (read if read.tzinfo else read.replace(tzinfo=datetime.UTC)).timestamp()


def judge_held(data: dict, config, now: float) -> list[Finding]:
    """Workers hold no task for longer than Redis leaves it to them."""
    timeout, found = config.broker.visibility_timeout, []
    if data["overdue"]:
        says = f"{data['overdue']} were handed out more than {age(int(timeout))} ago, not acknowledged and not taken back, as workers do that run"
        found.append(warn("tasks held", says, "senex logs celery-worker; senex restart celery-worker"))
    late = sorted({name for handed, eta, name in data["waiting"] if moment(eta) > float(handed) + timeout})
    if late:
        says = f"{', '.join(late)}: due later than senex_celery_visibility_timeout ({age(int(timeout))}) after a worker took it, so it will run more than once"
        found.append(warn("tasks with a countdown", says, "a shorter countdown, or a larger senex_celery_visibility_timeout; docs/user/celery.md"))
    return found


def judge_redis(data: dict, config, now: float) -> list[Finding]:
    """Redis answers, saves and has room; queues are short."""
    if "damaged" in data:
        do = "senex redis check says what can be saved; senex redis repair does it, and asks before"
        return [fail("redis", f"cannot start, for a file is damaged: {data['damaged']}", do)]
    info, found = data["info"], []
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    policy, evicted = info.get("maxmemory_policy", ""), int(info.get("evicted_keys", 0))
    memory = f"{size(used)} of {size(most)}" if most else size(used)
    if info.get("rdb_last_bgsave_status", "ok") != "ok" or info.get("aof_last_write_status", "ok") != "ok":
        found.append(fail("redis", "cannot save, so it refuses writes", "senex logs redis; disk space; senex redis-cli INFO persistence"))
    elif most and used > 0.95 * most:
        what = "evicts cache keys" if evicted else "has evicted nothing yet"
        level = warn if policy != "noeviction" and evicted else fail
        do = "raise redis_maxmemory, or see what fills it: senex redis-cli --bigkeys"
        found.append(level("redis", f"memory is full ({memory}, {policy}), it {what}", do))
    elif evicted:
        found.append(warn("redis", f"has evicted {evicted} keys since it started ({memory}, {policy})", "raise redis_maxmemory and redis_memory"))
    else:
        server, version = ("Valkey", info["valkey_version"]) if "valkey_version" in info else ("Redis", info.get("redis_version", ""))
        found.append(ok("redis", f"{server} {version} answers, {memory}" if version else f"answers, {memory}"))
    long = {name: count for name, count in data["queues"].items() if count > config.broker.queue_limit}
    shown = ", ".join(f"{name} {count}" for name, count in (long or data["queues"]).items())
    if long:
        do = "senex logs celery-worker; senex restart celery-worker; more workers: senex_celery_workers"
        found.append(warn("queues", f"tasks wait: {shown} (limit {config.broker.queue_limit})", do))
    else:
        found.append(ok("queues", shown or "none"))
    return found + judge_held(data, config, now)


def measure_redis(data: dict, now: float) -> list[Sample]:
    """How many tasks wait in each queue, and how many workers hold for too long. The exporter of Redis misses a queue that comes after two empty ones."""
    waiting = [Sample("tasks_waiting", count, {"queue": name}) for name, count in data.get("queues", {}).items()]
    return [*waiting, *([Sample("tasks_overdue", data["overdue"])] if "overdue" in data else [])]


CHECKS = [Check("redis", read_redis, judge_redis, lambda config: config.broker, lambda probe: 4 * probe.slow_interval, measure_redis)]
