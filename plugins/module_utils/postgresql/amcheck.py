"""Every table and every B-tree index, looked through by the server's own pg_amcheck; with the extension amcheck, as long as that takes.

Standard library alone: role pitr installs this file beside its program.
"""

from __future__ import annotations

from . import psql
from .container import Container
from .session import OPTIONS, PATIENT_17, target

AVAILABLE = "select 1 from pg_available_extensions where name = 'amcheck';"
THERE = "select current_database() from pg_extension where extname = 'amcheck';"
PLANTED = f"select format('%s: %s', current_database(), found.name) from ({psql.IMPOSTORS.strip().rstrip(';')}) as found (name);"


def in_each(names: list[str], statement: str) -> str:
    """One script for several databases: every start of a program in the container costs as much as it does."""
    return "".join(f"{psql.connect(target(name))}{PATIENT_17}{statement}\n" for name in names)


def available(server: Container, database: str, role: str) -> bool:
    """Whether the image has the extension."""
    return bool(server.psql(AVAILABLE, target(database), role))


def check(server: Container, names: list[str], role: str, jobs: int) -> str:
    """What is wrong in these databases, in a sentence; nothing where all is well. An extension that was not there is none afterwards."""

    def ask(statement: str, which: list[str] = names) -> list[str]:
        return [row[0] for row in server.psql(in_each(which, statement), target(names[0]), role)] if which else []

    there = ask(THERE)
    if said := psql.impostors(ask(PLANTED, there)):
        return said
    # Its own limit on transactions is one of 17's; to say it to an earlier server is an error
    limits = "".join(f" -c {name}=0" for name in ask("select name from pg_settings where name = 'transaction_timeout';", names[:1]))
    # By patterns, in which a name between quotes is taken as it is; one that is made here goes to pg_catalog, where nobody else makes anything
    patterns = ["--database=" + '"' + name.replace('"', '""') + '"' for name in names]
    login = [*([f"--host={server.sockets}"] if server.sockets else []), f"--username={role}", "--no-password"]
    try:
        done = server.execute("env", f"PGOPTIONS={OPTIONS}{limits}", "pg_amcheck", *login, "--install-missing", f"--jobs={jobs}", *patterns, check=False)
    finally:
        ask("drop extension if exists amcheck;", [name for name in names if name not in there])
    return f"amcheck found damage: {' '.join((done.stdout or done.stderr).split())[:500]}" if done.returncode else ""
