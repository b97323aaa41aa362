"""PostgreSQL's life cycle: start, stop, ready, sessions, dumps, data swap, upgrade.

Private to the collection. It knows nothing of how its unit came to the host. May import: host.

These are installed beside the programs of roles backup, pitr, watchdog and operator_cli too, as a package of the same name, where they import the standard
library and one another alone: amcheck, container, contents, dump_entries, dump_file, psql, sequences, service, session.
"""
