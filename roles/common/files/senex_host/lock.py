"""One run of something at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator

POLL = 0.2  # seconds between two tries


class Busy(Exception):
    """Somebody else has the lock, and did not give it up in time."""


@contextlib.contextmanager
def exclusive(directory: str, name: str, wait: float = 0, waiting: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Hold the lock of a name. A second one waits for so many seconds, and calls `waiting` once before; the kernel lets go of a process that dies."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    with open(os.path.join(directory, f".{name}.lock"), "w", encoding="utf-8") as handle:
        end, told = time.monotonic() + wait, False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise Busy(name) from None
                if not told:
                    waiting()
                    told = True
                time.sleep(POLL)
        yield
