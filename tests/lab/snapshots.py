"""Snapshots: stopped hosts kept as an image each and a copy of its /opt, to start others from.

Each lies in a directory NAME@KEY, where KEY is the digest of what it was made of. So two checkouts on one machine do not replace each other's.
"""

import contextlib
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import connections
from settings import DIRECTORY, IMAGE_PREFIX
from shell import LabError, lock, output, run, say, step, succeeds

PLACE = DIRECTORY / "snapshots"
# Tests look at dates (newest backup, timers that were missed), so a host must not wake after a day
OLDEST_SECONDS = 12 * 3600
LONG_STOP_SECONDS = 25
# What Podman itself may take, behind the seconds that a host has for stopping
LONGEST_STOP_SECONDS = 300
# Of one name, the newest so many stay: one of a whole set takes about 1 GB
KEPT = 4
KEY_LENGTH = 12
LONGEST_COPY_SECONDS = 600
# systemd keeps here when a timer with Persistent= fired last
STAMPS = "senex-trader/.local/share/systemd/timers"


def volume(host):
    return f"{host}-opt"


def _directory(name, key):
    return PLACE / f"{name}@{key[:KEY_LENGTH]}"


def _description(place):
    """What was written beside a finished snapshot; {} where there is none, or none that can be read."""
    try:
        found = json.loads((place / "snapshot.json").read_text(encoding="utf-8"))
        return found if isinstance(found.get("hosts"), dict) else {}
    except (OSError, ValueError, AttributeError):
        return {}


def _image_exists(identity):
    return succeeds("podman", "image", "exists", identity)


def _newest_first(name):
    """Where the snapshots of a name lie, whole or broken."""
    return sorted(PLACE.glob(f"{name}@*"), key=lambda place: _description(place).get("made", 0), reverse=True)


def reusable(name, key):
    """Whether the snapshot is there, whole, made of just this content, and fresh."""
    place = _directory(name, key)
    found = _description(place)
    return (
        bool(found)
        and found.get("key") == key
        and 0 <= time.time() - found.get("made", 0) < OLDEST_SECONDS
        and all((place / host / "opt").is_dir() and _image_exists(image) for host, image in found["hosts"].items())
    )


def _chosen(name, key):
    """(place, description) of the one with this key, else of the newest, which is said."""
    place = _directory(name, key)
    if _description(place):
        return place, _description(place)
    found = _newest_first(name)
    if not found or not _description(found[0]):
        raise LabError(f"no snapshot {name}: lab snapshot {name} makes it")
    say(f"the snapshot {name} is stale: other files than these made it; lab snapshot {name} makes it anew")
    return found[0], _description(found[0])


def hosts(name, key):
    """The names of the hosts that were kept."""
    return list(_chosen(name, key)[1]["hosts"])


def details(name, key):
    """What the maker noted, such as how long a first deploy took."""
    return _chosen(name, key)[1].get("details", {})


