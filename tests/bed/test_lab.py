"""The test bed itself: a second lab beside the one in use, with its own storage, network and runtime directory."""

import hashlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

LAB = Path(__file__).parents[1] / "lab" / "lab"
IMAGE = "localhost/bed:latest"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    place = tmp_path_factory.mktemp("lab")
    roots = sorted(Path(os.environ["SENEX_LAB_DIR"], "rootfs").glob("base-*.tar"), key=lambda p: p.stat().st_mtime)
    environment = {**os.environ, "SENEX_LAB_DIR": str(place), "SENEX_LAB_PREFIX": "10.203.9"}

    def run(*argv, check=True):
        done = subprocess.run([LAB, *argv], env=environment, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        assert not check or done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    run("run", "--", "podman", "import", "--change", 'CMD ["sleep","600"]', roots[-1], IMAGE)
    yield run
    run("run", "--", "podman", "rm", "--all", "--force", "--time", "0")
    run("reset")
    runtime = f"/run/senex-lab-{hashlib.sha256(str(place).encode()).hexdigest()[:8]}"
    subprocess.run(["umount", "--lazy", f"{runtime}/mnt", runtime], check=False)
    subprocess.run(["rm", "-rf", runtime], check=False)


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
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def create(lab, name):
    return lab("run", "--", "podman", "run", "--detach", "--privileged", "--network", "senex-lab", "--name", name, IMAGE)


def running(lab):
    return lab("run", "--", "podman", "ps", "--format", "{{.Names}}").split()


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
