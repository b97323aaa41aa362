"""What a release does on a host besides the engine: the traffic probe, migrations, stop and start of the application.

Private to the collection. May import: host, nginx, engine, postgresql.
"""