def store(name, key, hosts, details=None, stop_seconds=60):
    """Keep hosts of the lab as a snapshot; they are stopped for it, and stay stopped. One with the same key goes, and the oldest where there are many."""
    with step(f"snapshot {name} of {', '.join(hosts)}"):
        PLACE.mkdir(mode=0o700, parents=True, exist_ok=True)
        place = _directory(name, key)
        for other in (place, *_newest_first(name)[KEPT - 1 :]):
            remove(other)
        partial = PLACE / f".{place.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        images = {}
        try:
            for host in hosts:
                _stop(host, stop_seconds)
                reference = f"{IMAGE_PREFIX}/snapshot-{name}-{host}:{key[:KEY_LENGTH]}"
                run("podman", "commit", "--quiet", host, reference)
                images[host] = output("podman", "image", "inspect", "--format", "{{.Id}}", reference)
                (partial / host).mkdir(parents=True)
                _copy(opt_of(host), partial / host / "opt")
            description = {"key": key, "made": time.time(), "hosts": images, "details": details or {}}
            (partial / "snapshot.json").write_text(json.dumps(description), encoding="utf-8")
            # All of it is on disk before its name says that it is whole
            os.sync()
            partial.rename(place)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def _stop(host, seconds):
    """Stop a host; where that takes long, say what it waits for."""
    connections.end(host)
    # When a host shuts down its containers' name server goes at once, and a worker that looks for Redis then may wait for minutes
    run("podman", "exec", host, "systemctl", "--user", "--machine=senex@", "stop", "celery-*.service", check=False, timeout=120)
    process = subprocess.Popen(["podman", "stop", "--time", str(seconds), host], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        process.wait(LONG_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pid = output("podman", "inspect", "--format", "{{.State.Pid}}", host, check=False)
        look = "systemctl list-jobs --no-pager | grep running; ps -eo pid,user,etimes,args --sort=pid"
        say(f"{host} is slow to stop; it still has:\n" + run("nsenter", "--target", pid, "--all", "sh", "-c", look, check=False, timeout=20).stdout)
    try:
        process.wait(seconds + LONGEST_STOP_SECONDS)
    except subprocess.TimeoutExpired as error:
        process.kill()
        raise LabError(f"no answer in {error.timeout} s from: podman stop {host}") from error
    if process.returncode:
        raise LabError(f"exit {process.returncode} from: podman stop {host}")


def remove(place):
    """Forget a snapshot: its name first, so that a kill here leaves nothing that looks whole."""
    found = _description(place)
    with contextlib.suppress(FileNotFoundError):
        gone = PLACE / f".{place.name}.gone"
        shutil.rmtree(gone, ignore_errors=True)
        place.rename(gone)
        shutil.rmtree(gone)
    for image in found.get("hosts", {}).values():
        run("podman", "image", "rm", "--force", image, check=False)


def forget_unknown(names):
    """Remove what no recipe makes any more, what is too old to be used, and what a killed run left."""
    for path in PLACE.iterdir() if PLACE.exists() else ():
        name, at, key = path.name.partition("@")
        if name.startswith("."):
            # Another run may be writing it, or removing it
            if time.time() - path.stat().st_mtime > LONGEST_COPY_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
        elif not at or name not in names or not 0 <= time.time() - _description(path).get("made", 0) < OLDEST_SECONDS:
            remove(path)


def opt_of(host):
    """Where the container's volume at /opt lies."""
    mounts = json.loads(output("podman", "inspect", "--format", "{{json .Mounts}}", host))
    return Path(next(mount["Source"] for mount in mounts if mount["Destination"] == "/opt"))


def _copy(source, target):
    target.mkdir(parents=True, exist_ok=True)
    # Extended attributes too: rootless overlay keeps its whiteouts there
    run("cp", "--archive", f"{source}/.", target, timeout=LONGEST_COPY_SECONDS)


def restore(name, key, host, kept=None):
    """Fill the volume of a host that is still to be made; (image to make it from, name of the kept host). `kept`: which one, where there are several."""
    source, found = _chosen(name, key)
    kept = kept or next(iter(found["hosts"]))
    if kept not in found["hosts"]:
        raise LabError(f"snapshot {name} has no host {kept}; it has {', '.join(found['hosts'])}")
    with step(f"host {host} from snapshot {name}"):
        run("podman", "volume", "rm", "--force", volume(host), check=False)
        run("podman", "volume", "create", volume(host))
        place = Path(output("podman", "volume", "inspect", "--format", "{{.Mountpoint}}", volume(host)))
        _copy(source / kept / "opt", place)
        for stamp in (place / STAMPS).glob("stamp-*"):
            os.utime(stamp)
    return found["hosts"][kept], kept


@contextlib.contextmanager
def making(name):
    """Held while a snapshot is looked for and made: of two runs at once the second waits, and finds it."""
    with lock(f"snapshot-{name}.lock", timeout=3600):
        yield
