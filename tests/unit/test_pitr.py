"""WAL names, chains and moments: what a restore decides before it touches anything."""

import gzip
import os
import pathlib
import sys
import types

import pytest

FILES = pathlib.Path(__file__).parents[2] / "roles/pitr/files"
sys.path.insert(0, str(FILES))

from pitr import archive as taking  # noqa: E402
from pitr import jobs, plan, programs, recovery, wal  # noqa: E402  (the path above must come first)

SIZE = wal.DEFAULT_SIZE
SYSTEM = 7710767286947758100


def name(which, timeline=1):
    return wal.name_of(timeline, which)


@pytest.fixture
def archive(tmp_path):
    for directory in ("wals/0000000100000000", "streaming", "partial"):
        (tmp_path / "main" / directory).mkdir(parents=True)
    places = {"home": str(tmp_path), "archive": str(tmp_path), "barman_server": str(tmp_path / "main"), "status": str(tmp_path / "status")}
    return types.SimpleNamespace(**places, wal_max_age=300, base_max_age=1, drill_max_age=2)


def put(archive, place, entry, written=0.0, content=b"x"):
    path = pathlib.Path(archive.barman_server, place, entry)
    path.write_bytes(content)
    os.utime(path, (written, written))
    return str(path)


def base(begin=3):
    return programs.Base(name="B", data="/b", timeline=1, begin_wal=name(begin), end_time=100.0, system_id=SYSTEM, bytes=1)


def segment_bytes(which, system=SYSTEM, size=SIZE):
    header = wal.HEADER.pack(0xD110, wal.LONG_HEADER, 1, which * SIZE, 0, system, SIZE, 8192)
    return header.ljust(size, b"\0")


def test_names_and_numbers():
    assert wal.number("0000000100000002000000FF") == 2 * 256 + 255
    assert wal.name_of(1, 2 * 256 + 255) == "0000000100000002000000FF"
    assert wal.name_of(1, 256) == "000000010000000100000000"


def test_chain_is_archived_received_and_being_received(archive):
    put(archive, "wals/0000000100000000", name(2))
    put(archive, "wals/0000000100000000", name(3))
    put(archive, "streaming", name(4))
    put(archive, "streaming", name(5) + ".partial")
    chain = wal.needed(archive, base(), None)
    assert [segment.name for segment in chain] == [name(3), name(4), name(5)]
    assert [segment.partial for segment in chain] == [False, False, True]


def test_a_whole_segment_wins_over_its_beginning(archive):
    put(archive, "partial", name(3) + ".partial")
    whole = put(archive, "wals/0000000100000000", name(3))
    assert [segment.path for segment in wal.needed(archive, base(), None)] == [whole]


def test_without_a_journal_the_newest_timeline_is_the_one_that_runs(archive):
    put(archive, "streaming", name(5, timeline=3) + ".partial")
    assert wal.running_timeline(archive) == 3
    put(archive, "wals", "00000004.history")
    assert wal.running_timeline(archive) == 4


HOUR = 3600.0


def test_after_a_way_back_the_smaller_timeline_runs(archive):
    """Restored at 10, undone at 11, restored again at 13: what was discarded is known by its time."""
    put(archive, "streaming", name(5, timeline=2) + ".partial")
    for hour, timeline in ((8, 1), (9, 1), (10, 2), (10.5, 2), (11, 1), (12, 1), (13, 3)):
        wal.ran(archive, timeline, hour * HOUR)
        assert wal.running_timeline(archive) == timeline
    at = {hour: wal.timeline_at(archive, hour * HOUR) for hour in (7, 8, 9.9, 10.2, 10.9, 11, 12.9, 14)}
    assert at == {7: None, 8: 1, 9.9: 1, 10.2: 2, 10.9: 2, 11: 1, 12.9: 1, 14: 3}
    assert [one["timeline"] for one in wal.journal(archive)] == [1, 2, 1, 3]


def bases(monkeypatch, *known):
    """A catalogue: (name, when it was complete, timeline)."""
    listed = [programs.Listed(one, hour * HOUR, 1) for one, hour, _ in known]
    lines = {one: timeline for one, _, timeline in known}
    monkeypatch.setattr(programs, "catalogue", lambda _settings: listed)
    monkeypatch.setattr(programs, "base", lambda _settings, item: programs.Base(item.name, "/b", lines[item.name], name(3), item.end_time, SYSTEM, 1))


def at(hour):
    return jobs.iso(hour * HOUR)


