"""Migrations, each with what a release has to say of it while the version before it serves. A case is an application of its own, with a row in its tables."""

import textwrap

HEAD = """from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models
from django.db.migrations import *
from django.db.models import *
from django.db.models.functions import Now, Random
"""
FIRST = (
    HEAD
    + """
class Migration(migrations.Migration):
    initial = True
    operations = [
        CreateModel("Owner", [("id", BigAutoField(primary_key=True)), ("name", CharField(max_length=20, unique=True))]),
        CreateModel("Thing", [
            ("id", BigAutoField(primary_key=True)), ("name", CharField(max_length=20)), ("number", IntegerField(null=True)),
            ("old", IntegerField(default=1, db_index=True)), ("owner", ForeignKey("Owner", CASCADE, null=True)), ("kept", IntegerField(db_default=3)),
            ("plain", IntegerField(null=True)),
        ], options={"constraints": [CheckConstraint(condition=Q(old__gte=0), name="{app}_old")], "indexes": [Index(fields=["number"], name="{app}_number")]}),
        CreateModel("Empty", [("id", BigAutoField(primary_key=True))]),
        RunSQL("INSERT INTO {app}_owner (name) VALUES ('o'); INSERT INTO {app}_thing (name, old) VALUES ('a', 1)"),
    ]
"""
)
PENDING = (
    HEAD
    + """
def code(apps, schema_editor):
    raise RuntimeError("the plan ran a migration's code")

class Eager(migrations.operations.base.Operation):
    # Of an application's own: it runs what others only say
    model_name = "thing"
    reduces_to_sql = True
    reversible = False
    def state_forwards(self, app_label, state):
        pass
    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        with schema_editor.connection.cursor() as cursor:
            cursor.execute("DELETE FROM {app}_thing")

class Migration(migrations.Migration):
    atomic = {atomic}
    dependencies = [("{app}", "0001_initial")]
    operations = [{operations}]
"""
)

