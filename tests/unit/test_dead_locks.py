"""Locks of a restic that was killed: they go before anything waits for them, those of living ones stay, and no other process is bothered."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from test_backup_command import command  # noqa: F401  (the fixture)

# As restic of Debian 13 does it: no lock is stale while a process of its number takes a SIGHUP, and whoever waits for one does not look again
STAND_IN = r"""#!/bin/bash
trap '' HUP
cd "$RESTIC_REPOSITORY"
while [[ $1 == --* ]]; do shift 2; done
case $1 in
cat) ! ls locks/exclusive* >/dev/null 2>&1 || [[ "$*" == *--no-lock* ]] || exec sleep 60 ;;
unlock) for lock in locks/*; do kill -HUP "$(cat "$lock")" 2>/dev/null || rm "$lock"; done ;;
live) echo $$ >locks/live; exec sleep 60 ;;
backup)
    if ls locks/exclusive* >/dev/null 2>&1; then
        [[ "$*" == *"--retry-lock 0s"* ]] || touch waited
        echo "repository is already locked exclusively" >&2; exit 11
    fi
    echo '{"message_type": "summary", "snapshot_id": "1", "total_bytes_processed": 1, "data_added": 1}' ;;
esac
"""
APART = ["/usr/bin/unshare", "--pid", "--fork", "--kill-child"]
apart = pytest.mark.skipif(subprocess.run([*APART, "true"], capture_output=True, check=False).returncode != 0, reason="no namespace of processes here")


@pytest.fixture
def repository(command, tmp_path, monkeypatch):  # noqa: F811
    """A host's settings, and what it sends to."""
    from senex_backup import dead_locks, offsite

    program, place = tmp_path / "stand-in", tmp_path / "repository"
    program.write_text(STAND_IN, encoding="utf-8")
    program.chmod(0o755)
    (place / "locks").mkdir(parents=True)
    (tmp_path / "config/backup").mkdir(parents=True)
    (tmp_path / "backups/barman").mkdir(parents=True)
    given = {"user": "senex", "offsite": {"host": "production", "repository": str(place)}, "jobs": {}}
    (tmp_path / "config/backup/settings.json").write_text(json.dumps(given), encoding="utf-8")
    monkeypatch.setattr(offsite, "RESTIC", str(program))
    monkeypatch.setattr(offsite, "reachable", lambda _settings: None)
    monkeypatch.setattr(offsite, "machine", lambda: "0")
    monkeypatch.setattr(offsite, "ANSWER", 10)
    monkeypatch.setattr(dead_locks, "PATIENCE", 0.3)
    monkeypatch.setattr(dead_locks, "by_hand", lambda: False)
    settings = command.common.Settings(str(tmp_path))
    return type("Repository", (), {"settings": settings, "place": place, "locks": place / "locks", "offsite": offsite, "dead_locks": dead_locks})


@pytest.fixture
def stranger():
    """A process that has the number of a restic of before the power cut."""
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


@apart
@pytest.mark.parametrize("kind", ["exclusive", "shared"])
def test_after_a_power_cut_nothing_waits_for_its_lock(repository, stranger, kind):
    (repository.locks / kind).write_text(str(stranger.pid))
    repository.offsite.send_wal(repository.settings)
    if kind == "shared":  # sending WAL does not mind those, and dropping old copies does
        repository.offsite.opened(repository.settings)
    assert not list(repository.locks.iterdir()) and not (repository.place / "waited").exists()
    time.sleep(0.1)
    assert stranger.poll() is None, "a process of others got a signal"


def begun(repository, how):
    """A restic that lives, though whoever started it was killed: by the command of a job, or by the one for people."""
    script = f"""
import sys
sys.path[:0] = {[path for path in sys.path if path]!r}
from senex_backup import common, offsite
offsite.RESTIC, offsite.reachable = {repository.offsite.RESTIC!r}, lambda settings: None
settings = common.Settings({repository.settings.home!r})
offsite.{how}
"""
    parent = subprocess.Popen([sys.executable, "-c", script])
    end = time.monotonic() + 20
    while not (repository.locks / "live").exists() or not (repository.locks / "live").read_text().strip():
        assert time.monotonic() < end and parent.poll() is None
        time.sleep(0.05)
    number = int((repository.locks / "live").read_text())
    if number != parent.pid:
        parent.kill()
        parent.wait()
    return number, parent


@pytest.mark.parametrize("how", ["restic(settings, 'live')", "passthrough(settings, ['live'])"])
def test_the_lock_of_a_living_one_stays(repository, how):
    number, parent = begun(repository, how)
    try:
        repository.offsite.unlock(repository.settings)
        assert (repository.locks / "live").exists()
        with repository.dead_locks.none_runs(repository.settings) as none_runs:
            assert not none_runs
    finally:
        os.kill(number, signal.SIGKILL)
        parent.wait()
    with repository.dead_locks.none_runs(repository.settings) as none_runs:
        assert none_runs
    repository.offsite.unlock(repository.settings)
    assert not (repository.locks / "live").exists()


def test_none_begins_meanwhile(repository):
    with repository.dead_locks.none_runs(repository.settings) as none_runs:
        assert none_runs
        with pytest.raises(subprocess.TimeoutExpired):
            subprocess.run(["flock", "--shared", f"{repository.settings.status}/.restic.lock", "true"], timeout=0.3, check=False)


def test_one_that_somebody_started_by_hand_is_seen(repository, command, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.undo()
    for number, name in enumerate(("systemd", "restic"), start=1):
        (tmp_path / f"proc/{number}").mkdir(parents=True)
        (tmp_path / f"proc/{number}/comm").write_text(f"{name}\n")
    assert repository.dead_locks.by_hand(str(tmp_path / "proc"))
    (tmp_path / "proc/2/comm").unlink()  # it ended
    assert not repository.dead_locks.by_hand(str(tmp_path / "proc"))
    monkeypatch.setattr(repository.dead_locks, "by_hand", lambda: True)
    with repository.dead_locks.none_runs(repository.settings) as none_runs:
        assert not none_runs


def test_where_no_namespace_may_be_made_restic_judges_as_ever(repository, monkeypatch, capsys):
    monkeypatch.setattr(repository.dead_locks, "APART", ("/usr/bin/false",))
    ended = subprocess.Popen(["true"])
    ended.wait()
    (repository.locks / "exclusive").write_text(str(ended.pid))
    repository.offsite.send_wal(repository.settings)
    assert not list(repository.locks.iterdir()) and "by the numbers of processes alone" in capsys.readouterr().out
