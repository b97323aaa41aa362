"""What a restore that fails leaves where its own clearing up fails too, as on a full disk: the reason is told, and the next restore begins with the rest."""

import contextlib

import pytest
from test_backup_command import cluster, command, settings  # noqa: F401  (fixtures)
from test_pitr_removal import conf  # noqa: F401  (a fixture)

from pitr import archive, jobs, recovery, removal, restore  # isort: skip
from pitr.jobs import PitrError  # isort: skip


@pytest.fixture
def database(command, settings, cluster, monkeypatch):  # noqa: F811
    """A cluster with databases, whose loads fail where `full`, and which then has no room to drop one either."""
    cluster.names, cluster.full, cluster.dropped = ["senex", "postgres"], True, []

    def sql(_settings, text, *_words, **_more):
        if "drop" in text and cluster.full:
            raise command.common.BackupError("the server is in recovery mode")
        if "drop" in text:
            cluster.dropped.append(text.split('"')[1])
        return "\n".join(cluster.names)

    def fill(*_):
        if cluster.full:
            raise command.common.BackupError("could not extend file: No space left on device")

    for attribute, function in (("sql", sql), ("rows", lambda *_: [[name] for name in cluster.names]), ("fill", fill), ("check", lambda *_: [])):
        monkeypatch.setattr(cluster.restore, attribute, function)
    monkeypatch.setattr(cluster.restore.around, "sql", sql)
    monkeypatch.setattr(cluster.restore.dump_file, "verify", lambda _path: None)
    monkeypatch.setattr(cluster.restore, "no_rights_gained", lambda *_: contextlib.nullcontext())
    return cluster


WANTED = {"dump": "x", "restored": "senex_restore_20261129070000", "database": "senex"}


def test_a_database_that_could_not_be_dropped_hides_no_reason(command, settings, database):  # noqa: F811
    with pytest.raises(command.common.BackupError, match="No space left on device"):
        database.restore.load(settings, WANTED)


def test_the_next_restore_of_a_dump_begins_with_what_the_last_one_left(settings, database):  # noqa: F811
    """At its full size, and nobody removed it."""
    database.full = False
    others = ["senex_before_restore_20261128070000", "senex_restore_mine", "other_restore_20261128070000", "xsenex_restore_20261128070000"]
    database.names += ["senex_restore_20261128070000", *others]
    database.restore.load(settings, WANTED)
    assert database.dropped == ["senex_restore_20261128070000"]


def test_a_copy_that_could_not_be_removed_hides_no_reason(conf, monkeypatch):  # noqa: F811
    def full(*_):
        raise PitrError("rsync: No space left on device")

    def nothing(*_):
        raise PitrError("podman cannot write its state")

    monkeypatch.setattr(restore, "podman", lambda *_, **__: None)
    monkeypatch.setattr(restore, "plan", lambda *_: type("Plan", (), {"lines": lambda _: [], "until": 1.0})())
    monkeypatch.setattr(recovery, "fill", full)
    monkeypatch.setattr(removal, "remove", nothing)
    with pytest.raises(PitrError, match="No space left on device"):
        restore.restore(conf, "latest", f"{conf.data}.elsewhere")


def test_a_new_chain_that_cannot_begin_leaves_the_receiver_running(conf, monkeypatch):  # noqa: F811
    """It was stopped for the slot to be dropped, and nobody started it again."""
    told = []

    def query(*_, **__):
        raise PitrError("the database does not answer")

    monkeypatch.setattr(archive, "systemctl", lambda *words, **_: told.append(words))
    monkeypatch.setattr(archive.database, "podman", query)
    with pytest.raises(PitrError, match="does not answer"):
        archive.reset(conf)
    assert told == [("stop", "pitr-receive.service"), ("start", "pitr-receive.service")]


def test_the_second_of_two_who_begin_a_new_chain_is_told_so(conf, monkeypatch):  # noqa: F811
    """It was `Job for pitr-receive.service canceled`."""
    monkeypatch.setattr(archive, "systemctl", lambda *_, **__: pytest.fail("the receiver is the other one's"))
    with jobs.alone(conf, "reset"), pytest.raises(PitrError, match="reset is running already; wait for its end"):
        archive.reset(conf)
