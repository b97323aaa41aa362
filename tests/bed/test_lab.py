"""The test bed itself: a second lab beside the one in use, with its own storage, network and runtime directory."""

import contextlib
import os
import signal
import time
from pathlib import Path

from bed import create, running
from conftest import LAB


def processes(name):
    """Processes that hold the container: conmon, and all in its process tree."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "cmdline").read_bytes() + (entry / "cgroup").read_bytes()
            except OSError:
                continue
            if name.encode() in text:
                found.append(int(entry.name))
    return found


def kill_everything(identifier):
    deadline = time.monotonic() + 10
    while pids := processes(identifier):
        assert time.monotonic() < deadline
        for pid in pids:
            # One may end by itself, or with another, between the look and the kill
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def test_all_processes_killed(lab):
    """A CI machine ends every process between two runs: podman's notes then say that dead containers run."""
    identifier = create(lab, "one")
    assert running(lab) == ["one"]
    kill_everything(identifier)
    assert running(lab) == []
    lab("run", "--", "podman", "start", "one")
    assert running(lab) == ["one"]
    assert processes(identifier)


def test_a_live_lab_is_left_alone(lab):
    """Entering it again, and a container that stopped by itself, touch nothing that runs."""
    create(lab, "stays")
    create(lab, "stops")
    lab("run", "--", "podman", "stop", "--time", "0", "stops")
    before = lab("run", "--", "podman", "inspect", "--format", "{{.State.Pid}}", "stays")
    assert "stays" in running(lab)
    assert lab("run", "--", "podman", "inspect", "--format", "{{.State.Pid}}", "stays") == before
    assert Path("/proc", before).exists()


def test_volumes_that_removed_hosts_leave_go(lab):
    """Molecule removes its hosts without them. Those with a name, and those in use, stay."""
    create(lab, "gone", "--volume", "/opt")
    lab("run", "--", "podman", "rm", "--force", "--time", "0", "gone")
    create(lab, "used", "--volume", "/opt")
    lab("run", "--", "podman", "volume", "create", "named")

    def volumes():
        return set(lab("run", "--", "podman", "volume", "ls", "--quiet").split())

    used = lab("run", "--", "podman", "inspect", "--format", "{{range .Mounts}}{{.Name}}{{end}}", "used").strip()
    before = volumes()
    lab("run", "--", "python3", "-c", f"import sys; sys.path.insert(0, {str(LAB.parent)!r}); import space; space.tidy()")
    after = volumes()
    assert before - after and {"named", used} <= after and all(len(name) < 64 or name == used for name in after)
