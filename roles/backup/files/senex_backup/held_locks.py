"""Who holds the lock that a restic waits for, and whether that one still lives.

A living restic writes its lock anew every five minutes, under another name. Of another host nobody can see whether it runs, so restic lets its lock count for
half an hour, which is long for copies of WAL.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import subprocess
import time
from collections.abc import Callable

DEAD = 660  # seconds after which a lock under the same name has missed two renewals
STALE = datetime.timedelta(minutes=30)  # how long restic lets the lock of another host count
HELD = 11  # restic's exit code where somebody else has the lock, since 0.17


@dataclasses.dataclass(frozen=True)
class Holder:
    """A lock, as restic shows it."""

    id: str
    written: datetime.datetime
    exclusive: bool
    who: str

    @classmethod
    def of(cls, identity: str, text: str) -> Holder:
        """What `restic cat lock` prints; an error where it is no lock."""
        found = json.loads(text)
        written = datetime.datetime.fromisoformat(found["time"]).astimezone(datetime.UTC)
        return cls(identity, written, bool(found.get("exclusive")), f"restic (process {found['pid']}) of host {found['hostname']}")


class Wait:
    """One command's wait for a lock: what it saw, and since when."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.clock, self.began = clock, clock()
        self.seen: dict[str, float] = {}

    def lasted(self) -> float:
        """Seconds since it began."""
        return self.clock() - self.began

    def dead(self, holders: list[Holder]) -> Holder | None:
        """One that has not renewed its lock for as long as no living restic would take, of those that are waited for."""
        now = self.clock()
        self.seen = {one.id: self.seen.get(one.id, now) for one in holders}
        # Who waits for an exclusive lock waits for nothing else
        waited_for = [one for one in holders if one.exclusive] or holders
        return next((one for one in waited_for if now - self.seen[one.id] >= DEAD), None)


def is_why(result: subprocess.CompletedProcess) -> bool:
    """Whether restic ended because somebody else has the lock."""
    return result.returncode == HELD or (result.returncode == 1 and "already locked" in result.stderr)


def holds(one: Holder) -> str:
    """Who has the lock, for a person."""
    return f"{one.who} has locked the repository{' exclusively' if one.exclusive else ''}, last renewed {one.written:%H:%M:%S} UTC"


def ended(one: Holder) -> str:
    """That the holder is dead by all that can be seen from here, and the way out."""
    return (
        f"{holds(one)}. A living restic renews its lock every 5 minutes, so that one was ended or its host is gone. A job that begins after "
        f"{one.written + STALE:%H:%M} UTC removes the lock. To end it now, when no restic runs on that host: senex backup restic unlock --remove-all"
    )
