"""What a move of PostgreSQL to another host remembers on each of the two, and what the control file of a stopped cluster says."""

from __future__ import annotations

import struct
from typing import NamedTuple

from ansible_collections.senex.trader.plugins.module_utils.host import fileset, untrusted
from ansible_collections.senex.trader.plugins.module_utils.host.kept_data import control
from ansible_collections.senex.trader.plugins.module_utils.host.operation_state import OperationState

NAME = "postgresql-move"
STATE = f"{NAME}.state"
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


class State(OperationState):
    """`role` is from or to; `phase` is one of the above."""

    def __init__(self, directory: str = fileset.MANIFESTS):
        super().__init__(NAME, "a move of PostgreSQL is at work on this host: wait for its end", PATIENCE, directory)


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