def test_latest_is_of_the_timeline_that_runs(archive, monkeypatch):
    """Restored at 10, undone at 11: its base backup is the newest, its timeline the highest, and its history was discarded."""
    bases(monkeypatch, ("A", 3, 1), ("B", 10.1, 2))
    for hour, timeline in ((8, 1), (10, 2), (11, 1)):
        wal.ran(archive, timeline, hour * HOUR)
    assert plan.choose(archive, "latest")[1].name == "A"
    assert plan.choose(archive, at(12))[1].name == "A"
    assert plan.choose(archive, at(10.5))[1].name == "B", "what was discarded can be had, by its moment"
    assert plan.choose(archive, "latest", "B")[1].name == "B"


@pytest.mark.parametrize("to", ["latest", "moment"])
def test_a_timeline_without_a_base_backup_is_refused_by_its_name(archive, monkeypatch, to):
    bases(monkeypatch, ("A", 3, 1))
    wal.ran(archive, 1, 8 * HOUR)
    wal.ran(archive, 2, 10 * HOUR)
    with pytest.raises(jobs.PitrError, match="on timeline 2, which began with a restore, and no base backup of it .* such as A"):
        plan.choose(archive, to.replace("moment", at(10.5)))
    assert plan.choose(archive, at(9))[1].name == "A"


def test_an_archive_of_before_is_read_as_before(archive, monkeypatch):
    bases(monkeypatch, ("A", 3, 1), ("B", 10, 2))
    put(archive, "streaming", name(5, timeline=2) + ".partial")
    assert plan.choose(archive, "latest")[1].name == "B" and plan.choose(archive, at(9))[1].name == "A"


def test_all_histories_are_handed_over(archive, tmp_path):
    """A server that is promoted takes the first number without one: two restores from one base backup used to get the same."""
    place = tmp_path / "wal"
    place.mkdir()
    put(archive, "wals", "00000002.history", content=gzip.compress(b"1\t0/5000000\tx\n"))
    put(archive, "streaming", "00000003.history", content=b"1\t0/6000000\tx\n")
    wal.copy_history(archive, base(), str(place))
    assert {path.name: path.read_bytes()[:11] for path in place.iterdir()} == {"00000002.history": b"1\t0/5000000", "00000003.history": b"1\t0/6000000"}
    other = programs.Base(**{**vars(base()), "timeline": 4})
    with pytest.raises(jobs.PitrError, match="00000004.history is missing"):
        wal.copy_history(archive, other, str(place))


@pytest.mark.parametrize("identity", [str(SYSTEM), "1"])
def test_the_timeline_of_another_cluster_is_not_written_down(archive, monkeypatch, identity):
    put(archive, ".", "identity.json", content=b'{"systemid": "%s"}' % identity.encode())
    monkeypatch.setattr(taking, "query", lambda _settings, _sql, replication=False: [[str(SYSTEM), "2", "0/7000000", ""]] if replication else [])
    on = taking.mark(archive)
    assert (on and on["timeline"], wal.running_timeline(archive)) == ((2, 2) if identity == str(SYSTEM) else (None, 1))


@pytest.mark.parametrize("missing", [3, 4])
def test_a_gap_is_named(archive, missing):
    for which in {3, 4, 5} - {missing}:
        put(archive, "wals/0000000100000000", name(which))
    with pytest.raises(jobs.PitrError, match=name(missing)):
        wal.needed(archive, base(), None)


def test_segments_after_the_moment_are_not_needed(archive):
    for which in range(3, 9):
        put(archive, "wals/0000000100000000", name(which), written=which * 100.0)
    # 450 lies in segment 5, which was written at 500; one more, in case it ended without a commit
    assert [segment.name for segment in wal.needed(archive, base(), 450.0)] == [name(which) for which in (3, 4, 5, 6)]


