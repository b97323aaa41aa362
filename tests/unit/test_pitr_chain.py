"""The chain from the newest base backup to now: a gap in it is seen and mended, a new one goes off the host at once, a clock that was ahead owns nothing."""

import os
import pathlib
import sys
import time
import types

import pytest

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "roles/pitr/files"))

from pitr import archive, drill, jobs, offsite, programs, removal, restore, wal  # noqa: E402  (the path above must come first)
from pitr.jobs import PitrError  # noqa: E402
from test_pitr_not_whole import barman  # noqa: E402, F401  (a fixture)
from test_pitr_removal import conf  # noqa: E402, F401  (a fixture)


@pytest.fixture
def begun(barman, monkeypatch):  # noqa: F811
    """What systemd was told, with a base backup and three segments since it."""
    told = []
    monkeypatch.setattr(archive, "systemctl", lambda *words, check=True: told.append(words))
    barman.put("20261119T033000", "DONE")
    jobs.write(barman.settings, "base", result="ok", what="20261119T033000", timeline=1, good="20261119T033000", begin_wal=wal.name_of(1, 254))
    for place, which in (("wals/0000000100000000", (253, 254, 255)), ("wals/0000000100000001", (256,)), ("streaming", (257,))):
        os.makedirs(os.path.join(barman.settings.barman_server, place), exist_ok=True)
        for one in which:
            pathlib.Path(barman.settings.barman_server, place, wal.name_of(1, one)).touch()
    return told


def test_a_whole_chain_begins_nothing(barman, begun):  # noqa: F811
    archive.begin_chain(barman.settings, {"timeline": 1, "since": jobs.iso(time.time())})
    assert begun == []


@pytest.mark.parametrize("which", [254, 255, 256])
def test_a_gap_is_told_and_begins_a_base_backup(barman, begun, which):  # noqa: F811
    """All was green, and nothing after the gap could be restored until the night."""
    next(pathlib.Path(barman.settings.barman_server).rglob(wal.name_of(1, which))).unlink()
    with pytest.raises(PitrError, match=f"WAL segment {wal.name_of(1, which)} is missing"):
        archive.begin_chain(barman.settings, {"timeline": 1, "since": jobs.iso(time.time())})
    assert begun == [("start", "--no-block", "pitr-base.service")]


def test_a_segment_on_its_way_is_no_gap(barman, begun, monkeypatch):  # noqa: F811
    """It is looked for twice: Barman moves it from one directory to another."""
    real, calls = wal.segments, []

    def segments(settings, timeline):
        calls.append(timeline)
        found = real(settings, timeline)
        return {number: one for number, one in found.items() if number != 255 + len(calls)} if len(calls) < 3 else found

    monkeypatch.setattr(wal, "segments", segments)
    assert archive.gap(barman.settings, jobs.read(barman.settings, "base")) == "" and len(calls) == 2


def test_a_version_that_did_not_write_it_down_has_no_gap(barman, begun):  # noqa: F811
    jobs.write(barman.settings, "base", result="ok", what="x", timeline=1)
    archive.begin_chain(barman.settings)
    jobs.write(barman.settings, "base", result="ok", what="x", timeline=1, good="of-another-archive", begin_wal=wal.name_of(1, 3))
    archive.begin_chain(barman.settings)
    assert begun == []


@pytest.mark.parametrize(
    ("before", "sends", "sent"),
    [({"timeline": 1}, True, False), ({"timeline": 2}, True, True), ({"timeline": 2}, False, False), ({}, True, True),
     ({"timeline": 1, "good": "20261119T033000", "begin_wal": wal.name_of(1, 100)}, True, True)],
)  # fmt: skip
def test_a_new_chain_goes_off_the_host_at_once(barman, begun, monkeypatch, before, sends, sent):  # noqa: F811
    """WAL is sent every three minutes, and was worth nothing there for over an hour after each restore, undo and upgrade."""
    monkeypatch.setattr(offsite, "sends", lambda _settings: sends)
    jobs.write(barman.settings, "base", result="ok", what="20261119T033000", **before)
    if "begin_wal" in before:
        pathlib.Path(barman.settings.barman_server, "wals/0000000100000000", wal.name_of(1, 100)).touch()  # and none up to 253
    archive.take_base(barman.settings)
    assert begun == ([("start", "--no-block", "backup-offsite.service")] if sent else [])
    assert jobs.read(barman.settings, "base")["begin_wal"]


