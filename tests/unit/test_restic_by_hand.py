"""`senex backup restic forget`: of whom is said, for one repository has the copies of several machines, and of lost ones."""

import os

import pytest
from test_backup_command import command, settings  # noqa: F401  (the fixtures)


@pytest.fixture
def called(command, settings, monkeypatch):  # noqa: F811
    """What restic was called with."""
    from senex_backup import dead_locks, offsite

    found = []
    monkeypatch.setattr(offsite, "reachable", lambda _settings: None)
    monkeypatch.setattr(offsite, "environment", lambda _settings: {})
    monkeypatch.setattr(dead_locks, "held", lambda _settings: os.dup(0))
    monkeypatch.setattr(os, "chdir", lambda _path: None)
    monkeypatch.setattr(os, "execve", lambda _program, words, _environment: found.append(words[3:]))
    return lambda *words: found.clear() or offsite.passthrough(settings, list(words)) or found


@pytest.mark.parametrize(
    "words", ["forget --keep-last 1 --prune", "forget --prune --keep-daily 7 --keep-weekly=4", "--no-cache forget --keep-last 1", "forget"]
)
def test_old_copies_of_everybody_stay(called, command, words):  # noqa: F811
    with pytest.raises(command.common.BackupError, match="removes old copies of all machines in the repository"):
        called(*words.split())


@pytest.mark.parametrize(
    "words",
    ["forget --tag machine-0123 --keep-last 1 --prune", "forget 0123abcd", "forget --host=production --keep-last 3", "forget --keep-last 1 --dry-run",
     "forget --keep-last 1 -n", "snapshots", "find forgetful", "forget --help"],
)  # fmt: skip
def test_what_is_named_may_go_and_the_rest_is_restics_own(called, words):
    assert called(*words.split()) == [words.split()]
