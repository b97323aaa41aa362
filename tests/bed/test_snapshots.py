"""Snapshots of hosts, in the second lab: whole, or not there."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from bed import IMAGE, create, running

CODE = Path(__file__).parents[1] / "lab"
STORE = f"import sys; sys.dont_write_bytecode = True; sys.path.insert(0, {str(CODE)!r}); import snapshots; "
# The second of two makers finds what the first made
MAKE = """
import recipes, time
def maker(missing, keys):
    time.sleep(2)
    snapshots.store("twice", "k", ["kept"], stop_seconds=0)
made, reused = [], []
recipes.keys = lambda names: dict.fromkeys(names, "k")
recipes._make_group(["twice"], maker, made, reused)
print("made" if made else "reused")
"""


@pytest.fixture
def kept(lab):
    """A host with something in its root and something in /opt."""
    create(lab, "kept", "--volume", "kept-opt:/opt")
    script = (
        "echo root >/etc/mark; mkdir -p /opt/a; echo opt >/opt/a/mark; chown 1234:5678 /opt/a/mark; chmod 0640 /opt/a/mark;"
        "ln /opt/a/mark /opt/a/twin; mkfifo /opt/a/pipe; head -c 60000000 /dev/urandom >/opt/a/large"
    )
    lab("run", "--", "podman", "exec", "kept", "sh", "-c", script)
    yield "kept"
    lab("run", "--", "podman", "rm", "--ignore", "--force", "--time", "0", "--volumes", "kept", "other", check=False)
    lab("run", "--", "podman", "volume", "rm", "--force", "kept-opt", "other-opt", check=False)


def python(lab, code, check=True):
    return lab("run", "--", "python3", "-c", STORE + code, check=check)


def store(lab, name, key="k", check=True):
    return python(lab, f"snapshots.store({name!r}, {key!r}, ['kept'], stop_seconds=0)", check)


def reusable(lab, name, key="k"):
    return python(lab, f"print(snapshots.reusable({name!r}, {key!r}))") == "True"


def test_another_host_starts_where_the_kept_one_stopped(lab, kept):
    store(lab, "whole")
    assert reusable(lab, "whole")
    assert not reusable(lab, "whole", "other content")
    image = python(lab, "print(snapshots.restore('whole', 'k', 'other')[0])")
    lab("run", "--", "podman", "run", "--detach", "--privileged", "--name", "other", "--volume", "other-opt:/opt", image)
    look = "cat /etc/mark /opt/a/mark; stat -c '%u %g %a %h' /opt/a/twin; stat -c %F /opt/a/pipe; md5sum </opt/a/large"
    lab("run", "--", "podman", "start", "kept")
    there, here = (lab("run", "--", "podman", "exec", host, "sh", "-c", look) for host in ("other", "kept"))
    assert there == here
    assert there.splitlines()[:4] == ["root", "opt", "1234 5678 640 2", "fifo"]


@pytest.mark.parametrize("broken", ["image", "copy", "description", "age"])
def test_a_broken_or_old_one_is_not_used(lab, kept, broken):
    store(lab, "broken")
    assert reusable(lab, "broken")
    place = lab.directory / "snapshots" / "broken@k"
    match broken:
        case "image":
            lab("run", "--", "podman", "image", "rm", "--force", "localhost/senex-lab/snapshot-broken-kept:k")
        case "copy":
            (place / "kept" / "opt").rename(place / "kept" / "gone")
        case "description":
            (place / "snapshot.json").write_text('{"key": "k", "ho', encoding="utf-8")
        case "age":
            text = (place / "snapshot.json").read_text(encoding="utf-8")
            (place / "snapshot.json").write_text(text.replace('"made": 1', '"made": 0'), encoding="utf-8")
    assert not reusable(lab, "broken")
    store(lab, "broken")
    assert reusable(lab, "broken")


def test_a_kill_in_the_middle_leaves_nothing_that_looks_whole(lab, kept):
    store(lab, "killed", "before")
    command = [CODE / "lab", "run", "--", "python3", "-c", STORE + "snapshots.store('killed', 'after', ['kept'], stop_seconds=0)"]
    process = subprocess.Popen(command, env=lab.environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    large = lab.directory / "snapshots" / ".killed@after.partial" / "kept" / "opt" / "a" / "large"
    end = time.monotonic() + 60
    while not large.exists():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    # The one of other content stays
    assert reusable(lab, "killed", "before") and not reusable(lab, "killed", "after")
    store(lab, "killed", "after")
    assert reusable(lab, "killed", "after")


def test_two_checkouts_keep_a_snapshot_each(lab, kept):
    store(lab, "shared", "one")
    lab("run", "--", "podman", "start", "kept")
    lab("run", "--", "podman", "exec", "kept", "sh", "-c", "rm /opt/a/large; echo changed >/opt/a/mark")
    for key in ("two", "three", "four"):
        store(lab, "shared", key)
    assert all(reusable(lab, "shared", key) for key in ("one", "two", "three", "four"))
    for key, mark in (("one", "opt"), ("two", "changed")):
        python(lab, f"print(snapshots.restore('shared', {key!r}, 'other'))")
        place = lab("run", "--", "podman", "volume", "inspect", "--format", "{{.Mountpoint}}", "other-opt").strip()
        assert Path(place, "a", "mark").read_text().strip() == mark
    assert "snapshot shared is stale" in python(lab, "snapshots.restore('shared', 'of other files', 'other')", check=False)
    store(lab, "shared", "five")
    assert not reusable(lab, "shared", "one") and reusable(lab, "shared", "two")


def test_a_full_disk_is_said_and_leaves_nothing(lab, kept):
    # Where nothing runs the lab makes its mounts anew, and this one would be gone
    create(lab, "keeper")
    place = lab.directory / "snapshots"
    place.mkdir(exist_ok=True)
    lab("run", "--", "mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(place))
    try:
        assert "No space left on device" in store(lab, "full", check=False)
        assert python(lab, "import os; print(os.listdir(snapshots.PLACE))") == "[]"
        assert not reusable(lab, "full")
    finally:
        lab("run", "--", "umount", str(place))
        lab("run", "--", "podman", "rm", "--force", "--time", "0", "keeper")
    store(lab, "full")
    assert reusable(lab, "full")


def test_of_two_runs_at_once_one_makes_it_and_the_other_waits(lab, kept):
    command = [CODE / "lab", "run", "--", "python3", "-c", STORE + MAKE]
    both = [
        subprocess.Popen(command, env=lab.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for _ in range(2)
    ]
    assert sorted(process.communicate(timeout=60)[0].strip() for process in both) == ["made", "reused"]
    assert reusable(lab, "twice")
    assert "kept" not in running(lab)
    assert IMAGE in lab("run", "--", "podman", "images", "--format", "{{.Repository}}:{{.Tag}}")
