"""Copies on a disk of their own that is not mounted: neither a run nor a job takes what is left there for their place."""

import json
import os
import shutil
import sys
import types
from pathlib import Path

import pytest
from ansible_collections.senex.trader.plugins.action.quadlet import directory_of
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_work import ApplyError
from ansible_collections.senex.trader.plugins.module_utils.host import kept_data, owned
from rendered import ROLES, component, value
from test_kept_data import Component, empty, quiet_host  # noqa: F401
from test_rendered_units import BASE

ROOT = Path(__file__).parents[2]


def on(monkeypatch, devices):
    """File systems by path; what is not named is a disk of its own."""
    monkeypatch.setattr(kept_data.untrusted, "space", lambda paths: {path: {"device": devices.get(path, 2)} if os.path.isdir(path) else
                                                                     {"error": [2, "", path]} for path in paths})  # fmt: skip

    def stat(path):
        os.stat(path)  # or it is not there
        return types.SimpleNamespace(st_dev=devices.get(str(path), 2))

    monkeypatch.setattr(owned, "os", types.SimpleNamespace(stat=stat))


@pytest.mark.parametrize("kind", ["uploads", "copies"])
def test_a_run_refuses_a_place_that_is_not_mounted_though_a_job_has_written_there(tmp_path, monkeypatch, kind):
    devices = {"/": 1}
    on(monkeypatch, devices)
    world = Component(tmp_path, kind, "")
    world.run()
    world.fill()
    world.run()
    assert world.told().endswith("apart") and owned.unmounted(world.witness, world.data) == ""
    devices[world.data] = 1
    world.fill()
    with pytest.raises(ApplyError, match=r"is not on its own file system.* mount the disk .* -e begin_anew=true"):
        world.run()
    assert kept_data.gone(world.state) == [{"component": "component", "path": world.data}]
    assert "is not on its own file system" in owned.unmounted(world.witness, world.data)
    world.at(world.data, new="true")
    world.run()
    assert owned.unmounted(world.witness, world.data) == "", "moved on purpose"


def test_an_archive_that_an_older_run_has_noted_is_taken_and_known_by_its_disk_from_then_on(tmp_path, monkeypatch):
    on(monkeypatch, {"/": 1})
    world = Component(tmp_path, "files", "filled")
    world.run()
    world.fill()
    world.run()
    world.kind = "copies"
    world.at(world.data)
    world.run()
    assert kept_data.noted("component", world.state) == {world.data: "filled, apart"}
    empty(world.data)
    with pytest.raises(ApplyError, match="is missing or empty"):
        world.run()
    assert kept_data.gone(world.state)


def test_where_no_run_has_noted_a_disk_nothing_is_asked(tmp_path):
    assert owned.unmounted(str(tmp_path / "none"), str(tmp_path)) == ""
    (tmp_path / "had").write_text("here\n")
    assert owned.unmounted(str(tmp_path / "had"), str(tmp_path / "gone")) == ""
    (tmp_path / "had").write_text("filled, apart\n")
    assert owned.unmounted(str(tmp_path / "had"), str(tmp_path / "gone"))


@pytest.fixture
def backup(tmp_path_factory, monkeypatch):
    place = tmp_path_factory.mktemp("lib")
    shutil.copytree(ROOT / "roles/backup/files/senex_backup", place / "senex_backup", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "plugins/module_utils/postgresql", place / "senex_backup/postgresql", ignore=shutil.ignore_patterns("__pycache__"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "senex_backup"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(place))
    from senex_backup import common

    yield common
    for name in [name for name in sys.modules if name.partition(".")[0] == "senex_backup"]:
        del sys.modules[name]


@pytest.mark.parametrize(("job", "place"), [
    ("dump", "postgresql"), ("dump", ""), ("redis", "redis"), ("media", "media"), ("media", "data/media"), ("offsite", "postgresql"), ("offsite", "media"),
    ("offsite-wal", ""), ("offsite-wal", "barman"), ("offsite", "barman"),
])  # fmt: skip
def test_no_job_writes_sends_or_thins_out_where_the_disk_is_not(backup, tmp_path, job, place):
    """Without a mount point at all, which looks as one that is not mounted."""
    (tmp_path / "config/backup").mkdir(parents=True)
    for name in ("django", "pitr"):
        (tmp_path / "config" / name).mkdir()
    given = {"user": "senex", "media": {"directory": "data/media"}, "jobs": {job: {"max_age": 60}}}
    (tmp_path / "config/backup/settings.json").write_text(json.dumps(given))
    settings = backup.Settings(str(tmp_path))
    for name in ("postgresql", "redis", "media", "barman"):
        settings.directory(name)
    (tmp_path / "data/media").mkdir(parents=True)
    same = os.stat(tmp_path).st_dev == os.stat("/").st_dev
    if not same:
        pytest.skip("the place of tests is a file system of its own")
    assert backup.run(settings, job, dict, 0)["seconds"] >= 0
    others = {"data/media": "config/django/uploads", "barman": "config/pitr/place"}
    witness = tmp_path / others.get(place, f"config/backup/place{place and '-' + place}")
    witness.write_text("apart\n")
    done = []
    with pytest.raises(backup.BackupError, match="is not on its own file system, as it was: mount its disk"):
        backup.run(settings, job, lambda: done.append(1) or {}, 0)
    assert not done and backup.read_status(settings, job)["result"] == "failed"


def test_what_a_run_notes_is_what_jobs_ask_for():
    """Of each place with copies, the same on every host; and of uploads, whose copy would be of nothing."""
    witnesses = [item["data"]["witness"] for item in value("backup", "__backup_directories", **BASE)]
    assert witnesses == [f"config/backup/place{name}" for name in ("", "-postgresql", "-redis", "-media")]
    common = (ROLES / "backup/files/senex_backup/common.py").read_text()
    assert "config/django/uploads" in common and "config/django/uploads" in (ROLES / "django/vars/main.yml").read_text()
    text = (ROLES / "pitr/files/pitr/jobs.py").read_text()
    assert "config/pitr/place" in text and "witness: config/pitr/place" in (ROLES / "pitr/tasks/main.yml").read_text()
    assert component("backup", **BASE)


def test_no_wal_and_no_base_backup_goes_to_an_archive_whose_disk_is_not_there(tmp_path):
    from pitr import jobs

    (tmp_path / "config/pitr").mkdir(parents=True)
    (tmp_path / "config/pitr/place").write_text("filled, apart\n")
    ages = dict.fromkeys(("base_max_age", "wal_max_age", "drill_max_age"), 9)
    conf = types.SimpleNamespace(home=str(tmp_path), archive=str(tmp_path / "gone"), status=str(tmp_path / "status"), **ages)
    for job in ("base", "wal"):
        with pytest.raises(jobs.PitrError, match="mount its disk"), jobs.run(conf, job):
            pytest.fail("it began")
        assert jobs.read(conf, job)["result"] == "failed"


def test_the_directories_of_copies_are_handed_over_with_their_notes():
    for said in (False, "true"):
        found = value("backup", "__backup_directories", **BASE, backup_new_place=said)
        items = [directory_of(item, "/home/senex") for item in found]
        assert [item["path"] for item in items] == [f"/home/senex/backups{name}" for name in ("", "/postgresql", "/redis", "/media")]
        notes = [item["data"]["witness"].removeprefix("/home/senex/config/backup/") for item in items]
        assert notes == ["place", "place-postgresql", "place-redis", "place-media"]
        assert all(item["data"]["new"] is bool(said) and item["data"]["kind"] in kept_data.LOOKS for item in items)