# What is said of it, in part. The version in service fails beside these, however small the table is
UNSAFE = {
    "column_goes": ('RemoveField("thing", "old")', "the column case_thing.old goes"),
    "column_goes_by_parts": (
        'SeparateDatabaseAndState(database_operations=[RemoveField("thing", "old")])',
        "the column case_thing.old goes",
    ),
    "sql_by_parts": (
        'SeparateDatabaseAndState(database_operations=[RunSQL("ALTER TABLE {app}_thing DROP COLUMN old, ADD COLUMN fresh integer")])',
        "the column case_thing.old goes",
    ),
    "sql": ("""RunSQL('/* a; comment */ ALTER TABLE ONLY public."{app}_thing" RENAME COLUMN "old" TO young')""", "the column case_thing.old is renamed"),
    "truncated": ('RunSQL("TRUNCATE {app}_thing")', "the rows of case_thing go"),
    "table_goes": ('DeleteModel("Thing")', "the table case_thing goes"),
    "table_renamed": ('RenameModel("Thing", "Matter")', "the table case_thing is renamed"),
    "table_renamed_by_option": ('AlterModelTable("thing", "elsewhere")', "the table case_thing is renamed"),
    "column_renamed": ('RenameField("thing", "old", "young")', "the column case_thing.old is renamed"),
    "new_not_null": ('AddField("thing", "fresh", IntegerField(default=1))', "case_thing.fresh may not be empty and has no default in the database"),
    "not_null_in_two_steps": (
        'AddField("thing", "fresh", IntegerField(null=True)), AlterField("thing", "fresh", IntegerField(default=1))',
        "case_thing.fresh may not be empty and has no default in the database",
    ),
    "not_null": ('AlterField("thing", "number", IntegerField(default=1))', "case_thing.number may not be empty any more"),
    "type": ('AlterField("thing", "name", IntegerField())', "the type of case_thing.name changes from character varying(20) to integer"),
    "shorter": ('AlterField("thing", "name", CharField(max_length=10))', "the type of case_thing.name changes"),
    "default_goes": ('AlterField("thing", "kept", IntegerField())', "case_thing.kept loses its default"),
    "unique": ('AddConstraint("thing", UniqueConstraint(fields=["name"], name="{app}_u"))', "may write what it forbids"),
    "unique_together": ('AlterUniqueTogether("thing", [("name", "old")])', "may write what it forbids"),
    "unique_index": ('AddConstraint("thing", UniqueConstraint(fields=["name"], condition=Q(old=1), name="{app}_u"))', "may write what it forbids"),
    "unique_default": ('AddField("thing", "fresh", IntegerField(db_default=1, unique=True))', "UNIQUE for fresh of case_thing"),
    "check": ('AddConstraint("thing", CheckConstraint(condition=Q(number__gte=0), name="{app}_c"))', "a constraint (CHECK) for number of case_thing"),
    "becomes_foreign_key": (
        'AlterField("thing", "plain", ForeignKey("Owner", CASCADE, null=True, db_column="plain"))',
        "the type of case_thing.plain changes from integer to bigint",
    ),
    "eager": ("Eager()", "its SQL cannot be known (InternalError: cannot execute DELETE in a read-only transaction"),
    "concurrently_in_transaction": ('AddIndexConcurrently("thing", Index(fields=["name"], name="{app}_i"))', "it cannot run:"),
}  # fmt: skip
# Only the lock hurts: refused where the table is large, noted where it is small
LARGE = {
    "index": ('AddIndex("thing", Index(fields=["name"], name="{app}_i"))', "writes wait while the index is built"),
    "index_of_field": ('AlterField("thing", "name", CharField(max_length=20, db_index=True))', "writes wait while the index is built"),
    "sql_index": ('RunSQL("CREATE INDEX {app}_i ON {app}_thing USING btree (lower(name))")', "writes wait while the index is built"),
    "volatile_default": ('AddField("thing", "fresh", models.FloatField(db_default=Random()))', "written anew, for each row of fresh"),
    "check_of_new_column": ('AddField("thing", "fresh", models.PositiveIntegerField(null=True))', "read through, for fresh has a CHECK"),
    "unique_of_new_column": ('AddField("thing", "fresh", IntegerField(null=True, unique=True))', "the index of fresh is built"),
    "foreign_key_with_default": (
        'AddField("thing", "fresh", ForeignKey("Owner", CASCADE, db_default=1))',
        "writes wait while fresh_id is compared with what it refers to",
    ),
    "computed": (
        'AddField("thing", "fresh", models.GeneratedField(expression=F("old") + 1, output_field=IntegerField(), db_persist=True))',
        "written anew, for each row of fresh",
    ),
}  # fmt: skip
# Nothing is refused; what is noted, in part, or nothing
SAFE = {
    "nullable": ('AddField("thing", "fresh", IntegerField(null=True))', ""),
    "db_default": ('AddField("thing", "fresh", IntegerField(db_default=1))', ""),
    "stable_default": ('AddField("thing", "fresh", DateTimeField(db_default=Now()))', ""),
    "text_default": ('''AddField("thing", "fresh", TextField(db_default="not null, it's; DROP TABLE x"))''', ""),
    "table": (
        'CreateModel("New", [("id", BigAutoField(primary_key=True)), ("number", IntegerField(unique=True)), ("thing", ForeignKey("Thing", CASCADE))]),'
        ' AddIndex("new", Index(fields=["number"], name="{app}_n")), AddField("new", "more", IntegerField(default=1)), RenameField("new", "more", "less")',
        "writes to case_thing wait",
    ),
    "table_and_away": ('CreateModel("New", [("id", BigAutoField(primary_key=True))]), RenameModel("New", "Newer"), DeleteModel("Newer")', ""),
    "column_and_away": ('AddField("thing", "fresh", IntegerField(null=True)), RenameField("thing", "fresh", "new"), RemoveField("thing", "new")', ""),
    "foreign_key": ('AddField("thing", "fresh", ForeignKey("Owner", CASCADE, null=True, db_index=False))', "writes to case_owner wait"),
    "many_to_many": ('AddField("thing", "owners", ManyToManyField("Owner", related_name="+"))', "writes to case_owner wait"),
    "concurrently": ('AddIndexConcurrently("thing", Index(fields=["name"], name="{app}_i"))', ""),
    "index_goes_concurrently": ('RemoveIndexConcurrently("thing", "{app}_number")', ""),
    "index_goes": ('RemoveIndex("thing", "{app}_number")', ""),
    "constraint_goes": ('RemoveConstraint("thing", "{app}_old")', ""),
    "longer": ('AlterField("thing", "name", CharField(max_length=40))', ""),
    "text": ('AlterField("thing", "name", TextField())', ""),
    "may_be_empty": ('AlterField("thing", "old", IntegerField(null=True, default=1, db_index=True))', ""),
    "state_alone": ('SeparateDatabaseAndState(state_operations=[RemoveField("thing", "old")])', ""),
    "help_text": ('AlterField("thing", "old", IntegerField(default=2, help_text="x", db_index=True))', ""),
    "code": ("RunPython(code)", "runs code that nobody but its author can judge"),
    "code_by_parts": ("SeparateDatabaseAndState(database_operations=[RunPython(code)])", "runs code that nobody but its author can judge"),
    "rows": (
        """RunSQL(["UPDATE {app}_thing SET old = 2 WHERE name = 'x'", ("DELETE FROM {app}_thing WHERE name = %s", ["DROP TABLE; y"])])""",
        "changes rows (DELETE)",
    ),
    "block": ('RunSQL("DO $$ BEGIN DROP TABLE {app}_thing; END $$")', "DO $$ BEGIN"),
}  # fmt: skip
NOT_ATOMIC = ("concurrently", "index_goes_concurrently")


def write(directory, pending):
    """The applications, and settings `cases` that have them. `pending`: whether their second migration is there."""
    names = [f"case_{name}" for name in {**UNSAFE, **LARGE, **SAFE}]
    for name, (operations, _) in {**UNSAFE, **LARGE, **SAFE}.items():
        app = f"case_{name}"
        folder = directory / app / "migrations"
        folder.mkdir(parents=True, exist_ok=True)
        for place in (folder.parent, folder):
            (place / "__init__.py").touch()
        (folder / "0001_initial.py").write_text(FIRST.replace("{app}", app))
        if pending:
            text = PENDING.replace("{operations}", operations).replace("{atomic}", str(name not in NOT_ATOMIC)).replace("{app}", app)
            (folder / "0002_pending.py").write_text(text)
    (directory / "cases.py").write_text(
        textwrap.dedent(f"""\
        import importlib, os
        _base = importlib.import_module(os.environ["CASES_BASE"])
        globals().update({{name: getattr(_base, name) for name in dir(_base) if name.isupper()}})
        INSTALLED_APPS = [*INSTALLED_APPS, *{names!r}]
        """)
    )
