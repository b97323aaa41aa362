"""How a database that is somebody else's answers the superuser: no name there is taken for something else. How a session begins is that of session.

Standard library alone, and no import from __future__: roles backup and pitr install this file beside their programs.
"""

import csv
import io
import sys

# A name may hold whatever an unaligned answer is split at, ends of lines included
ROWS = ("-X", "-q", "-t", "--csv", "-v", "ON_ERROR_STOP=1")
# amcheck's functions are called by names in the extension's schema: one of somebody else's that fits as well would be taken. C is the superuser's alone
IMPOSTORS = """
select format('%I.%I', n.nspname, p.proname) from pg_extension e join pg_namespace n on n.oid = e.extnamespace join pg_proc p on p.pronamespace = n.oid
where e.extname = 'amcheck' and p.proname in ('verify_heapam', 'bt_index_check', 'bt_index_parent_check', 'gin_index_check')
and not (p.prolang = (select oid from pg_language where lanname = 'c') and p.probin = '$libdir/amcheck') order by 1;
"""


def argument(text: str) -> str:
    """A text as commands of psql's own take it, in one line."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n") + "'"


def connect(target: str) -> str:
    """What goes on to another database, such as session.target names it, in a script.

    This command takes a double quote for that of an identifier, inside of others as well.
    """
    quoted = '"' + target.replace('"', '""') + '"'
    return f"\\connect -reuse-previous=on {argument(quoted)}\n"


def rows(said: str) -> list:
    """What psql answers to ROWS; its text as it came, for the ends of lines in a name are the name's."""
    csv.field_size_limit(sys.maxsize)
    return [row or [""] for row in csv.reader(io.StringIO(said, newline=""))]


def impostors(found: list) -> str:
    """What to say of them; empty where there are none."""
    return f"{', '.join(found)} is not amcheck's own, and would run as the superuser: drop it" if found else ""
