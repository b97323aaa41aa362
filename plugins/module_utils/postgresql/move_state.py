"""What a move of PostgreSQL to another host remembers on each of the two, and what the control file of a stopped cluster says."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import struct
import time
from typing import NamedTuple

from ansible_collections.senex.trader.plugins.module_utils.host import fileset, untrusted
from ansible_collections.senex.trader.plugins.module_utils.host.kept_data import control

STATE, LOCK = "postgresql-move.state", "postgresql-move.lock"
PATIENCE = 20  # seconds for the process of a run that died to end
# Of the host that is left, and of the host that it goes to
JOINING = "joining"  # both: a standby is made, or follows
STOPPING = "stopping"  # left: it is stopped, or may be
MOVED = "moved"  # left: it is closed, and its data lies where it was
PROMOTING = "promoting"  # goes to: from here on it is the one that serves
SHUT_DOWN = 1  # DB_SHUTDOWNED of pg_control


class Control(NamedTuple):
    """What `pg_control` begins with, in every version from 9.4 on."""

    cluster: str
    state: int
    checkpoint: int
    timeline: int


class State:
    """A file of root's own. `role` is from or to; `phase` is one of the above."""

    def __init__(self, directory: str = fileset.MANIFESTS):
        self.directory = directory
        self.data: dict = {}
        self.read()

    def read(self) -> None:
        content, _owner = fileset.read(os.path.join(self.directory, STATE))
        self.data = json.loads(content) if content else {}

    @property
    def phase(self) -> str:
        return self.data.get("phase", "")

    def put(self, **changes: object) -> None:
        """Remember, on the disk when this returns; None forgets."""
        self.data = {name: value for name, value in {**self.data, **changes}.items() if value is not None}
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        text = json.dumps(self.data, indent=1, sort_keys=True) + "\n"
        fileset.swap([(os.path.join(self.directory, STATE), text.encode(), (0o600, os.geteuid(), os.getegid()))])

    def begin(self, **data: object) -> None:
        """Another move: nothing of an earlier one stays."""
        self.data = {}
        self.put(**data)

    @contextlib.contextmanager
    def alone(self):
        """A step of a run that was killed may be at work still."""
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        with open(os.path.join(self.directory, LOCK), "w", encoding="utf-8") as handle:
            end = time.monotonic() + PATIENCE
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > end:
                        raise OSError("a move of PostgreSQL is at work on this host: wait for its end") from None
                    time.sleep(0.2)
            self.read()
            yield


def read(directory: str = fileset.MANIFESTS) -> dict:
    """What this host remembers of a move; nothing where there was none."""
    return State(directory).data


def controlled(content: bytes | None) -> Control:
    """Of the bytes of pg_control."""
    if not content or len(content) < 52:
        raise OSError("pg_control of the data directory cannot be read: see what lies there")
    cluster, _version, _catalog, state, _time, checkpoint, _redo, timeline = struct.unpack_from("=QIIi4xqQQI", content)
    return Control(str(cluster), state, checkpoint, timeline)


def control_of(data: str) -> Control:
    """Of a data directory; a server that runs has newer figures in its memory."""
    path = control(data)
    answer = untrusted.read([path])[path]
    if trouble := untrusted.problem(answer):
        raise trouble
    return controlled(answer.get("content"))


def location(number: int) -> str:
    """As PostgreSQL writes a place in the WAL."""
    return f"{number >> 32:X}/{number & 0xFFFFFFFF:X}"
