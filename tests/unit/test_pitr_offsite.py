"""The archive of a lost host: beside this host's own, in its place, and out of it again; and when a first base backup is due."""

import json
import pathlib
import sys
import time
from types import SimpleNamespace

import pytest

FILES = pathlib.Path(__file__).parents[2] / "roles/pitr/files"
sys.path.insert(0, str(FILES))

from pitr import archive, jobs, offsite, programs  # noqa: E402  (the path above must come first)
from pitr.jobs import PitrError  # noqa: E402
from pitr.settings import Settings  # noqa: E402


@pytest.fixture
def conf(tmp_path):
    """A host with an archive of its own, and one that was fetched."""
    names = ("unit", "container", "image", "database", "superuser", "owner", "archive_role", "data", "sockets", "drill_directory")
    numbers = ("container_uid", "base_max_age", "wal_max_age", "wal_max_lag", "drill_max_age", "recovery_timeout")
    more = {"archive": f"{tmp_path}/barman", "status": f"{tmp_path}/status", "server": "main", "drill_columns": []}
    found = Settings(home=str(tmp_path), **dict.fromkeys(names, f"{tmp_path}/x"), **dict.fromkeys(numbers, 1), **more)
    for place, text in (("barman/main", "empty"), ("barman.fetched/main", "lost")):
        (tmp_path / place / "base").mkdir(parents=True)
        (tmp_path / place / "identity").write_text(text, encoding="utf-8")
    (tmp_path / "barman.fetched/barman.conf").touch()
    pathlib.Path(offsite.note(found)).write_text(json.dumps({"machine": "m1", "copy": "c", "ids": [], "until": ""}), encoding="utf-8")
    return found


def test_a_fetched_archive_takes_the_place_of_the_own_and_leaves_it(conf, monkeypatch, tmp_path):
    told = []
    monkeypatch.setattr(offsite, "backup", lambda _settings, *words: told.append(words))
    monkeypatch.setattr(offsite.removal, "as_container_user", lambda _settings, *words: offsite.removal.owned.main(words[-1:]))
    (tmp_path / "barman.fetched" / offsite.removal.MARK).touch()
    (tmp_path / "barman/kept/15-T0/main").mkdir(parents=True)
    offsite.put_in_place(conf, "T1")
    assert (tmp_path / "barman/kept/15-T0/main").is_dir(), "what an upgrade keeps is looked for there by its way back"
    assert (tmp_path / "barman/main/identity").read_text() == "lost" and (tmp_path / "barman.before-restore-T1/main/identity").read_text() == "empty"
    assert told == [("taken-over", "m1")]
    assert not list(tmp_path.glob("barman.fetched*")) and not (tmp_path / "barman/barman.conf").exists()
    assert not (tmp_path / "barman" / offsite.removal.MARK).exists(), "what is in use is not to be removed"
    offsite.put_back(conf, "T1", "T2")
    assert (tmp_path / "barman/kept/15-T0/main").is_dir()
    assert (tmp_path / "barman/main/identity").read_text() == "empty" and (tmp_path / "barman.before-restore-T2/main/identity").read_text() == "lost"
    offsite.put_back(conf, "T0", "T3")  # of a restore that fetched nothing
    assert (tmp_path / "barman/main/identity").read_text() == "empty"


def test_barman_reads_the_fetched_archive_by_a_configuration_of_its_own(conf, tmp_path):
    """The role's own stays as it is, even before the other is written."""
    offsite.removal.begin(conf, str(tmp_path / "barman.fetched.part"))
    (tmp_path / "barman.fetched").rename(tmp_path / "barman.fetched.part/barman")
    role = pathlib.Path(conf.barman)
    role.parent.mkdir(parents=True)
    role.write_text(f"[barman]\nbarman_home = {conf.archive}\n", encoding="utf-8")
    found = offsite.settle(conf)
    assert pathlib.Path(found.barman).read_text() == f"[barman]\nbarman_home = {conf.archive}.fetched\n"
    assert role.read_text() == f"[barman]\nbarman_home = {conf.archive}\n"


def test_without_role_backup_there_is_nothing_to_fetch_from(conf, tmp_path):
    (tmp_path / "barman.fetched").rename(tmp_path / "elsewhere")
    with pytest.raises(PitrError, match="role backup is not here"):
        offsite.look(conf, "latest")


