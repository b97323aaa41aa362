"""Backups, data and the engine's state on file systems of their own, which can be filled: to fill the test machine's would fill everybody's."""

import contextlib
import shlex

from stack import HOME, UID, wait

PLACES = {"backups": f"{HOME}/backups", "data": f"{HOME}/data", "state": "/var/lib/senex.trader"}
FILLER = ".filler"  # passed over by whoever lists a directory, and nothing of a cluster
INODES = 1000000  # one that has no limit cannot be given any later
ROOM = {"backups": 2000, "data": 2000, "state": 8}  # MB beside what there is


def mount(stack):
    """They stay until the host goes."""
    if all(stack.ssh(f"mountpoint -q {place}").returncode == 0 for place in PLACES.values()):
        return
    apart = "".join(
        f"""
mkdir -p /mnt/{name}
mount -t tmpfs -o mode=755,nr_inodes={INODES},size=$(( $(du -sm {place} | cut -f1) + {ROOM[name]} ))m {name} /mnt/{name}
cp -a {place}/. /mnt/{name}
chown --reference={place} /mnt/{name}; chmod --reference={place} /mnt/{name}
mount --bind /mnt/{name} {place}"""
        for name, place in PLACES.items()
    )
    stack.sh(f"set -e\nsystemctl stop user@{UID}.service\n{apart}\nsystemctl start user@{UID}.service", timeout=300)
    stack.ready(120)


def filling(name, leave):
    """The command that leaves so many bytes free, or no file more where that is None."""
    place = f"/mnt/{name}"
    if leave is None:
        return f"mount -o remount,nr_inodes=$(( $(df --output=iused {place} | tail -1) )) {place}"
    most = f"fallocate -l $(( $(df -B1 --output=avail {place} | tail -1) * 15 / 16 )) {place}/{FILLER} 2>/dev/null"
    return f"{most}; head -c 100G /dev/zero >>{place}/{FILLER} 2>/dev/null; truncate -s -{leave} {place}/{FILLER}"


def emptied(stack, name):
    stack.sh(f"rm -f /mnt/{name}/{FILLER}; mount -o remount,nr_inodes={INODES} /mnt/{name}")


@contextlib.contextmanager
def full(stack, name, leave=0):
    """A disk that is full in the body."""
    stack.sh(filling(name, leave))
    try:
        yield
    finally:
        emptied(stack, name)


@contextlib.contextmanager
def filled_at(stack, name, moment, leave=0):
    """A disk that is full from a moment on, which a command on the host finds."""
    watch = f"for _ in $(seq 20000); do if {moment}; then {filling(name, leave)}; exit; fi; sleep 0.01; done; exit 1"
    stack.sh(f"systemd-run --quiet --unit=filler --property=Type=exec bash -c {shlex.quote(f'{{ {watch}; }} >/dev/null 2>&1')}")
    try:
        yield
        wait(
            lambda: "Result=success\nActiveState=inactive" in stack.sh("systemctl show --property=Result,ActiveState filler.service"), 10, "the moment has come"
        )
    finally:
        stack.ssh("systemctl stop filler.service; systemctl reset-failed filler.service")
        emptied(stack, name)
