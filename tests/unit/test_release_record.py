"""The lock of a release and its records: one at a time, nothing forgotten, a dead holder is no obstacle."""

import json
import pathlib
import threading
import time

import pytest
from ansible_collections.senex.trader.plugins.module_utils.host import release_record
from ansible_collections.senex.trader.plugins.module_utils.host.release_record import Ledger, LockHeld, LockLost
from ansible_collections.senex.trader.plugins.modules import release


def who(name, **more):
    return {"id": name, "what": f"deploy of {name}", "who": "anna@desk", **more}


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    monkeypatch.setattr(release_record, "BOOT", str(tmp_path / "boot"))
    return Ledger(str(tmp_path))


def test_one_at_a_time(ledger):
    assert ledger.begin(who("a")) is None
    with pytest.raises(LockHeld, match=r"deploy of a by anna@desk since .* UTC .*release_take_over=true"):
        ledger.begin(who("b"))
    assert ledger.begin(who("a")) is None, "the holder itself may ask again"
    assert ledger.finish("a", {"result": "succeeded"})
    assert ledger.begin(who("b")) is None


def test_of_many_at_once_one_gets_it(ledger):
    got, gate = [], threading.Barrier(8)

    def ask(number):
        gate.wait()
        try:
            ledger.begin(who(f"r{number}"))
            got.append(number)
        except LockHeld:
            pass

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(got) == 1 and ledger.holder()["id"] == f"r{got[0]}"


def test_a_dead_holder_is_taken_over_and_remembered(ledger):
    ledger.begin(who("a"))
    ledger.renew("a", "web")
    assert ledger.begin(who("b"), take_over="a")["id"] == "a"
    assert [(one["id"], one["result"]) for one in ledger.records()] == [("a", "interrupted")]
    assert "'web'" in ledger.records()[0]["reason"]
    with pytest.raises(OSError, match="the lock of this release is gone: .*deploy of b"):
        ledger.renew("a", "celery")
    assert not ledger.finish("a", {"result": "succeeded"}), "who lost the lock writes nothing"
    assert ledger.holder()["id"] == "b" and len(ledger.records()) == 1


def test_the_record_of_a_dead_release_has_what_it_said_of_itself(ledger):
    ledger.begin(who("a"))
    ledger.renew("a", "web", {"tag": "2", "migrations": ["app.0002"], "result": "succeeded"})
    ledger.renew("a", "celery")
    ledger.begin(who("b"), take_over="a")
    [one] = ledger.records()
    assert (one["tag"], one["migrations"], one["result"]) == ("2", ["app.0002"], "interrupted") and "'celery'" in one["reason"]


def test_the_wrong_name_takes_nothing_over(ledger):
    ledger.begin(who("a"))
    with pytest.raises(LockHeld):
        ledger.begin(who("b"), take_over="c")


def test_without_a_sign_of_life_the_lease_ends(ledger, monkeypatch):
    ledger.begin(who("a"))
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    monkeypatch.setattr(release_record.time, "clock_gettime", lambda _clock: now + release_record.LEASE - 1)
    with pytest.raises(LockHeld):
        ledger.begin(who("b"))
    monkeypatch.setattr(release_record.time, "clock_gettime", lambda _clock: now + release_record.LEASE + 1)
    assert ledger.begin(who("b"))["id"] == "a"


@pytest.fixture
def quick(monkeypatch):
    """The times of the lock, in hundredths."""
    monkeypatch.setattr(release_record, "LEASE", 1)
    monkeypatch.setattr(release_record, "RENEWAL", 0.05)


def test_a_step_keeps_the_lock_however_long_it_takes(ledger, quick):
    ledger.begin(who("a"))
    with ledger.heartbeat("a", "copy"):
        time.sleep(1.5)
        with pytest.raises(LockHeld, match="now at 'copy'"):
            ledger.begin(who("b"))
    renewed = ledger.holder()["renewed"]
    time.sleep(0.2)
    assert ledger.holder()["renewed"] == renewed, "nobody renews it after the step"


def test_a_command_ends_when_its_lock_is_taken_over(ledger, quick):
    ledger.begin(who("a"))
    threading.Timer(0.3, lambda: ledger.begin(who("b"), take_over="any")).start()
    begin = time.monotonic()
    with pytest.raises(LockLost, match="deploy of b"):
        release.run({"id": "a", "what": "copy", "argv": ["sleep", "30"]}, ledger)
    assert time.monotonic() - begin < 10 and ledger.holder()["id"] == "b"


def test_a_command_tells_what_it_said(ledger):
    ledger.begin(who("a"))
    found = release.run({"id": "a", "what": "copy", "argv": ["sh", "-c", "echo out; echo wrong >&2; exit 3"]}, ledger)
    assert (found["rc"], found["stdout"], found["stderr"]) == (3, "out", "wrong")
    with pytest.raises(LockLost):
        release.run({"id": "c", "what": "copy", "argv": ["touch", f"{ledger.directory}/made"]}, ledger)
    assert not pathlib.Path(ledger.directory, "made").exists(), "nothing runs without the lock"


def test_a_release_that_changed_nothing_leaves_no_record(ledger):
    ledger.begin(who("a"))
    assert ledger.finish("a", None) and ledger.records() == [] and ledger.holder() is None


def test_records_outlive_a_line_cut_short(ledger, tmp_path):
    for name in ("a", "b"):
        ledger.begin(who(name))
        ledger.finish(name, {"result": "succeeded", "tag": name})
    file = tmp_path / "releases.jsonl"
    file.write_text(file.read_text() + '{"id": "c", "resu')
    assert [one["tag"] for one in ledger.records()] == ["a", "b"]
    ledger.begin(who("d"))
    ledger.finish("d", {"result": "succeeded", "tag": "d"})
    assert [json.loads(line)["id"] for line in file.read_text().splitlines()] == ["a", "b", "d"]
    assert file.stat().st_mode & 0o777 == 0o644


def test_the_record_of_a_release_whose_end_a_host_missed_comes_from_the_others(ledger, tmp_path):
    """It takes the place of what this host knew of that release, with that one's id, begin and duration; what came before stays."""
    other = Ledger(str(tmp_path / "other"))
    for one in (ledger, other):
        one.begin(who("a"))
        one.finish("a", {"result": "succeeded", "tag": "1", "reference": "r:1"})
        one.begin(who("b"))
    other.finish("b", {"result": "succeeded", "tag": "2", "reference": "r:2", "previous": {"tag": "1"}})
    ledger.begin(who("c"), "any")
    assert [one["result"] for one in ledger.records()] == ["succeeded", "interrupted"] and ledger.newest()["id"] == "a"
    assert ledger.finish("c", other.newest())
    assert ledger.records()[-1] == other.records()[-1] and len(ledger.records()) == 2 and ledger.newest()["id"] == "b"
    assert ledger.begin(who("d")) is None, "the lock was given up"