@pytest.mark.parametrize(
    ("status", "listed", "whole", "due"),
    [
        (None, [], [], True),
        ({"result": "never"}, [], [], True),
        ({"result": "ok"}, ["B"], ["B"], False),
        ({"result": "ok"}, [], [], True),  # the archive was moved away
        ({"result": "failed", "finished": 60}, ["B"], [], False),
        ({"result": "failed", "finished": 3600}, ["B"], [], True),
        ({"result": "failed", "finished": 3600}, ["A", "B"], ["A"], False),  # the hour of the timer is soon enough
    ],
)
def test_when_a_first_base_backup_is_due(conf, monkeypatch, tmp_path, status, listed, whole, due):
    begun = []
    monkeypatch.setattr(archive, "catalogue", lambda _settings: whole)
    monkeypatch.setattr(archive, "systemctl", lambda *words: begun.append(words))
    for name in listed:
        (tmp_path / "barman/main/base" / name).mkdir()
    if status:
        if "finished" in status:
            status = {**status, "finished": jobs.iso(time.time() - status["finished"])}
        jobs.write(conf, "base", **status)
    archive.begin_chain(conf)
    assert begun == ([("start", "--no-block", "pitr-base.service")] if due else [])


def test_no_second_one_is_begun_while_the_first_is_taken(conf, monkeypatch):
    begun = []
    monkeypatch.setattr(archive, "catalogue", lambda _settings: [])
    monkeypatch.setattr(archive, "systemctl", lambda *words: begun.append(words))
    with jobs.alone(conf, "base"):
        archive.begin_chain(conf)
    assert begun == []
    archive.begin_chain(conf)
    assert len(begun) == 1


@pytest.mark.parametrize(
    ("status", "since", "due", "told"),
    [
        ({"result": "ok", "timeline": 2}, 3600, False, False),
        ({"result": "ok"}, 3600, False, False),  # of a version that did not write it down
        ({"result": "ok", "timeline": 1}, 60, True, False),
        ({"result": "ok", "timeline": 1}, 3600, True, True),
        ({"result": "failed", "timeline": 1, "finished": 60}, 60, False, False),
        ({"result": "failed", "timeline": 1, "finished": 3600}, 3600, True, True),
    ],
)
def test_a_timeline_that_began_has_a_base_backup_of_its_own(conf, monkeypatch, tmp_path, status, since, due, told):
    """Whoever restored may have been killed before the one that belongs to it; the one of the timeline before does not help."""
    begun = []
    monkeypatch.setattr(archive, "catalogue", lambda _settings: ["B"])
    monkeypatch.setattr(archive, "systemctl", lambda *words: begun.append(words))
    (tmp_path / "barman/main/base/B").mkdir()
    if "finished" in status:
        status = {**status, "finished": jobs.iso(time.time() - status["finished"])}
    jobs.write(conf, "base", **status)
    on = {"timeline": 2, "since": jobs.iso(time.time() - since)}
    if told:
        with pytest.raises(PitrError, match="on timeline 2 since .* no base backup of it"):
            archive.begin_chain(conf, on)
    else:
        archive.begin_chain(conf, on)
    assert begun == ([("start", "--no-block", "pitr-base.service")] if due else [])


@pytest.mark.parametrize(("there", "timeline", "taken"), [(False, 1, 1), (True, 1, 0), (True, 2, 1)])
def test_a_first_base_backup_is_taken_once(conf, monkeypatch, there, timeline, taken):
    """For each timeline that runs."""
    there, made = [programs.Listed("20261121T033000", 1.0, 1)] if there else [], []
    monkeypatch.setattr(archive, "base", lambda _settings, _listed: SimpleNamespace(timeline=1))
    archive.wal.ran(conf, timeline, time.time())
    monkeypatch.setattr(archive, "catalogue", lambda _settings: there)
    monkeypatch.setattr(archive, "take_base", lambda _settings, _wait: made.append(1) or programs.Listed("new", 2.0, 1))
    assert archive.first_base(conf) == ("new" if taken else there[-1].name)
    assert len(made) == taken
