"""Base backups that are not whole: what failed or was killed does not stay at its full size, what is damaged is nobody's choice."""

import json
import os
import pathlib
import subprocess
import sys
import types

import pytest

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "roles/pitr/files"))

from pitr import archive, jobs, offsite, plan, programs, recovery  # noqa: E402  (the path above must come first)
from pitr.jobs import PitrError, Unverified  # noqa: E402
from test_pitr_removal import conf  # noqa: E402, F401  (a fixture)


@pytest.fixture
def barman(conf, monkeypatch):  # noqa: F811
    """A Barman that has base backups by name and status, and knows what it was told."""

    class Barman:
        settings, told, fails, busy = conf, [], False, False

        def there(self):
            return {name: open(os.path.join(conf.barman_server, "base", name, "status"), encoding="ascii").read() for name in sorted(os.listdir(self.place))}

        def put(self, name, status):
            os.makedirs(os.path.join(self.place, name, "data"), exist_ok=True)
            with open(os.path.join(self.place, name, "status"), "w", encoding="ascii") as handle:
                handle.write(status)

        def __call__(self, _settings, *words, check=True, **_):
            self.told.append(words)
            code, said = 0, ""
            if "list-backups" in words:
                rows = [{"backup_id": name, "status": status, "end_time_timestamp": "1", "size_bytes": 7} for name, status in self.there().items()]
                said = json.dumps({"main": rows})
            elif words[0] == "backup":
                self.put(f"2026112{len(self.there())}T033000", "FAILED" if self.fails else "DONE")
                code = int(self.fails)
            elif words[0] == "delete":
                code = int(self.busy)
                if not self.busy:
                    subprocess.run(["rm", "-r", os.path.join(self.place, words[2])], check=True)
            if check and code:
                raise PitrError("barman backup: no space left")
            return subprocess.CompletedProcess(words, code, said, "ERROR: another action is in progress" if code else "")

    made = Barman()
    made.place = os.path.join(conf.barman_server, "base")
    os.unlink(os.path.join(made.place, "canary"))
    for module in (archive, programs, recovery):
        monkeypatch.setattr(module, "barman", made)
    for name in ("check_versions", "check_cluster", "_first_wal", "_last_wal"):
        monkeypatch.setattr(archive, name, lambda _settings: None)
    monkeypatch.setattr(archive, "_receiver_trouble", lambda *_, **__: None)
    monkeypatch.setattr(archive, "query", lambda *_, **__: [["1"]])
    monkeypatch.setattr(archive, "base", lambda _settings, item: programs.Base(item.name, "/x", 1, "0" * 24, item.end_time, 1, item.bytes))
    monkeypatch.setattr(recovery, "verify_base", lambda *_: None)
    monkeypatch.setattr(archive, "plan", lambda *_: (_ for _ in ()).throw(PitrError("nothing to restore")))
    return made


@pytest.mark.parametrize("status", programs.NEVER_WHOLE)
def test_what_a_killed_one_left_goes_before_the_next(barman, monkeypatch, status):
    """Before there is looked for room, which it takes."""
    barman.put("20261119T033000", "DONE")
    barman.put("20261120T033000", status)
    monkeypatch.setattr(archive, "check_space", lambda *_: pytest.fail("still there") if "20261120T033000" in barman.there() else None)
    archive.take_base(barman.settings)
    assert set(barman.there().values()) == {"DONE"} and "20261119T033000" in barman.there()


def test_one_that_fails_does_not_stay(barman):
    """A full disk is PostgreSQL's end."""
    barman.put("20261119T033000", "DONE")
    barman.fails = True
    with pytest.raises(PitrError, match="no space left"):
        archive.take_base(barman.settings)
    assert list(barman.there()) == ["20261119T033000"] and jobs.read(barman.settings, "base")["result"] == "failed"


def test_the_minutely_job_removes_it_and_asks_barman_only_when_there_is_something(barman):
    barman.put("20261119T033000", "DONE")
    jobs.write(barman.settings, "base", result="ok", what="20261119T033000")
    archive.clear_up(barman.settings)
    assert barman.told == []
    barman.put("20261120T033000", "STARTED")
    with jobs.alone(barman.settings, "base"):  # it is being taken
        archive.clear_up(barman.settings)
    assert barman.told == [] and len(barman.there()) == 2
    archive.clear_up(barman.settings)
    assert list(barman.there()) == ["20261119T033000"]


@pytest.mark.parametrize("status", ["WAITING_FOR_WALS", "DONE", "SYNCING"])
def test_what_is_whole_or_becomes_so_stays(barman, status):
    barman.put("20261120T033000", status)
    archive.sweep(barman.settings)
    assert list(barman.there()) == ["20261120T033000"]


