# Runs behind backwards.py and migration_sql.py in `manage shell` of the image that is to be released (or of the one to go back from), and changes nothing:
# which migrations are pending, what they would break for the version that still serves, what a way back would undo, and when named periodic tasks are due.
import contextlib
import json
import os

from django.db import NotSupportedError, connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone


class Facts:
    """The database as it is, for the judge."""

    def _rows(self, sql, *values):
        with connection.cursor() as cursor:
            cursor.execute(sql, values)
            return cursor.fetchall()

    @staticmethod
    def _quoted(table):
        return ".".join(connection.ops.quote_name(part) for part in table.split("."))

    def size(self, table):
        ((size,),) = self._rows(
            "SELECT coalesce((SELECT sum(pg_table_size(relid)) FROM pg_partition_tree(found.id)), pg_table_size(found.id))"
            " FROM (SELECT to_regclass(%s) AS id) AS found",
            self._quoted(table),
        )
        return None if size is None else int(size)

    def columns(self, table):
        rows = self._rows(
            "SELECT attname, format_type(atttypid, atttypmod), attnotnull, atthasdef OR attidentity <> '' FROM pg_attribute"
            " WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
            self._quoted(table),
        )
        return {name: {"type": kind, "not_null": not_null, "default": default} for name, kind, not_null, default in rows}

    def volatile(self, names):
        return names and self._rows("SELECT 1 FROM pg_proc WHERE provolatile = 'v' AND proname = ANY(%s) LIMIT 1", list(names))


def steps(app, operation, before):
    """The operations that touch the database, each with the state before and after: what Django does for SeparateDatabaseAndState,
    whose RunPython would be run when it is asked for its SQL."""
    after = before.clone()
    operation.state_forwards(app, after)
    parts = getattr(operation, "database_operations", None)
    if parts is None:
        yield operation, before, after
        return
    for part in parts:
        after = before.clone()
        part.state_forwards(app, after)
        yield from steps(app, part, before)
        before = after


@contextlib.contextmanager
def reading(atomic):
    """A transaction in which what runs instead of saying what it would run fails. Ended by itself: through a pooler the session is not ours.
    Where the migration is not to be in a transaction, Django must not know of this one."""
    if atomic:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION READ ONLY")
            yield
        return
    with connection.cursor() as cursor:
        cursor.execute("BEGIN READ ONLY")
        try:
            yield
        finally:
            cursor.execute("ROLLBACK")


def sql_of(migration, operation, before, after):
    """The SQL that an operation would run, with what Django leaves for the end of the migration."""
    with reading(migration.atomic), connection.schema_editor(collect_sql=True, atomic=migration.atomic) as editor:
        operation.database_forwards(migration.app_label, editor, before, after)
    return "\n".join(editor.collected_sql)


def judged(judge, migration, operation, before, after):
    """What is unsafe and what is worth to be known of one operation."""
    if not operation.reduces_to_sql:
        return [], ["runs code that nobody but its author can judge"]
    try:
        return judge.judge(sql_of(migration, operation, before, after))
    except NotSupportedError as error:
        return [f"it cannot run: {error}"], []
    except Exception as error:  # of the operation's own code, whatever it does
        why = f"its SQL cannot be known ({type(error).__name__}: {error}), so nobody but its author can judge it"
        try:
            table = before.apps.get_model(migration.app_label, operation.model_name)._meta.db_table
        except (AttributeError, LookupError):
            table = ""
        # Some ask the database for what an earlier pending migration is to make there
        return ([], [why]) if table in judge.tables else ([why], [])


def describe(judge, migration, before):
    found = {"name": f"{migration.app_label}.{migration.name}", "atomic": migration.atomic, "unsafe": [], "notes": []}
    for operation in migration.operations:
        for step, state, after in steps(migration.app_label, operation, before):
            unsafe, notes = judged(judge, migration, step, state, after)
            found["unsafe"] += [f"{found['name']}, {step.describe()}: {one}" for one in unsafe]
            found["notes"] += [f"{found['name']}, {step.describe()}: {one}" for one in notes]
        operation.state_forwards(migration.app_label, before)
    found["unsafe"] += [f"{found['name']}: {one}" for one in judge.end()]
    return found


def pending(executor):
    judge = Judge(Facts(), int(os.environ.get("PLAN_SMALL_TABLE_MB", "64")) * 2**20)  # noqa: F821  (of migration_sql.py)
    state = executor._create_project_state(with_applied_migrations=True)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [describe(judge, migration, state) for migration, _backwards in plan]


def due(names):
    """Seconds until each named task of django_celery_beat is due, or null for one that is off or unknown."""
    if not names:
        return {}
    from django_celery_beat.models import PeriodicTask

    now, found = timezone.now(), dict.fromkeys(names)
    for task in PeriodicTask.objects.filter(name__in=names, enabled=True):
        last = task.last_run_at or now
        found[task.name] = max(0, round(task.schedule.remaining_estimate(last).total_seconds()))
    return found


executor = MigrationExecutor(connection)
way_back = backwards(executor, json.loads(os.environ.get("PLAN_UNDO", "[]")))  # noqa: F821  (of backwards.py)
answer = {
    "pending": pending(executor),
    "undo": {
        "order": [f"{migration.app_label}.{migration.name}" for migration in way_back["plan"]],
        "back": way_back["back"],
        "refused": way_back["refused"],
    },
    "due": due(json.loads(os.environ.get("PLAN_TASKS", "[]"))),
}
print("senex-plan:" + json.dumps(answer), flush=True)