def test_an_empty_archive_is_a_new_chain_whatever_was_before(barman, begun, monkeypatch):  # noqa: F811
    """An upgrade has put the one before aside; the timeline has the same number."""
    monkeypatch.setattr(offsite, "sends", lambda _settings: True)
    barman.put("20261119T033000", "FAILED")
    archive.take_base(barman.settings)
    assert begun == [("start", "--no-block", "backup-offsite.service")]


def test_a_base_backup_of_the_future_is_not_the_newest(barman, monkeypatch):  # noqa: F811
    now = time.time()
    rows = [("old", now - 9000), ("ahead", now + 400 * 86400), ("new", now - 60)]
    listed = [{"backup_id": name, "status": "DONE", "end_time_timestamp": str(int(end)), "size_bytes": 1} for name, end in rows]
    monkeypatch.setattr(programs, "_listed", lambda _settings: listed)
    monkeypatch.setattr(programs, "gone", lambda *_: [])
    assert [item.name for item in programs.catalogue(barman.settings)] == ["ahead", "old", "new"]


def test_names_that_an_exchange_gives_are_on_the_disk_in_their_order(conf, monkeypatch):  # noqa: F811
    done = []
    real = os.rename
    monkeypatch.setattr(os, "rename", lambda source, target: (real(source, target), done.append("rename")))
    monkeypatch.setattr(os, "fsync", lambda _handle: done.append("fsync"))
    jobs.renamed(f"{conf.home}/data/redis", f"{conf.home}/data/other")
    assert done == ["rename", "fsync"]
    files = (ROOT / "roles/pitr/files/pitr").glob("*.py")
    assert [path.name for path in files if "os.rename(" in path.read_text(encoding="utf-8")] == ["jobs.py"], "every name of a directory by renamed()"


@pytest.mark.parametrize("what", ["restore", "drill"])
def test_what_a_killed_run_left_goes_with_the_minutely_look(conf, monkeypatch, what):  # noqa: F811
    """The copy has the size of the database, and a server may be on it; the next drill is a week away."""
    told, module = [], {"restore": restore, "drill": drill}[what]
    monkeypatch.setattr(module, "podman", lambda *words, check=True: told.append(words))
    if what == "restore":
        left = [f"{conf.data}.restored", f"{conf.data}.restored.wal"]
        removal.begin(conf, left[1])
        pathlib.Path(left[0], "base").mkdir(parents=True)
    else:
        left = [removal.begin(conf, f"{conf.drill_directory}/{drill.ROOT}")]
    with jobs.alone(conf, what):
        module.clear_up(conf)
    assert told == [] and all(map(os.path.exists, left)), "somebody is at it"
    module.clear_up(conf)
    assert told == [("rm", "--force", "--time=10", f"pitr-{what}")] and not any(map(os.path.exists, left))
    module.clear_up(conf)
    assert len(told) == 1


def test_a_proven_copy_is_not_what_a_killed_run_left(conf, monkeypatch):  # noqa: F811
    """It waits for somebody to put it in place."""
    monkeypatch.setattr(restore, "podman", lambda *_, **__: pytest.fail("nothing is to be removed"))
    copied = removal.begin(conf, f"{conf.data}.restored")
    removal.note(copied, {"proven": "2026-11-28T12:00:00Z"})
    restore.clear_up(conf)
    assert os.path.exists(copied)


