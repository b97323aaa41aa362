"""Applications whose migrations a way back takes back, alone or not at all."""

import textwrap

HEAD = """from django.db import migrations, models
from django.db.migrations import *
from django.db.models import *
"""
ROW = 'CreateModel("Row", [("id", BigAutoField(primary_key=True)), ("name", CharField(max_length=20, default=""))])'
NUMBER = 'AddField("row", "{name}", IntegerField(null=True))'
# {application: {migration: (what it depends on, its operations)}}; below its own application where there is no dot
CASES = {
    "branch": {
        "0001_initial": ([], ROW),
        "0002_a": (["0001_initial"], NUMBER.format(name="a")),
        "0002_b": (["0001_initial"], NUMBER.format(name="b")),
        "0003_merge": (["0002_a", "0002_b"], ""),
    },
    "needed": {"0001_initial": ([], ROW), "0002_more": (["0001_initial"], NUMBER.format(name="more"))},
    "leaning": {"0001_initial": (["needed.0002_more"], ROW)},
    "onceonly": {
        "0001_initial": ([], ROW),
        "0002_rows": (["0001_initial"], "SeparateDatabaseAndState(database_operations=[RunPython(RunPython.noop)])"),
        "0003_more": (["0002_rows"], NUMBER.format(name="more")),
    },
    "short": {
        "0001_initial": ([], ROW),
        "0002_more": (["0001_initial"], NUMBER.format(name="more")),
        "0003_less": (["0002_more"], NUMBER.format(name="less")),
    },
    "renamed": {"0001_initial": ([], ROW), "0002_line": (["0001_initial"], 'RenameModel("Row", "Line")')},
    "halfway": {
        "0001_initial": ([], ROW),
        "0002_bad": (["0001_initial"], 'RunSQL("select 1", "select 1/0")'),
        "0003_more": (["0002_bad"], NUMBER.format(name="more")),
    },
}
# The image that is left knows the second and third by one name
SQUASHED = {"short": {**CASES["short"], "0002_squashed": (["0001_initial"], NUMBER.format(name="more") + ", " + NUMBER.format(name="less"))}}
REPLACES = {"0002_squashed": [("short", "0002_more"), ("short", "0003_less")]}


def write(directory, cases):
    """The applications, and settings `cases` that have them."""
    for app, migrations in cases.items():
        folder = directory / app / "migrations"
        folder.mkdir(parents=True, exist_ok=True)
        for place in (folder.parent, folder):
            (place / "__init__.py").touch()
        for name, (needed, operations) in migrations.items():
            dependencies = [tuple(one.split(".")) if "." in one else (app, one) for one in needed]
            if app == "renamed":
                dependencies.append(("contenttypes", "0002_remove_content_type_name"))
            (folder / f"{name}.py").write_text(
                f"{HEAD}\n\nclass Migration(migrations.Migration):\n    dependencies = {dependencies!r}\n"
                f"    replaces = {REPLACES.get(name, [])!r}\n    operations = [{operations}]\n"
            )
    (directory / "cases.py").write_text(
        textwrap.dedent(f"""\
        import importlib, os
        _base = importlib.import_module(os.environ["CASES_BASE"])
        globals().update({{name: getattr(_base, name) for name in dir(_base) if name.isupper()}})
        INSTALLED_APPS = [*INSTALLED_APPS, *{list(cases)!r}]
        """)
    )
