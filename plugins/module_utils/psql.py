"""How the superuser asks a database that is somebody else's: nothing there leads it to that owner's functions, and no name there is taken for something else.

Standard library alone, and no import from __future__: roles backup and pitr install this file beside their programs.
"""

import csv
import io
import sys

# What whoever owns a database may set for every session in it, the superuser's too: where names lead, who one is, how a string is read and a name written
PATIENT = "-c statement_timeout=0"  # as whoever it is
OVER = f"-c search_path= -c role=none -c standard_conforming_strings=on -c quote_all_identifiers=off -c default_transaction_read_only=off {PATIENT}"
# A name may hold whatever an unaligned answer is split at, ends of lines included
ROWS = ("-X", "-q", "-t", "--csv", "-v", "ON_ERROR_STOP=1")
# amcheck's functions are called by names in the extension's schema: one of somebody else's that fits as well would be taken. C is the superuser's alone
IMPOSTORS = """
select format('%I.%I', n.nspname, p.proname) from pg_extension e join pg_namespace n on n.oid = e.extnamespace join pg_proc p on p.pronamespace = n.oid
where e.extname = 'amcheck' and p.proname in ('verify_heapam', 'bt_index_check', 'bt_index_parent_check', 'gin_index_check')
and not (p.prolang = (select oid from pg_language where lanname = 'c') and p.probin = '$libdir/amcheck') order by 1;
"""


def conninfo(database: str, over: str = OVER) -> str:
    """A database by its name, whatever is in that, and whatever is set for it."""
    quoted = database.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{quoted}' options='{over}'"


def argument(text: str) -> str:
    """A text as commands of psql's own take it, in one line."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n") + "'"


def connect(database: str) -> str:
    """What goes on to another database in a script. This command takes a double quote for that of an identifier, inside of others as well."""
    quoted = '"' + conninfo(database).replace('"', '""') + '"'
    return f"\\connect -reuse-previous=on {argument(quoted)}\n"


def rows(said: str) -> list:
    """What psql answers to ROWS; its text as it came, for the ends of lines in a name are the name's."""
    csv.field_size_limit(sys.maxsize)
    return [row or [""] for row in csv.reader(io.StringIO(said, newline=""))]


def impostors(found: list) -> str:
    """What to say of them; empty where there are none."""
    return f"{', '.join(found)} is not amcheck's own, and would run as the superuser: drop it" if found else ""
