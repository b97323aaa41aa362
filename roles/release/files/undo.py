# Runs in `manage shell` of the image that is left, after nothing of it serves any more: takes its migrations back, newest first.
import json
import os

from django.core.management import call_command
from django.db import connection
from django.db.migrations.loader import MigrationLoader

names = [tuple(name.split(".", 1)) for name in json.loads(os.environ["PLAN_UNDO"])]
loader = MigrationLoader(connection)
with connection.cursor() as cursor:
    cursor.execute("SELECT pg_advisory_lock(7365)")
    cursor.execute(f"SET lock_timeout = '{int(os.environ['PLAN_LOCK_TIMEOUT'])}s'")
for app, name in names:
    if (app, name) in loader.applied_migrations:
        before = [parent for parent in loader.graph.node_map[app, name].parents if parent.key[0] == app]
        call_command("migrate", app, before[0].key[1] if before else "zero", "--noinput", verbosity=0)
print("senex-plan:" + json.dumps({"undone": [".".join(name) for name in names]}), flush=True)
