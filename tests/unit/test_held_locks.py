"""A repository that somebody of another host has locked: a living restic is waited for, a dead one is told of, with the way out."""

import functools
import json
import types

import pytest
from test_backup_command import command  # noqa: F401  (the fixture)

# As restic does it: the lock of another host counts for half an hour, and a living one renews it under another name
STAND_IN = r"""#!/bin/bash
cd "$RESTIC_REPOSITORY"
while [[ $1 == --* ]]; do shift 2; done
case $1 in
list) ls locks ;;
cat) command cat "locks/$3" ;;
backup)
    echo >>attempts
    [[ -e act ]] && . ./act
    if grep -qs '"exclusive": true' locks/*; then echo "unable to create lock: repository is already locked exclusively" >&2; exit $(command cat code); fi
    echo '{"message_type": "summary", "snapshot_id": "1", "total_bytes_processed": 1, "data_added": 1}' ;;
esac
"""
LOCK = {"time": "2026-11-29T19:01:02.123456789Z", "exclusive": True, "hostname": "db-2", "username": "senex", "pid": 812, "uid": 987, "gid": 987}


@pytest.fixture
def repository(command, tmp_path, monkeypatch):  # noqa: F811
    """A host's settings, and what it sends to. Each attempt takes as long as restic waits for a lock, by a clock that does not run otherwise."""
    from senex_backup import held_locks, offsite

    program, place = tmp_path / "stand-in", tmp_path / "repository"
    program.write_text(STAND_IN, encoding="utf-8")
    program.chmod(0o755)
    (place / "locks").mkdir(parents=True)
    (place / "code").write_text("11")
    (tmp_path / "config/backup").mkdir(parents=True)
    (tmp_path / "backups/barman").mkdir(parents=True)
    given = {"user": "senex", "offsite": {"host": "production", "repository": str(place)}, "jobs": {}}
    (tmp_path / "config/backup/settings.json").write_text(json.dumps(given), encoding="utf-8")

    def attempts():
        return (place / "attempts").read_text().count("\n") if (place / "attempts").exists() else 0

    monkeypatch.setattr(offsite, "RESTIC", str(program))
    monkeypatch.setattr(offsite, "reachable", lambda _settings: None)
    monkeypatch.setattr(offsite, "machine", lambda: "0")
    monkeypatch.setattr(held_locks, "Wait", functools.partial(held_locks.Wait, clock=lambda: attempts() * offsite.LOOK))
    return types.SimpleNamespace(
        settings=command.common.Settings(str(tmp_path)), place=place, locks=place / "locks", offsite=offsite, held_locks=held_locks, attempts=attempts,
        error=command.common.BackupError, backup=lambda: offsite.backup(command.common.Settings(str(tmp_path)), ["senex"], "barman"),
    )  # fmt: skip


@pytest.mark.parametrize("code", ["11", "1"], ids=["restic", "restic before 0.17"])
def test_a_dead_one_is_told_of_after_minutes(repository, code):
    (repository.place / "code").write_text(code)
    (repository.locks / "aaaa").write_text(json.dumps(LOCK))
    with pytest.raises(repository.error) as caught:
        repository.backup()
    said = str(caught.value)
    assert "restic (process 812) of host db-2" in said and "last renewed 19:01:02 UTC" in said and "after 19:31 UTC" in said
    assert said.endswith("senex backup restic unlock --remove-all")
    assert 10 <= repository.attempts() * repository.offsite.LOOK / 60 < 16
    assert (repository.locks / "aaaa").exists(), "it may be a machine that slept: whoever knows it ends its lock"


def test_a_living_one_is_waited_for(repository, capsys):
    (repository.locks / "a").write_text(json.dumps(LOCK))
    # Longer than a dead one's lock would be waited for; renewed every 6 minutes
    (repository.place / "act").write_text("n=$(grep -c ^ attempts)\n(( n % 3 )) || mv locks/* locks/$n\n(( n < 20 )) || rm -f locks/*\n")
    assert repository.backup()["snapshot_id"] == "1"
    assert repository.attempts() == 20
    assert capsys.readouterr().out.count("restic (process 812) of host db-2 has locked the repository exclusively") == 1


def test_one_that_never_ends_is_not_waited_for_for_ever(repository):
    (repository.locks / "a").write_text(json.dumps(LOCK))
    (repository.place / "act").write_text("mv locks/* locks/$(grep -c ^ attempts)\n")
    with pytest.raises(repository.error, match="already locked exclusively"):
        repository.backup()
    assert repository.attempts() * repository.offsite.LOOK == repository.offsite.LOCKED


def test_a_dead_one_that_nobody_waits_for_is_not_told_of(repository):
    (repository.locks / "shared").write_text(json.dumps({**LOCK, "exclusive": False, "hostname": "web-1"}))
    (repository.locks / "a").write_text(json.dumps(LOCK))
    (repository.place / "act").write_text("n=$(grep -c ^ attempts)\nmv locks/[a0-9]* locks/$n\n(( n < 9 )) || rm -f locks/$n\n")
    assert repository.backup()["snapshot_id"] == "1"


def test_what_is_no_lock_is_passed_over(repository):
    (repository.locks / "a").write_text("{")
    (repository.place / "act").write_text("rm -f locks/b; (( $(grep -c ^ attempts) < 9 )) && echo '\"exclusive\": true' >locks/b\n")
    assert repository.backup()["snapshot_id"] == "1"


def test_a_person_is_told_by_restic_within_minutes(repository):
    words = repository.offsite.command(repository.settings, "snapshots", patience=repository.offsite.BY_HAND)
    assert words[1:3] == ["--retry-lock", "5m"]
