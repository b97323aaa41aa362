"""The lab's virtual machine: what a host starts there, and that it can be ended whatever state it is in."""

import importlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

LAB = Path(__file__).parents[1] / "lab"

CONTAINER = """[Container]
HealthCmd=timeout 4 redis-cli -e ping
HealthInterval=30s
HealthTimeout=5s
HealthStartupTimeout=10s
[Service]
TimeoutStartSec=120
TimeoutStopSec=70
MemoryMax=256M
"""


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """The module, with a place of its own; what it brings along has names that others have too."""
    monkeypatch.syspath_prepend(str(LAB))
    names = [path.stem for path in LAB.glob("*.py")]
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    found = importlib.import_module("machine")
    monkeypatch.setattr(found, "PLACE", tmp_path / "machines")
    yield found
    for name in names:
        sys.modules.pop(name, None)


def test_it_starts_the_parts_that_are_wanted_and_no_timer(machine, tmp_path):
    root, units = tmp_path / "root", tmp_path / "opt" / machine.UNITS
    for place in (root / "etc/systemd/system", root / "etc/systemd/user", units / "systemd/user/timers.target.wants", units / "containers/systemd"):
        place.mkdir(parents=True)
    (units / "systemd/user/timers.target.wants/pitr-wal.timer").symlink_to("../pitr-wal.timer")
    for name in ("redis", "web-1"):
        (units / f"containers/systemd/{name}.container").write_text(CONTAINER)
    machine._still(root, tmp_path / "opt", ["redis"])
    assert not list(units.glob("systemd/user/*.wants/*"))
    assert sorted(path.name for path in (root / "etc/systemd/user").iterdir()) == ["web-1.service"]
    assert (root / "etc/systemd/user/web-1.service").readlink() == Path("/dev/null")
    slow = (units / "containers/systemd/redis.container").read_text().splitlines()
    assert slow == [
        "[Container]", "HealthCmd=timeout 600 redis-cli -e ping", "HealthInterval=1h", "HealthTimeout=900s", "HealthStartupTimeout=900s",
        "[Service]", "TimeoutStartSec=900s", "TimeoutStopSec=70", "MemoryMax=256M",
    ]  # fmt: skip
    assert (units / "containers/systemd/web-1.container").read_text() == CONTAINER


@pytest.mark.parametrize("pid", ["", "words", "999999999", "1"])
def test_one_that_has_ended_by_itself_leaves_nothing(machine, monkeypatch, pid):
    """And no process that has got its number since is ended in its place."""
    monkeypatch.setattr(machine.os, "killpg", lambda *_: pytest.fail("no machine"))
    (machine.PLACE / "one").mkdir(parents=True)
    (machine.PLACE / "one/pid").write_text(pid)
    machine.down(["one", "never-there"])
    assert machine.all_names() == []


def test_one_that_runs_is_ended(machine):
    (machine.PLACE / "one").mkdir(parents=True)
    running = subprocess.Popen(["sh", "-c", "sleep 60; true", machine.EMULATOR], start_new_session=True)
    (machine.PLACE / "one/pid").write_text(str(running.pid))
    while not Path("/proc", str(running.pid), "cmdline").read_text():
        time.sleep(0.01)  # the kernel has not handed the words over yet
    machine.down(["one"])
    assert running.wait(10) == -9 and machine.all_names() == []