def test_one_that_barman_keeps_is_said_and_no_failure(barman, capsys):
    barman.put("20261118T033000", "FAILED")
    barman.busy = True
    archive.take_base(barman.settings)
    assert "20261118T033000 is not whole, and stays: ERROR: another action is in progress" in capsys.readouterr().out


def test_a_damaged_one_is_passed_over_told_and_goes_with_the_next_good_one(barman, monkeypatch):
    """It used to stay the newest that is whole, and so the next restore's choice."""
    barman.put("20261119T033000", "DONE")
    with monkeypatch.context() as patch, pytest.raises(PitrError, match="is damaged"):
        patch.setattr(recovery, "verify_base", lambda *_: (_ for _ in ()).throw(PitrError("base backup B is damaged")))
        archive.take_base(barman.settings)
    bad = sorted(barman.there())[-1]
    assert programs.damaged(barman.settings) == [bad]
    monkeypatch.setattr(programs, "base", archive.base)
    assert plan.choose(barman.settings, "latest")[1].name == "20261119T033000"
    monkeypatch.setattr(archive, "_check_chain", lambda _settings: None)
    assert [line for line in archive.check(barman.settings) if f"{bad} was damaged when it was taken" in line]
    archive.take_base(barman.settings)
    assert bad not in barman.there() and archive.check(barman.settings) == [] and len(barman.there()) == 2


def test_one_whose_files_somebody_removed_is_passed_over_told_and_goes_with_the_next_good_one(barman, monkeypatch):
    """Barman lists it by its catalogue. It used to be the next restore's choice, and the check found nothing wrong."""
    barman.put("20261118T033000", "DONE")
    barman.put("20261119T033000", "DONE")
    os.rmdir(os.path.join(barman.place, "20261119T033000", "data"))
    assert programs.gone(barman.settings) == ["20261119T033000"]
    monkeypatch.setattr(programs, "base", archive.base)
    assert plan.choose(barman.settings, "latest")[1].name == "20261118T033000"
    monkeypatch.setattr(archive, "_check_chain", lambda _settings: None)
    assert [line for line in archive.check(barman.settings) if "20261119T033000 is in the catalogue, and its files" in line and "'pitr base'" in line]
    found = offsite.fetched(barman.settings)
    assert programs.gone(found) == [], "of a fetched archive the catalogue comes first, alone"
    archive.take_base(barman.settings)
    assert "20261119T033000" not in barman.there() and archive.check(barman.settings) == [] and len(barman.there()) == 2


def test_one_that_could_not_be_verified_is_not_condemned(barman, monkeypatch):
    monkeypatch.setattr(recovery, "verify_base", lambda *_: (_ for _ in ()).throw(Unverified("pg_verifybackup could not be run")))
    with pytest.raises(Unverified):
        archive.take_base(barman.settings)
    assert programs.damaged(barman.settings) == [] and len(programs.catalogue(barman.settings)) == 1


def test_a_restore_says_how_another_is_taken(barman, monkeypatch):
    monkeypatch.setattr(recovery, "check_space", lambda *_: None)
    monkeypatch.setattr(recovery.wal, "copy_history", lambda *_: None)
    monkeypatch.setattr(recovery.wal, "read_records", lambda *_: recovery.wal.Reading())
    monkeypatch.setattr(recovery, "verify_base", lambda *_: (_ for _ in ()).throw(PitrError("base backup B is damaged")))
    wanted = plan.Plan(None, programs.Base("B", "/x", 1, "0" * 24, 1.0, 1, 7), [])
    with pytest.raises(PitrError, match=r"B is damaged; --base \(restore_base\) takes another"):
        recovery.fill(barman.settings, wanted, f"{barman.settings.home}/data/postgres.restored")


@pytest.mark.parametrize("name", ["restore_plan", "restore_prepare"])
def test_the_playbook_hands_the_name_over(name):
    text = (ROOT / f"roles/pitr/tasks/{name}.yml").read_text(encoding="utf-8")
    asked = text[text.index("restore_to | string] + (['--fetched']") :]
    assert "+ (['--base', restore_base | string] if restore_base is defined else [])" in asked.partition("register:")[0]


def test_an_archive_may_be_called_what_it_likes(tmp_path):
    """Brackets are a pattern to whoever looks for the mark of a damaged one below it."""
    where = types.SimpleNamespace(barman_server=str(tmp_path / "[main]"))
    programs.condemn(where, "20261120T033000")
    assert programs.damaged(where) == ["20261120T033000"]