def test_what_is_of_somebody_else_is_told_and_costs_the_look_nothing(conf, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setattr(restore, "podman", lambda *_, **__: None)
    pathlib.Path(f"{conf.data}.restored.wal/mine").mkdir(parents=True)
    restore.clear_up(conf)
    assert "was not made by this program" in capsys.readouterr().err and os.path.exists(f"{conf.data}.restored.wal/mine")


def test_damage_is_told_with_the_next_base_backup(barman, begun, monkeypatch):  # noqa: F811
    """It is taken all the same: it is what helps."""
    chain = [wal.Segment(name, f"/wals/{name}", 1.0) for name in ("one", "two")] + [wal.Segment("three", "/streaming/three.partial", 1.0)]
    monkeypatch.setattr(archive, "plan", lambda *_: types.SimpleNamespace(base="B", chain=chain))
    read = {"one": b"", "two": PitrError("WAL segment two is damaged")}  # and never what is being written
    monkeypatch.setattr(wal, "examined", lambda segment, base: (_ for _ in ()).throw(found) if isinstance(found := read[segment.name], PitrError) else found)
    with pytest.raises(PitrError, match=r"WAL segment two is damaged\. Base backup \d+T\d+ was taken, and needs none of it"):
        archive.take_base(barman.settings)
    assert len(barman.there()) == 2 and jobs.read(barman.settings, "base")["result"] == "failed"
    for reason in (PitrError("WAL segment x is missing"), None):  # told by whoever looks each minute, or nothing at all
        monkeypatch.setattr(archive, "plan", lambda *_, reason=reason: (_ for _ in ()).throw(reason) if reason else types.SimpleNamespace(base="B", chain=[]))
        archive.take_base(barman.settings)
        assert jobs.read(barman.settings, "base")["result"] == "ok"


def test_a_segment_that_was_filed_away_since_it_was_found_is_read_there(tmp_path):
    """The job that files WAL runs each minute, and a restore reads for many."""
    name = wal.name_of(1, 3)
    header = wal.HEADER.pack(0xD110, wal.LONG_HEADER, 1, 3 * wal.DEFAULT_SIZE, 0, 7, wal.DEFAULT_SIZE, 8192)
    filed = tmp_path / "wals" / name[:16] / name
    filed.parent.mkdir(parents=True)
    filed.write_bytes(header.ljust(wal.DEFAULT_SIZE, b"\0"))
    base = programs.Base("B", "/x", 1, name, 1.0, 7, 1)
    assert len(wal.examined(wal.Segment(name, str(tmp_path / "streaming" / name), 1.0), base)) == wal.DEFAULT_SIZE
    being_received = wal.Segment(name, str(tmp_path / "streaming" / f"{name}.partial"), 1.0)
    assert len(wal.examined(being_received, base)) == wal.DEFAULT_SIZE
    (tmp_path / "streaming").mkdir()
    filed.rename(tmp_path / "streaming" / name)
    assert len(wal.examined(being_received, base)) == wal.DEFAULT_SIZE, "completed, and not filed yet"
    (tmp_path / "streaming" / name).unlink()
    with pytest.raises(PitrError, match="streaming/.* is damaged: it is gone"):
        wal.examined(being_received, base)


def moved_after(monkeypatch, place, source, target):
    """A file goes from one place to another as soon as the first of these was looked at."""
    real = wal.names_in

    def names_in(directory):
        found = real(directory)
        if str(directory) == str(place) and source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            source.rename(target)
        return found

    monkeypatch.setattr(wal, "names_in", names_in)


@pytest.mark.parametrize("looked_at", ["streaming", "wals"])
def test_a_segment_that_goes_on_its_way_during_the_look_is_found(barman, begun, monkeypatch, looked_at):  # noqa: F811
    """Its directory among the filed ones may be made at that moment."""
    root = pathlib.Path(barman.settings.barman_server)
    one = wal.name_of(1, 512)
    (root / "streaming" / wal.name_of(1, 257)).rename(root / "streaming" / one)
    moved_after(monkeypatch, root / looked_at, root / "streaming" / one, root / "wals" / one[:16] / one)
    assert sorted(wal.segments(barman.settings, 1)) == [253, 254, 255, 256, 512]


def test_a_segment_that_is_completed_during_the_look_is_found(barman, begun, monkeypatch):  # noqa: F811
    streaming = pathlib.Path(barman.settings.barman_server, "streaming")
    (streaming / f"{wal.name_of(1, 258)}.partial").touch()
    moved_after(monkeypatch, streaming, streaming / f"{wal.name_of(1, 258)}.partial", streaming / wal.name_of(1, 258))
    assert not wal.segments(barman.settings, 1)[258].partial


@pytest.mark.parametrize("looked_at", ["streaming", "wals"])
def test_a_history_that_is_filed_away_during_the_look_is_copied(barman, begun, monkeypatch, tmp_path, looked_at):  # noqa: F811
    root = pathlib.Path(barman.settings.barman_server)
    (root / "streaming/00000002.history").write_text("1\t0/5000000\tno recovery target specified\n")
    moved_after(monkeypatch, root / looked_at, root / "streaming/00000002.history", root / "wals/00000002.history")
    assert 2 in wal.known_timelines(barman.settings)
    (root / "wals/00000002.history").rename(root / "streaming/00000002.history")
    wal.copy_history(barman.settings, programs.Base("B", "/x", 2, wal.name_of(2, 3), 1.0, 7, 1), str(tmp_path))
    assert (tmp_path / "00000002.history").read_text().startswith("1")


@pytest.mark.parametrize(("data", "counts"), [(b"", False), (bytes(wal.DEFAULT_SIZE // 2), False), (bytes(wal.DEFAULT_SIZE), False), (b"\0\0\1", True)])
def test_a_segment_of_which_nothing_has_come_yet_is_none(barman, begun, data, counts):  # noqa: F811
    """The receiver makes the file and fills it with zeros before the first page comes: that is no damage."""
    streaming = pathlib.Path(barman.settings.barman_server, "streaming")
    (streaming / f"{wal.name_of(1, 258)}.partial").write_bytes(data)
    chain = wal.needed(barman.settings, programs.Base("B", "/x", 1, wal.name_of(1, 254), 1.0, 7, 1), None)
    assert [wal.number(segment.name) for segment in chain] == [254, 255, 256, 257, *([258] if counts else [])]


@pytest.mark.parametrize(("status", "words"), [("lost", "had to let go of WAL"), ("", "")])
def test_a_slot_that_holds_nothing_is_no_end_of_the_look(conf, monkeypatch, status, words):  # noqa: F811
    """One that was lost, or made a moment ago: what is to be told of it is told."""
    monkeypatch.setattr(archive, "query", lambda *_, **__: [["t", status, "", wal.name_of(1, 0), "0"]])
    assert archive.lag(conf) == {"active": True, "wal_status": status, "slot_bytes": 0, "bytes": 0}
    for name in ("_file_away", "clear_up", "begin_chain"):
        monkeypatch.setattr(archive, name, lambda *_: None)
    if words:
        with pytest.raises(PitrError, match=words):
            archive.take_wal(conf)
    else:
        archive.take_wal(conf)


@pytest.mark.parametrize("files", [True, False])
def test_the_receiver_finds_nothing_of_a_timeline_that_was_left(barman, begun, monkeypatch, files):  # noqa: F811
    """It would ask the server for that timeline for ever. Where Barman cannot file what is whole, recovery finds it all the same."""
    root = pathlib.Path(barman.settings.barman_server)
    (root / "streaming" / f"{wal.name_of(1, 258)}.partial").touch()

    def archive_wal(_settings, verb, _server):
        assert verb == "archive-wal"
        if not files:
            raise PitrError("no space left")
        (root / "streaming" / wal.name_of(1, 257)).rename(root / "wals/0000000100000001" / wal.name_of(1, 257))

    monkeypatch.setattr(wal, "barman", archive_wal)
    wal.leave_timeline(barman.settings)
    assert wal.names_in(root / "streaming") == []
    assert {number: one.partial for number, one in wal.segments(barman.settings, 1).items() if number > 256} == {257: False, 258: True}


@pytest.mark.parametrize(("aside", "now"), [(b"x" * 10, b"x" * 20), (b"x" * 20, b"x" * 10), (b"x" * 20, b"")], ids=["further", "on its way", "begun"])
def test_after_an_exchange_that_failed_what_is_received_again_counts_as_far_as_it_is(barman, begun, monkeypatch, aside, now):  # noqa: F811
    """The one that was set aside ends where the exchange stopped the database, which has written on since."""
    root, name = pathlib.Path(barman.settings.barman_server), f"{wal.name_of(1, 258)}.partial"
    (root / "partial").mkdir(exist_ok=True)
    for place, data in (("partial", aside), ("streaming", now)):
        (root / place / name).write_bytes(data.ljust(64, b"\0"))
    further = max(aside, now, key=len).ljust(64, b"\0")
    assert pathlib.Path(wal.segments(barman.settings, 1)[258].path).read_bytes() == further
    monkeypatch.setattr(wal, "barman", lambda *_: None)
    wal.leave_timeline(barman.settings)
    assert (root / "partial" / name).read_bytes() == further and name not in wal.names_in(root / "streaming")
