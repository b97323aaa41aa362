"""The program behind `senex redis`: what it makes of what Redis' own checkers say, and what it says before it does anything."""

import importlib.util
import signal
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest
from ansible_collections.senex.trader.plugins.module_utils.host import confined

# As role redis installs it: a module of the collection's beside it
sys.modules["senex_redis"] = types.SimpleNamespace(confined=confined)
SPEC = importlib.util.spec_from_file_location("redis_program", Path(__file__).parents[2] / "roles/redis/files/redis.py")
program = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(program)

UNIT = "[Container]\nImage=registry/redis:7\nUser=999\nVolume={home}/data/redis:/data\nVolume={home}/config/redis:/usr/local/etc/redis:ro\n"
LOG = ("1700000000 100 appendonlydir/appendonly.aof.1.base.rdb\n1700003600 1000 appendonlydir/appendonly.aof.2.incr.aof\n"
       "1700007200 400 appendonlydir/appendonly.aof.10.incr.aof\n1700007200 99 appendonlydir/appendonly.aof.manifest\nkb 8\n")  # fmt: skip
SNAPSHOT = "1700001800 50 dump.rdb\n"
BASE_GOOD = ("[offset 0] Checking RDB file appendonly.aof.1.base.rdb\n"
             "AOF analyzed: filename=appendonly.aof.1.base.rdb, size=100, ok_up_to=100, ok_up_to_line=1, diff=0\n")  # fmt: skip
FIRST_GOOD = "AOF analyzed: filename=appendonly.aof.2.incr.aof, size=1000, ok_up_to=1000, ok_up_to_line=9, diff=0\n"
LAST_BAD = ("0x              7b: Expected prefix '$', got: 'X'\n"
            "AOF analyzed: filename=appendonly.aof.10.incr.aof, size=400, ok_up_to=100, ok_up_to_line=7, diff=300\n")  # fmt: skip
FIRST_BAD = "AOF analyzed: filename=appendonly.aof.2.incr.aof, size=1000, ok_up_to=10, ok_up_to_line=1, diff=990\n"
BASE_BAD = "Start checking Multi Part AOF\n[offset 0] Checking RDB file appendonly.aof.1.base.rdb\n--- RDB ERROR DETECTED ---\n"


@pytest.fixture
def ground(tmp_path, monkeypatch):
    """A home whose Redis is down, and what the programs in the container say, by the first word that is in the script."""
    (tmp_path / "backups/redis").mkdir(parents=True)
    (tmp_path / "data/redis").mkdir(parents=True)
    (tmp_path / "redis.container").write_text(UNIT.format(home=tmp_path))
    monkeypatch.setattr(program, "UNIT_FILE", str(tmp_path / "redis.container"))
    monkeypatch.setattr(program, "COPIES", str(tmp_path / "backups/redis"))
    ground = type("Ground", (), {"home": tmp_path, "state": "activating", "said": {}, "done": [], "free": None})

    def run(*argv, stdin=None):
        ground.done.append(argv[-1] if argv[0] == "podman" else " ".join(argv[2:]))
        if argv[0] == "systemctl":
            return subprocess.CompletedProcess(argv, 0, ground.state if "is-active" in argv else "")
        code, said = next(((code, said) for word, (code, said) in ground.said.items() if word in argv[-1]), (0, ""))
        return subprocess.CompletedProcess(argv, code, said)

    monkeypatch.setattr(program, "run", run)
    return ground


def acts(ground):
    """What was done beside asking."""
    return [words for words in ground.done if "is-active" not in words and words not in (program.LIST, program.CHECK_LOG, program.CHECK_SNAPSHOT)]


def test_the_last_file_is_cut_and_what_is_lost_is_said_before(ground, capsys):
    ground.said = {"stat -c": (0, LOG + SNAPSHOT), program.CHECK_LOG: (1, BASE_GOOD + FIRST_GOOD + LAST_BAD)}
    assert program.main(["check"]) == 2
    shown = capsys.readouterr().out
    assert "appendonlydir/appendonly.aof.10.incr.aof, from byte 100 of 400 on: Expected prefix '$', got: 'X'" in shown
    assert "LOST: all that was written after that: 300 bytes, 75 % of this file; its last write was at 2023-11-15 00:13:20 UTC" in shown
    assert "--snapshot: begin with the snapshot of 2023-11-14 22:43:20 UTC" in shown and acts(ground) == []
    assert program.main(["repair", "--yes"]) == 0
    cut, stop, swap, start = acts(ground)
    assert (cut, stop, start) == (program.CUT, "stop redis.service", "start redis.service")
    assert swap.startswith("cd /data && mv appendonlydir appendonlydir.damaged-2") and swap.endswith("&& mv appendonlydir.mended appendonlydir")