def test_a_whole_segment_passes(archive):
    path = put(archive, "streaming", name(3), content=gzip.compress(segment_bytes(3), 1))
    assert wal.examined(wal.Segment(name(3), path, 0.0), base()) == segment_bytes(3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (segment_bytes(3, system=1), "another cluster: system identifier 1"),
        (segment_bytes(4), "not what its name says"),
        (segment_bytes(3)[: SIZE // 2], "is damaged"),
        (gzip.compress(segment_bytes(3))[:-20], "is damaged"),
        (b"", "is damaged"),
        (b"\0" * SIZE, "is damaged"),
    ],
)
def test_what_is_no_good_is_refused_by_name(archive, content, words):
    path = put(archive, "streaming", name(3), content=content)
    with pytest.raises(jobs.PitrError, match=words) as told:
        wal.examined(wal.Segment(name(3), path, 0.0), base())
    assert path in str(told.value)


def reading(until, *lines):
    found = wal.Reading()
    for line in lines:
        found.add(line, until)
    return found


def commit(time):
    return f"rmgr: Transaction len (rec/tot): 34/34, tx: 757, lsn: 0/0A0004E0, prev 0/0A000390, desc: COMMIT 2026-11-21 {time} UTC; inval msgs: catcache 7\n"


def mark(time):
    return f"rmgr: XLOG len (rec/tot): 98/98, tx: 0, lsn: 0/0A000028, prev 0/09000100, desc: RESTORE_POINT pitr 2026-11-21 {time}\n"


def test_commits_up_to_a_moment_and_after_it():
    found = reading("2026-11-21 12:00:00.000000", commit("11:59:59.900000"), commit("12:00:00.100000"))
    assert (found.commits, found.last_wanted, found.passed) == (2, "2026-11-21 11:59:59.900000", True)


def test_an_idle_database_is_followed_by_its_restore_points():
    found = reading("2026-11-21 12:00:00.000000", commit("11:00:00.000000"), mark("11:59:30.000000"), mark("12:00:30.000000"), mark("12:01:30.000000"))
    assert (found.passed, found.mark, found.end) == (False, "2026-11-21 12:00:30.000000", "2026-11-21 12:01:30.000000")


def test_an_archive_that_ends_before_the_moment():
    found = reading("2026-11-21 12:00:00.000000", commit("11:00:00.000000"), mark("11:59:30.000000"))
    assert (found.passed, found.mark) == (False, "")


@pytest.mark.parametrize(("text", "words"), [("tomorrow", "write latest"), ("2026-11-21 12:00", "time zone"), ("2199-01-01 00:00+00", "future")])
def test_moments_that_are_none(text, words):
    with pytest.raises(jobs.PitrError, match=words):
        plan.moment(text)


def test_moments_in_any_zone():
    assert plan.moment("2026-11-21 12:00:00+01:00") == plan.moment("2026-11-21T11:00:00Z")
    assert plan.moment("latest") is None


def test_a_job_says_how_it_ended(archive):
    with jobs.run(archive, "wal") as record:
        record["what"] = "something"
    written = jobs.read(archive, "wal")
    assert (written["result"], written["what"], written["error"], written["max_age_seconds"]) == ("ok", "something", None, 300)
    assert os.stat(f"{archive.status}/wal.json").st_mode & 0o777 == 0o600
    with pytest.raises(jobs.PitrError), jobs.run(archive, "wal"):
        raise jobs.PitrError("the reason")
    assert (jobs.read(archive, "wal")["result"], jobs.read(archive, "wal")["error"]) == ("failed", "the reason")
    assert sorted(path for path in os.listdir(archive.status) if path.endswith(".json")) == ["wal.json"]


def test_a_full_disk_gets_no_file_for_each_failure_and_hides_no_reason(archive, monkeypatch):
    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(jobs.os, "fsync", full)
    with pytest.raises(jobs.PitrError, match="the reason"), jobs.run(archive, "wal"):
        raise jobs.PitrError("the reason")
    with pytest.raises(OSError, match="No space left"), jobs.run(archive, "wal"):
        pass
    assert [name for name in os.listdir(archive.status) if name != ".wal.lock"] == []


def test_jobs_that_never_ran_say_so_and_others_are_left_alone(archive):
    with jobs.run(archive, "wal"):
        pass
    jobs.never(archive)
    assert [jobs.read(archive, job)["result"] for job in ("base", "wal", "drill")] == ["never", "ok", "never"]


def test_not_twice_at_once(archive):
    with jobs.run(archive, "base"), pytest.raises(jobs.PitrError, match="running already"), jobs.run(archive, "base"):
        pass


@pytest.mark.parametrize(
    ("database", "receiver", "expected"),
    [
        (("active", ""), ("active", ""), True),
        (("activating", "7"), ("inactive", "8"), True),
        (("inactive", "0"), ("activating", "0"), False),
        (("inactive", ""), ("activating", ""), False),  # as systemd 257 says that there is no job
        (("failed", ""), ("active", ""), False),
    ],
)
def test_what_rests_is_not_waited_for(monkeypatch, database, receiver, expected):
    """A restore that has stopped the database must not wait for a job that waits for the database."""
    shown = "\n\n".join(f"ActiveState={state}\nJob={job}" for state, job in (database, receiver))
    monkeypatch.setattr(taking, "systemctl", lambda *words: types.SimpleNamespace(stdout=shown + "\n"))
    assert taking._coming(types.SimpleNamespace(unit="postgres.service")) is expected


def test_recovery_shares_no_memory_between_processes(monkeypatch):
    """Its work_mem is that of production, its memory the drill's."""
    said = []
    monkeypatch.setattr(recovery, "podman", lambda *words, **_: said.append(words))
    monkeypatch.setattr(recovery, "_await", lambda *_: None)
    settings = types.SimpleNamespace(postgresql_configuration="/c", container_uid=70, image="postgres:15", recovery_timeout=1)
    with recovery.server(settings, types.SimpleNamespace(base=base(), until=None), None, "/d", "drill", durable=False):
        pass
    assert "max_parallel_workers_per_gather=0" in next(words for words in said if words[0] == "run")


class Recovered:
    """A server that has recovered, and remembers what was run beside it."""

    def __init__(self, **fails):
        self.fails, self.ran, self.settings = fails, [], types.SimpleNamespace(superuser="postgres")

    def is_ready(self, role):
        self.ran.append(role)
        return True

    def execute(self, *command):
        self.ran.append(list(command))
        if command[0] in self.fails:
            raise jobs.PitrError(self.fails[command[0]])

    def sql(self, statement, _database=None):
        self.ran.append(statement)
        return ["f"]


def test_a_copy_from_before_the_superuser_is_converted_before_it_is_asked():
    server = Recovered()
    recovery._await(server, 5)
    assert server.ran[1:] == [["sh", "/etc/postgresql/roles.sh"], "select pg_is_in_recovery()"]


def test_a_copy_whose_roles_cannot_be_converted_is_told():
    with pytest.raises(jobs.PitrError, match="neither postgres nor senex"):
        recovery._await(Recovered(sh="neither postgres nor senex logs in"), 5)


AT_A_PAGE = "pg_waldump: error: error in WAL record at 0/601B540: invalid magic number 0000 in log segment {}, offset {}"
AT_A_PAGE_16 = "pg_waldump: error: error in WAL record at 0/601B540: invalid magic number 0000 in WAL segment {}, LSN 0/601C000, offset {}"


@pytest.mark.parametrize("said", [AT_A_PAGE, AT_A_PAGE_16])
def test_a_record_that_goes_on_in_a_page_which_was_not_received_is_the_end(tmp_path, said):
    """The receiver gets whole pages, and was stopped behind one of them. In the next segment too, which begins with nothing."""
    place, page = tmp_path / name(6), 0x1C000
    chain = [wal.Segment(name(5), f"/archive/{name(5)}", 0.0), wal.Segment(name(6), f"/archive/{name(6)}.partial", 0.0)]
    place.write_bytes(b"\1" * page + b"\0" * (SIZE - page))
    wal._judge(said.format(name(6), page), str(tmp_path), chain)
    place.write_bytes(b"\0" * SIZE)
    wal._judge(said.replace("0/601B540", "0/5FFFF00").format(name(6), 0), str(tmp_path), chain)
    place.write_bytes(b"\1" * page + b"\0" * 8192 + b"\1" * 8192 + b"\0" * (SIZE - page - 16384))
    with pytest.raises(jobs.PitrError, match=r"damaged at 0/601B540: invalid magic number 0000.* bytes follow"):
        wal._judge(said.format(name(6), page), str(tmp_path), chain)
    (tmp_path / name(5)).write_bytes(b"\0" * SIZE)
    with pytest.raises(jobs.PitrError, match="is damaged at"):
        wal._judge(said.replace("0/601B540", "0/501B540").format(name(5), page), str(tmp_path), chain)


def test_what_is_told_of_others_is_printable(capsys, monkeypatch):
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    jobs.say("one\n\ttwo \x1b[2J \udcff")
    jobs.complain("of \x1b]0;x\x07 it")
    told = capsys.readouterr()
    assert told.out == "one\n\ttwo ?[2J ?\n"
    assert told.err == "pitr: of ?]0;x? it\n"


def test_a_prepared_transaction_may_be_called_what_it_likes():
    """Any session names it, and pg_waldump shows the name."""
    named = "desc: COMMIT 2099-01-01 00:00:00.000000 UTC"
    prepared = commit("00:00:00.000000").replace("desc: COMMIT 2026", f"desc: PREPARE gid {named}: 2026")
    found = reading("2026-11-21 12:00:00.000000", commit("11:00:00.000000"), prepared)
    assert (found.commits, found.passed, found.end) == (1, False, "2026-11-21 11:00:00.000000")
