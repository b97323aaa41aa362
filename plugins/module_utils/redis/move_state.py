"""What a move of Redis to another host remembers on each of the two."""

from __future__ import annotations

from ansible_collections.senex.trader.plugins.module_utils.host import fileset
from ansible_collections.senex.trader.plugins.module_utils.host.operation_state import OperationState

NAME = "redis-move"
PATIENCE = 60  # seconds for the process of a run that died to end its step
JOINING = "joining"  # both: a replica is made, or follows
STOPPING = "stopping"  # left: it is stopped, or may be; the other one has all, and has not been told to take over
PROMOTING = "promoting"  # left: the other one has been told to take over, or may have been
LEADING = "leading"  # left: the other one has taken over; who comes to the old place is led there, or may be
MOVED = "moved"  # left: it is closed, and its data lies where it was


class State(OperationState):
    """`role` is from or to; `phase` is one of the above."""

    def __init__(self, directory: str = fileset.MANIFESTS):
        super().__init__(NAME, "a move of Redis is at work on this host: wait for its end", PATIENCE, directory)


def read(directory: str = fileset.MANIFESTS) -> dict:
    """What this host remembers of a move; nothing where there was none."""
    return State(directory).data
