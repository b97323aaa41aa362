"""Locks in the repository that a restic left when it was killed, or when the machine lost its power.

restic takes a lock of this host for a living one while any process has the number in it, which after a boot many have, and it asks them by SIGHUP.
So each restic of this command holds a file; whoever has that file alone knows that none runs, and lets restic look where it sees no other process.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import time
from collections.abc import Iterator

from senex_backup.common import Settings

PATIENCE = 30  # seconds in which a run that sends WAL comes to its end
APART = ("/usr/bin/unshare", "--pid", "--fork", "--kill-child")  # a number of a process means nothing in there


def _file(settings: Settings) -> int:
    return os.open(os.path.join(settings.status, ".restic.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def held(settings: Settings) -> int:
    """A descriptor for a restic to inherit: it may outlive whoever started it."""
    descriptor = _file(settings)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


@contextlib.contextmanager
def none_runs(settings: Settings) -> Iterator[bool]:
    """Whether no restic of this host runs; while that is so, none of this command begins."""
    descriptor, end, mine = _file(settings), time.monotonic() + PATIENCE, False
    try:
        while not mine and time.monotonic() < end:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                mine = True
            except BlockingIOError:
                time.sleep(0.2)
        yield mine and not by_hand()
    finally:
        os.close(descriptor)


def by_hand(proc: str = "/proc") -> bool:
    """Whether somebody runs a restic that this command did not start."""
    for path in glob.glob(f"{proc}/[0-9]*/comm"):
        with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as handle:
            if handle.read().startswith("restic"):
                return True
    return False
