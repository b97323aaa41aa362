"""Who holds the table that a migration waits for, as the application may see it: of the superuser's sessions PostgreSQL shows it the name alone."""

import contextlib
import sys
import types

import pytest
from rendered import component
from test_rendered_units import BASE

ROWS = [
    (7, "senex", "", "idle in transaction", "AccessShareLock", "0:01:00"),
    (8, "postgres", "pg_dump", None, "AccessShareLock", None),
]  # fmt: skip


class Connection:
    """Django's, with rows that are there already."""

    vendor, closed = "postgresql", 0

    def close(self):
        self.closed += 1

    @contextlib.contextmanager
    def cursor(self):
        yield Cursor()


class Cursor(list):
    def execute(self, _sql, values):
        assert values == ['"probe_row"']
        self[:] = ROWS


@pytest.fixture
def release(monkeypatch):
    """The script of the release container, which has nothing to do."""
    database = types.SimpleNamespace(OperationalError=type("OperationalError", (Exception,), {}), connection=Connection())
    management = types.SimpleNamespace(call_command=None)
    for name, module in (("django", None), ("django.core", None), ("django.core.management", management), ("django.db", database)):
        monkeypatch.setitem(sys.modules, name, module or types.ModuleType(name))
    text, _ = component("django", **BASE, django_release_commands=[], senex_database_superuser="cluster-1")[0]["config/django/release.py"]
    found = {}
    exec(text, found)  # noqa: S102  (it is the collection's own)
    return found


def test_a_dump_that_holds_the_table_is_named_and_the_superuser_ends_it(release):
    said = release["locked"]('ALTER TABLE "probe_row" ADD COLUMN "note" text')
    assert "Held now by: process 7 (senex, no name, idle in transaction, AccessShareLock, open for 0:01:00), process 8 (postgres, pg_dump, Acc" in said
    assert "senex psql -U cluster-1 -c 'select pg_terminate_backend(PROCESS)'" in said and "None" not in said
