"""Which copy off the host is the newest of this database: one that took a machine's place by hand is asked, and a clock that was ahead decides nothing."""

import datetime
import time
from pathlib import Path

import pytest
from test_backup_command import bucket, command, settings, snapshot  # noqa: F401  (fixtures)


def at(number, days, sent_by, *tags):
    """A copy of so many days ago."""
    when = datetime.datetime.fromtimestamp(time.time() - days * 86400, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {**snapshot(number, sent_by, *tags), "time": when}


def test_one_that_took_a_place_by_hand_is_asked(command, settings, bucket):  # noqa: F811
    """It was given the copy of the machine before, of last year."""
    bucket += [at(1, 400, "lost", "senex", "dump"), at(2, 300, "new", "senex", "dump"), at(3, 0, "new", "senex", "dump")]
    with pytest.raises(command.common.BackupError, match=r"copies of several machines .*11111111 .*\(machine lost\); 33333333 .*\(machine new\)"):
        command.fetch.chosen(settings, "latest", "dump")
    assert command.fetch.chosen(settings, "machine-new", "dump")[0]["id"][0] == "3"


def test_a_new_machine_that_has_sent_for_some_hours_is_not(command, settings, bucket):  # noqa: F811
    bucket += [at(1, 2, "lost", "senex", "dump"), at(2, 1, "new", "senex", "dump"), at(3, 0, "new", "senex", "dump")]
    assert command.fetch.chosen(settings, "latest", "dump")[0]["id"][0] == "1"


def test_who_took_the_place_of_a_database_has_no_uploads_yet(command, settings, bucket):  # noqa: F811
    """Its own copy, of some hours after the restore, holds none; so does the one of Redis."""
    bucket += [at(1, 2, "lost", "senex", "dump", "media"), at(2, 0, "new", "senex", "dump", "media")]
    command.fetch.take_over(settings, "lost", "postgresql")
    assert command.fetch.chosen(settings, "latest", "dump")[0]["id"][0] == "2"
    for places in (["media"], ["redis"], command.fetch.places()):
        assert command.fetch.chosen(settings, "latest", "dump", places)[0]["id"][0] == "1", places
    command.fetch.take_over(settings, "lost", "media")
    assert command.fetch.chosen(settings, "latest", "dump", ["media"])[0]["id"][0] == "2"
    assert command.fetch.chosen(settings, "latest", "dump", ["redis"])[0]["id"][0] == "1"


def test_what_an_earlier_version_noted_holds(command, settings, bucket):  # noqa: F811
    bucket += [at(1, 2, "lost", "senex", "dump", "media"), at(2, 0, "new", "senex", "dump", "media")]
    command.fetch.replace_json(command.fetch.state(settings, "taken-over.json"), {"lost": True})
    command.fetch.take_over(settings, "lost", "media")
    for places in (["postgresql"], ["media"], ["redis"]):
        assert command.fetch.chosen(settings, "latest", "dump", places)[0]["id"][0] == "2"


def test_wal_of_the_future_is_older_than_it_says(command, settings, bucket):  # noqa: F811
    """It would take the place of the segments that came later."""
    bucket += [at(1, 2, "lost", "senex", "dump"), at(2, 1, "lost", "senex-wal"), at(3, -3000, "lost", "senex-wal")]
    assert command.fetch.chosen(settings, "latest", "dump")[1]["id"][0] == "2"
    bucket[0] = at(1, -4000, "lost", "senex", "dump")
    found, wal = command.fetch.chosen(settings, "1111", "dump")
    assert (found["id"][0], wal) == ("1", None)


@pytest.mark.parametrize("kind", ["dump", "redis", "media"])
def test_what_came_from_a_host_whose_clock_was_ahead(command, tmp_path, kind):  # noqa: F811
    names = {"dump": "daily-{}.sql.gz", "redis": "redis-{}.rdb", "media": "media-{}"}
    there = [names[kind].format(when) for when in ("2026-11-20-020000", "2036-11-20-020000", "2026-11-21-020000")]
    for name in there:
        (tmp_path / name).mkdir()
    assert command.fetch.newest_of(str(tmp_path), *command.fetch.listed()[kind][1:]) == there[2]
    assert command.fetch.newest_of(str(tmp_path / "none"), *command.fetch.listed()[kind][1:]) is None


@pytest.fixture
def storage(command, settings, bucket, monkeypatch):  # noqa: F811
    """A bucket whose copy holds a dump and a directory that nobody asked for."""
    bucket.append(at(1, 1, "lost", "senex", "dump"))
    monkeypatch.setattr(command.fetch, "opened", lambda *_, **__: None)

    def bring(_settings, _snapshot, _only, target):
        for path in ("postgresql/daily-2026-11-20-020000.sql.gz", "other/x"):
            place = Path(target, path)
            place.parent.mkdir()
            place.write_text("theirs", encoding="utf-8")

    monkeypatch.setattr(command.fetch, "bring", bring)
    return Path(settings.backups)


@pytest.mark.parametrize("left", [None, "of before", "of now"])
def test_a_fetch_leaves_nothing_and_takes_what_a_killed_one_left(command, settings, storage, left):  # noqa: F811
    incoming = storage / "incoming"
    if left:
        (incoming / "redis").mkdir(parents=True)
    if left == "of now":
        command.fetch.owned.mark(str(incoming))
    command.fetch.fetch(settings, "latest", ["postgresql"])
    assert sorted(path.name for path in storage.iterdir()) == ["postgresql"] and (storage / "postgresql/daily-2026-11-20-020000.sql.gz").exists()


def test_a_directory_of_somebody_elses_is_in_the_way(command, settings, storage):  # noqa: F811
    """One of that name went, whatever was in it."""
    (storage / "incoming/mail").mkdir(parents=True)
    with pytest.raises(OSError, match="incoming was not made by this program, and is not removed: move it away"):
        command.fetch.fetch(settings, "latest", ["postgresql"])
    assert (storage / "incoming/mail").is_dir()


def by(name, copy, *tags):
    """The same copy, sent by a host of this name."""
    return {**copy, "tags": [*(tag for tag in copy["tags"] if not tag.startswith("on-")), f"on-{name}", *tags]}


@pytest.fixture
def alike(bucket):  # noqa: F811
    """A clone of the lost host lives on, and sends to the same bucket under the same machine id."""
    bucket += [by("db", at(1, 3, "lost", "senex", "dump")), by("db", at(2, 2, "lost", "senex-wal")), by("clone", at(3, 1, "lost", "senex", "dump")),
               by("clone", at(4, 0, "lost", "senex-wal"))]  # fmt: skip
    return bucket


@pytest.mark.parametrize("wanted", ["latest", "machine-lost"])
def test_a_machine_id_names_no_clone_for_the_other(command, settings, alike, wanted):  # noqa: F811
    """The newest copy of either was taken where the id was named."""
    with pytest.raises(command.common.BackupError, match=r"name one \(restore_copy=machine-ID, on-NAME, .* by db \(machine lost\).* by clone \(machine lost\)"):
        command.fetch.chosen(settings, wanted, "dump")
    for name, ids in (("db", "12"), ("clone", "34")):
        found, wal = command.fetch.chosen(settings, f"on-{name}", "dump")
        assert found["id"][0] + wal["id"][0] == ids


def test_a_new_host_that_is_a_clone_itself_does_not_take_its_own_empty_database(command, settings, alike, monkeypatch):  # noqa: F811
    """All machine ids are one: its own copy, sent an hour after its first start, was the newest."""
    monkeypatch.setattr(command.fetch, "machine", lambda: "lost")
    monkeypatch.setattr(command.fetch.socket, "gethostname", lambda: "new")
    alike.append(by("new", at(5, 0, "lost", "senex", "dump")))
    with pytest.raises(command.common.BackupError, match=r" by db \(machine lost\).* by clone \(machine lost\).* by new \(machine lost\)"):
        command.fetch.chosen(settings, "latest", "dump")
    assert command.fetch.chosen(settings, "on-db", "dump")[0]["id"][0] == "1"
    assert command.fetch.chosen(settings, "own", "dump")[0]["id"][0] == "5"


def test_clones_of_one_name_are_told_apart_by_their_clusters(command, settings, bucket):  # noqa: F811
    bucket += [by("db", at(number, 9 - number, "lost", "senex", "dump"), f"cluster-{number % 2 + 7}") for number in range(1, 5)]
    with pytest.raises(command.common.BackupError, match=r"33333333 .*, cluster 8\); 44444444 .*, cluster 7\)"):
        command.fetch.chosen(settings, "on-db", "dump")
    assert command.fetch.chosen(settings, "cluster-8", "dump")[0]["id"][0] == "3"


def test_a_machine_whose_cluster_is_another_since_an_upgrade_is_one(command, settings, bucket):  # noqa: F811
    """In between a copy has both: the dump of the one, the archive of the other."""
    clusters = {1: ["7"], 2: ["7", "8"], 3: ["8"], 4: []}
    bucket += [by("db", at(number, 9 - number, "lost", "senex", "dump"), *(f"cluster-{one}" for one in of)) for number, of in clusters.items()]
    assert command.fetch.chosen(settings, "latest", "dump")[0]["id"][0] == "4"
