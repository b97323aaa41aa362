"""The database that a restore of a dump has kept goes back into its place by name, as what restores of Redis and of media keep does."""

import json
import sys

import pytest
import rendered
from test_backup_command import command, settings  # noqa: F401  (fixtures)

KEPT = "senex_before_restore_20261130111500"


@pytest.fixture
def server(command, settings, monkeypatch):  # noqa: F811
    """Databases with their rows, and the statements that change something."""
    from senex_backup import restore, undo

    settings.given["database"] = {"name": "senex", "owner": "senex", "role": "postgres", "container": "postgres"}
    found = type("Server", (), {"rows": {"senex": 70, KEPT: 90, "senex_restore_20261130111400": 1, "sales_before_restore_20261130111500": 2}, "said": []})
    found.restore, found.gone = restore, False

    def rows(_settings, text, database=None, **_):
        if found.gone:
            raise command.common.BackupError("the database does not answer")
        if "datname from pg_database" in text:
            return [[name] for name in sorted(found.rows)]
        return [["T", "public.probe_row", str(found.rows[database])]] if "'T'" in text else []

    def sql(_settings, text, *_, **__):
        found.said.append(text)
        return "" if "unnest" in text else "4096"

    for module in (restore, undo, restore.around):
        monkeypatch.setattr(module, "rows", rows)
        monkeypatch.setattr(module, "sql", sql)
    return found


@pytest.mark.parametrize("name", ["before-restore-20261130111500", KEPT])
def test_it_goes_back_into_its_place(settings, server, name):  # noqa: F811
    """The message named the database, and nothing put it back but SQL by hand."""
    plan = server.restore.step(settings, "plan", name)
    assert (plan["restored"], plan["made"], plan["rows"], plan["database_bytes"]) == (KEPT, "2026-11-30 11:15:00 UTC", 90, 4096)
    assert plan["aside"].startswith("senex_before_restore_") and plan["aside"] != KEPT
    assert not any("alter" in text for text in server.said), "a plan changes nothing"
    loaded = server.restore.load(settings, plan)
    server.restore.step(settings, "swap", json.dumps(loaded))
    (renamed,) = [text for text in server.said if "rename" in text]
    assert f'"senex" rename to "{plan["aside"]}"' in renamed and f'"{KEPT}" rename to "senex"' in renamed
    assert not any("drop" in text or "create" in text for text in server.said)


@pytest.mark.parametrize("name", ["before-restore-20261130111501", "before-restore-", "senex_before_restore_", "before-restore-../x"])
def test_one_that_is_not_there_is_told_with_those_that_are(command, settings, server, name):  # noqa: F811
    with pytest.raises(command.common.BackupError, match=r"that a restore kept; there are: before-restore-20261130111500$"):
        server.restore.plan(settings, name)


def test_one_that_somebody_writes_to_stays_where_it_is(command, settings, server):  # noqa: F811
    plan = server.restore.plan(settings, KEPT)
    server.rows[KEPT] += 1
    with pytest.raises(command.common.BackupError, match="has 91 rows, and had 90 when the plan was made"):
        server.restore.load(settings, plan)


@pytest.mark.parametrize("gone", [False, True])
def test_the_list_names_them(command, settings, server, capsys, gone):  # noqa: F811
    server.gone = gone
    settings.given["jobs"] = ["dump"]
    assert sys.modules["senex_backup.listing"].show(settings, False) == 0
    assert ("before-restore-20261130111500  kept aside by a restore" in capsys.readouterr().out) is not gone


@pytest.mark.parametrize("back", [False, True])
def test_who_restores_is_told_how_it_comes_back(back):
    tasks = rendered.loaded(rendered.ROLES / "backup/tasks/restore_plan.yml")
    (shown,) = [task["vars"]["__backup_shown"] for task in tasks if task["name"] == "Show the plan"]
    (after,) = [task["vars"]["__backup_afterwards"] for task in tasks if task["name"] == "Continue with the confirmed restore"]
    plan = {"dump": KEPT, "made": "then", "rows": 1, "tables": 1, "database": "senex", "database_bytes": 1, "restored": "new", "aside": KEPT, "source": None,
            "roles": [], "others": [], "back": back}  # fmt: skip
    said = rendered.value("backup", "said", said=shown, __backup_plan=plan)
    assert ("nothing is loaded" in str(said)) is back and ("into a new database new" in str(said)) is not back
    told = rendered.value("backup", "told", told=after, __backup_plan=plan, senex_database_superuser="postgres")
    assert any("-e restore_dump=before-restore-20261130111500" in line for line in told)
