"""Where the time goes: processor and memory by unit, and the statements of the database that run, wait, or hold others up."""

from __future__ import annotations

import re
import time

from senex_host import untrusted, user_manager

from . import checks_database
from .findings import age, size

SECONDS = 2.0
STATEMENTS = """
select pid::text, extract(epoch from now() - coalesce(case state when 'active' then query_start end, xact_start, query_start))::int::text, state,
       array_to_string(pg_blocking_pids(pid), ' '), left(regexp_replace(query, '[[:space:]]+', ' ', 'g'), 110)
  from pg_stat_activity
 where backend_type = 'client backend' and state <> 'idle' and pid <> pg_backend_pid()
 order by 2::int desc limit 15;
"""


def used(host, config) -> dict[str, tuple[int, int]]:
    """CPU time in nanoseconds and memory in bytes of each unit, as far as the kernel counts them."""
    found = {}
    for scope, names in (("user", config.user_units), ("system", config.system_units)):
        if not names:
            continue
        done = host.systemctl(scope, "show", "--property=Id,CPUUsageNSec,MemoryCurrent", "--", *names)
        for row in user_manager.properties(done.out):
            numbers = [number(row.get(name, "")) for name in ("CPUUsageNSec", "MemoryCurrent")]
            # systemd says 2^64 - 1 for what it does not know
            # The manager is the service user's, which may have another answer in its place
            found[untrusted.plain(row.get("Id", "?"), 80)] = tuple(0 if number >= 2**63 else number for number in numbers)
    return found


def number(text: str) -> int:
    """A number of another's, as far as it is one: 20 digits are more than systemd writes, and Python reads no more than 4300."""
    return int(text) if re.fullmatch("[0-9]{1,20}", text) else 0


def units(before: dict, after: dict, seconds: float) -> list[str]:
    """A line a unit, the busiest first."""
    rows = [(100 * max(0, cpu - before.get(unit, (cpu, 0))[0]) / 1e9 / seconds, memory, unit) for unit, (cpu, memory) in after.items()]
    return [f"{share:5.0f} %  {size(memory) if memory else '-':>7}  {unit.removesuffix('.service')}" for share, memory, unit in sorted(rows, reverse=True)]


def statements(rows: list[list[str]], superuser: str) -> list[str]:
    """A line a statement, the oldest first; below them who holds others up."""
    # What a client sends is a client's word: no line or colour of its own on a screen of root's
    rows = [[untrusted.plain(word) for word in [*row, "", "", "", ""][:4]] + [untrusted.plain(" ".join(row[4:]), 110)] for row in rows]
    lines = [f"{pid:>7}  {age(number(seconds)):>7}  {state:19}  {blockers or '-':12}  {text}" for pid, seconds, state, blockers, text in rows]
    waiting = {row[0] for row in rows if row[3]}
    guilty = sorted({pid for row in rows for pid in row[3].split() if number(pid)} - waiting, key=number)
    do = f"senex psql -U {superuser} -c 'select pg_terminate_backend(%s)' ends it; what it did not commit is lost"
    return lines + [f"{pid} holds others up; {do % pid}" for pid in guilty]


def show(host, config) -> int:
    """Print both; what is on another host is left out."""
    before, began = used(host, config), time.monotonic()
    time.sleep(SECONDS)
    after = used(host, config)
    print("\n".join([f"{'CPU':>7}  {'memory':>7}  unit, over {SECONDS:.0f} s; 100 % is one core", *units(before, after, time.monotonic() - began)]))
    if config.database:
        found = statements(checks_database.psql(host, config, STATEMENTS), config.database.superuser)
        head = f"{'PID':>7}  {'for':>7}  {'state':19}  {'waits for':12}  statement"
        print("\n".join(["", head, *found] if found else ["", "the database runs no statement but this"]))
    return 0
