"""Tables and B-tree indexes looked through: all of a cluster by pg_amcheck, or the indexes of one database by SQL beside what serves. The extension amcheck
is there for that long where it was not there before.

Standard library alone: roles pitr and backup install this file beside their programs.
"""

from __future__ import annotations

from . import psql
from .container import Container
from .session import OPTIONS, PATIENT_17, target

AVAILABLE = "select 1 from pg_available_extensions where name = 'amcheck';"
THERE = "select current_database() from pg_extension where extname = 'amcheck';"
PLANTED = f"select format('%s: %s', current_database(), found.name) from ({psql.IMPOSTORS.strip().rstrip(';')}) as found (name);"

OWN = "pg_catalog"  # of an extension that is there for the check alone: nobody else makes anything there
# The application may have the extension itself, in whichever schema: it stays as it is
SCHEMA = "select quote_ident(n.nspname) from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'amcheck';"
# Each index against its table; a tree that does not hold what the table holds answers queries wrongly
INDEXES = """
select count({schema}.bt_index_check(c.oid, true)) from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am a on a.oid = c.relam
join pg_namespace n on n.oid = c.relnamespace
where a.amname = 'btree' and i.indisvalid and i.indisready and c.relpersistence = 'p' and n.nspname <> 'pg_toast';
"""


def of_indexes(schema: str) -> str:
    """A script that checks the indexes of its database and answers how many there are; `schema`: what SCHEMA has answered."""
    script = INDEXES.format(schema=schema or OWN)
    return script if schema else f"create extension amcheck schema {OWN};{script}drop extension amcheck;"


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
    argv = server.client("pg_amcheck", "--install-missing", f"--jobs={jobs}", *patterns, role=role)
    try:
        done = server.execute("env", f"PGOPTIONS={OPTIONS}{limits}", *argv, check=False)
    finally:
        ask("drop extension if exists amcheck;", [name for name in names if name not in there])
    return f"amcheck found damage: {' '.join((done.stdout or done.stderr).split())[:500]}" if done.returncode else ""
