# Runs behind backwards.py in `manage shell` of the image that is left, after nothing of it serves any more: takes its migrations back, newest first.
import json
import os

from django.core.management.sql import emit_post_migrate_signal, emit_pre_migrate_signal
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

QUIET = {"verbosity": 0, "interactive": False, "db": connection.alias}


def say(**found):
    print("senex-plan:" + json.dumps(found), flush=True)


def unapplied(executor, plan):
    """As `migrate` does it, its signals too: with the first of them renamed content types get their former names."""
    before = executor._create_project_state(with_applied_migrations=True)
    steps = [(migration, True) for migration in plan]
    emit_pre_migrate_signal(**QUIET, apps=before.apps, plan=steps)
    # Without targets: it runs the steps that it is given, and no others
    after = executor.migrate([], plan=steps, state=before.clone())
    after.clear_delayed_apps_cache()
    emit_post_migrate_signal(**QUIET, apps=after.apps, plan=steps)


def main(names):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(7365)")
        cursor.execute(f"SET lock_timeout = '{int(os.environ['PLAN_LOCK_TIMEOUT'])}s'")
    done = []

    def progress(action, migration=None, fake=False):
        if action == "unapply_success":
            done.extend(".".join(key) for key in parts(migration, [tuple(name.split(".", 1)) for name in names]))  # noqa: F821  (of backwards.py)
            say(undone=done, back=found["back"], failed="it ended before it was done")

    executor = MigrationExecutor(connection, progress)
    found = backwards(executor, names)  # noqa: F821  (of backwards.py)
    if found["refused"]:
        return say(undone=[], back=found["back"], failed="; ".join(found["refused"]))
    failed = ""
    try:
        if found["plan"]:
            unapplied(executor, found["plan"])
    except Exception as error:  # of the migration's own code, whatever it does
        failed = f"{type(error).__name__}: {error}"
    return say(undone=done, back=found["back"], failed=failed)


main(json.loads(os.environ["PLAN_UNDO"]))
