# Runs in `manage shell` of the image that is to be released (or of the one to go back from), and changes nothing:
# which migrations are pending, what they would break for the version that still serves, and when named periodic tasks are due.
import json
import os

from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

# Sources of the rules: Django's documentation of each operation, and the checks of django-migration-linter
GONE = {
    "DeleteModel": "the table goes", "RemoveField": "the column goes", "RenameModel": "the table is renamed",
    "RenameField": "the column is renamed", "AlterModelTable": "the table is renamed",
}  # fmt: skip


def problem(app, operation, before, after):
    """Why the version that still serves would fail beside this operation; empty when it would not."""
    kind = type(operation).__name__
    if kind in GONE:
        return GONE[kind]
    if kind == "AddField":
        field = operation.field
        has_default = hasattr(field, "has_db_default") and field.has_db_default() or getattr(field, "db_default", None) not in (None, NOT_PROVIDED)
        needs = not field.many_to_many and not field.null and not has_default
        return "a column that may not be empty and has no default in the database (db_default)" if needs else ""
    if kind == "AlterField":
        name = (app, operation.model_name_lower)
        old, new = (state.apps.get_model(*name)._meta.get_field(operation.name) for state in (before, after))
        if old.null and not new.null:
            return "the column may not be empty any more"
        if old.column != new.column:
            return "the column is renamed"
        if old.db_parameters(connection).get("type") != new.db_parameters(connection).get("type"):
            return f"the column's type changes from {old.db_type(connection)} to {new.db_type(connection)}"
    return ""


def slow(operation):
    """Why the operation may hold a lock for long on a large table; empty when it does not."""
    kind = type(operation).__name__
    if kind in ("AddIndex", "AddConstraint"):
        return "writes wait while it is built (AddIndexConcurrently, or NOT VALID and a later validation, do not block)"
    return "runs code that nobody but its author can judge" if kind in ("RunPython", "RunSQL") else ""


def describe(migration, before):
    found = {"name": f"{migration.app_label}.{migration.name}", "atomic": migration.atomic, "reversible": True, "unsafe": [], "notes": []}
    for operation in migration.operations:
        after = before.clone()
        operation.state_forwards(migration.app_label, after)
        text = operation.describe()
        if unsafe := problem(migration.app_label, operation, before, after):
            found["unsafe"].append(f"{text}: {unsafe}")
        if note := slow(operation):
            found["notes"].append(f"{text}: {note}")
        found["reversible"] = found["reversible"] and operation.reversible
        before = after
    return found, before


def pending(executor):
    targets = executor.loader.graph.leaf_nodes()
    state, found = executor._create_project_state(with_applied_migrations=True), []
    for migration, _backwards in executor.migration_plan(targets):
        one, state = describe(migration, state)
        found.append(one)
    return found


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


from django.db.models import NOT_PROVIDED  # noqa: E402

executor = MigrationExecutor(connection)
applied = {f"{app}.{name}" for app, name in executor.loader.applied_migrations}
known = {f"{app}.{name}" for app, name in executor.loader.disk_migrations}
reversible = {
    f"{app}.{name}": all(operation.reversible for operation in migration.operations)
    for (app, name), migration in executor.loader.disk_migrations.items()
}
answer = {
    "pending": pending(executor),
    "applied": sorted(applied),
    "unknown": sorted(applied - known),  # applied, and this image does not have them: a newer image did that
    "reversible": {name: reversible[name] for name in sorted(applied & known)},
    "due": due(json.loads(os.environ.get("PLAN_TASKS", "[]"))),
}
print("senex-plan:" + json.dumps(answer), flush=True)