@pytest.mark.parametrize("answer", ["", "no\n", "y\n"])
def test_nothing_is_done_without_a_yes(ground, monkeypatch, capsys, answer):
    ground.said = {"stat -c": (0, LOG), program.CHECK_LOG: (1, BASE_GOOD + FIRST_GOOD + LAST_BAD)}
    monkeypatch.setattr("sys.stdin", __import__("io").StringIO(answer))
    assert program.main(["repair"]) == 1
    assert acts(ground) == [] and "LOST" in capsys.readouterr().out


@pytest.mark.parametrize(("said", "name"), [(BASE_BAD, "appendonly.aof.1.base.rdb"), (BASE_GOOD + FIRST_BAD, "appendonly.aof.2.incr.aof")])
def test_before_the_last_file_the_snapshot_is_the_way(ground, capsys, said, name):
    """To cut there would leave what follows on another ground."""
    ground.said = {"stat -c": (0, LOG + SNAPSHOT), program.CHECK_LOG: (1, said)}
    assert program.main(["repair", "--yes"]) == 0
    shown = capsys.readouterr().out
    assert f"appendonlydir/{name}" in shown and "begins with the snapshot dump.rdb, of 2023-11-14 22:43:20 UTC" in shown and "LOST" in shown
    stop, aside, start = acts(ground)
    assert "mv appendonlydir appendonlydir.damaged-" in aside and "mended" not in aside


@pytest.mark.parametrize("files", [LOG, LOG + SNAPSHOT, SNAPSHOT], ids=["no snapshot", "both damaged", "a snapshot alone"])
def test_without_a_good_snapshot_the_newest_copy_is_the_way(ground, capsys, files):
    ground.said = {"stat -c": (0, files), program.CHECK_LOG: (1, BASE_BAD), program.CHECK_SNAPSHOT: (1, "")}
    assert program.main(["repair", "--yes"]) == 1
    assert "neither a good snapshot (dump.rdb) nor a copy" in capsys.readouterr().err and acts(ground) == []
    for name in ("redis-2026-01-01-001000.rdb", "redis-2026-01-02-001000.rdb", "redis-2026-01-03-001000.rdb.part"):
        (ground.home / "backups/redis" / name).write_text("copy")
    assert program.main(["repair", "--yes"]) == 0
    assert "redis-2026-01-02-001000.rdb, of 20" in capsys.readouterr().out
    stop, replace, _aside, start = acts(ground)
    assert (stop, start) == ("stop redis.service", "start redis.service") and "cat >dump.rdb.new" in replace


def test_what_cannot_be_done_leaves_redis_its_files_and_is_said(ground, monkeypatch, capsys):
    ground.said = {"stat -c": (0, LOG), program.CHECK_LOG: (1, BASE_GOOD + FIRST_GOOD + LAST_BAD), "--fix": (1, "No space left on device")}
    assert program.main(["repair", "--yes"]) == 1
    assert acts(ground) == [program.CUT] and "No space left on device" in capsys.readouterr().err
    monkeypatch.setattr(program.os, "statvfs", lambda path: type("Space", (), {"f_bavail": 1, "f_frsize": 4096}))
    assert program.main(["repair", "--yes"]) == 1 and "make room first" in capsys.readouterr().err


def test_a_redis_that_runs_or_has_whole_files_is_left_alone(ground, capsys):
    ground.said = {"stat -c": (0, LOG + SNAPSHOT)}
    assert program.main(["repair", "--yes"]) == 1 and "something else that keeps Redis from starting" in capsys.readouterr().err
    assert program.main(["check"]) == 0 and "whole" in capsys.readouterr().out
    ground.state = "active"
    for words in (["check"], ["repair", "--yes"], ["repair", "--snapshot", "--yes"]):
        assert program.main(words) == 1 and "Redis runs" in capsys.readouterr().err
    assert acts(ground) == []


def test_a_log_whose_content_is_wrong_can_be_left_out(ground, capsys):
    """Redis' checker sees the form alone: a word that is no command any more passes."""
    ground.said = {"stat -c": (0, LOG + SNAPSHOT)}
    assert program.main(["repair", "--snapshot", "--yes"]) == 0
    assert "LOST: all that was written after that; the last write to the log was at 2023-11-15" in capsys.readouterr().out
    assert len(acts(ground)) == 3


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGHUP], ids=lambda kind: kind.name)
def test_an_interrupted_repair_goes_on_until_redis_runs(ground, monkeypatch, capsys, kind):
    """A Ctrl-C, or a connection that is lost, while Redis is stopped."""
    ground.said = {"stat -c": (0, LOG + SNAPSHOT), program.CHECK_LOG: (1, BASE_GOOD + FIRST_GOOD + LAST_BAD)}
    run = program.run

    def interrupted(*argv, **more):
        if "stop" in argv:
            signal.pthread_kill(threading.get_ident(), kind)  # another thread of the tests' process may take it otherwise
        return run(*argv, **more)

    monkeypatch.setattr(program, "run", interrupted)
    assert program.main(["repair", "--yes"]) == 0
    assert acts(ground)[-1] == "start redis.service" and "redis.service: ready" in capsys.readouterr().out
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & {signal.SIGINT, signal.SIGHUP}
