"""How every session of the superuser's begins, whatever the application's role has set for its database and an operator for the server.

Standard library alone: roles backup, pitr and watchdog install this file on the host beside their commands.
"""

from __future__ import annotations

# Without a search path, the owner of a database leads no superuser to functions of that owner's, nor to act as another role, which a setting of the
# database would do. Strings are read as PostgreSQL's own programs write them, names are written as they are compared, and what is to be written may be.
# Text goes as the database has it: in some encodings of clients a letter's second byte may be a quote or a backslash, so that psql would take a name that
# is quoted here for a command of its own
GUARD = (
    "-c search_path= -c role=none -c client_encoding=SQL_ASCII -c standard_conforming_strings=on -c quote_all_identifiers=off "
    "-c default_transaction_read_only=off"
)
# A limit on statements is for the application's; a check of a copy, a dump or an upgrade takes as long as it takes
PATIENT = "-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0"
OPTIONS = f"{GUARD} {PATIENT}"
# From 17 on there is one more limit, which an earlier server takes for an error: said in a script, it is taken where it is there
PATIENT_17 = "select 'set transaction_timeout = 0' from pg_catalog.pg_settings where name = 'transaction_timeout' \\gexec\n"


def target(database: str, path: bool = False, options: str = OPTIONS) -> str:
    """A database for PostgreSQL's programs by its name, whatever is in that. With the database's own search `path` where something is made in it."""
    name = database.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{name}' options='{options.replace('-c search_path= ', '') if path else options}'"
