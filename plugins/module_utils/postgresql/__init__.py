"""PostgreSQL's life cycle. Private to the collection.

May import of module_utils: bounded, confined, fileset, kept_data, owned, service_user, untrusted, traffic_probe_unit (the source of a module for another
interpreter), release_record and release_steps (an upgrade renews the deploy lock and makes a dump). Never quadlet_*, unchanged, nginx_* or preflight: the
engine knows nothing of PostgreSQL, and PostgreSQL nothing of how its unit came to the host.

These are installed beside the programs of roles backup, pitr and watchdog, as a package of the same name, and import the standard library and one another
alone: dump_entries, dump_file, psql, sequences, session.
"""
