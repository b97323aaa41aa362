"""PgBouncer of a host while PostgreSQL moves: its clients wait, and go on at another server."""

from __future__ import annotations

import json
import re
import subprocess
import time

from ansible_collections.senex.trader.plugins.module_utils.host import fileset

CONFIGURATION = "/etc/senex-trader/pgbouncer.ini"
CONSOLE = "/usr/local/lib/senex-trader/pgbouncer-console"
SERVER = re.compile(r"(?m)^(\S+ = host=)(\S+)( port=)(\d+)")
READ = 5.0  # seconds for a new configuration to be in force
TRANSACTIONS = 4.0  # seconds that transactions have to end, while everybody else waits already


def pointed(text: str, address: str, port: int) -> str:
    """The configuration with another server behind each database."""
    return SERVER.sub(lambda found: f"{found[1]}{address}{found[3]}{port}", text)


def servers(text: str) -> list[str]:
    """Where a configuration leads."""
    return sorted({f"{found[2]}:{found[4]}" for found in SERVER.finditer(text)})


def _console(*words: str, timeout: float = 60) -> str:
    done = subprocess.run([CONSOLE, *words], capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode:
        raise OSError(f"PgBouncer: {done.stderr.strip().removeprefix('pgbouncer: ')}")
    return done.stdout


def pause() -> dict:
    """Clients wait from now on. Where a transaction does not end, nobody waits, and this fails."""
    began = time.time()
    try:
        _console("pause", timeout=TRANSACTIONS)
    except subprocess.TimeoutExpired:
        _resume()
        raise OSError(f"PgBouncer: a transaction did not end within {TRANSACTIONS:g} s, so nobody waits any more; see senex activity, then try again") from None
    return {"since": began, "servers": servers(_read()[0])}


def _read() -> tuple[str, tuple]:
    content, owner = fileset.read(CONFIGURATION)
    if content is None:
        raise OSError(f"{CONFIGURATION} is missing: run site.yml, which writes it")
    return content.decode(), owner


def point(address: str, port: int) -> dict:
    """Clients go on, at this server."""
    text, owner = _read()
    wanted = pointed(text, address, port)
    if wanted != text:
        fileset.swap([(CONFIGURATION, wanted.encode(), owner)])
    subprocess.run(["/usr/bin/systemctl", "reload", "pgbouncer.service"], capture_output=True, text=True, timeout=60, check=True)
    end = time.monotonic() + READ
    while not _leads(address, port):
        if time.monotonic() > end:
            raise OSError(f"PgBouncer has not read its new configuration within {READ:g} s; clients wait until senex pgbouncer resume")
        time.sleep(0.05)
    _resume()
    return {"until": time.time(), "changed": wanted != text}


def _resume() -> None:
    """PgBouncer takes it for an error where nobody waits."""
    if {"key": "paused", "value": "yes"} in json.loads(_console("--json", "show", "state")):
        _console("resume")


def _leads(address: str, port: int) -> bool:
    rows = [row for row in json.loads(_console("--json", "show", "databases")) if row.get("host")]
    return bool(rows) and all((row["host"], row["port"]) == (address, str(port)) for row in rows)
