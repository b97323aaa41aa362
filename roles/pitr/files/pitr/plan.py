"""What a restore would take: the moment, the base backup and the WAL."""

from __future__ import annotations

import dataclasses
import datetime
import shutil

from pitr import programs, wal
from pitr.jobs import PitrError, Unverified, iso
from pitr.programs import Base
from pitr.settings import Settings

LATEST = "latest"
LITTLE = 64 << 20  # bytes: a server that starts recycles no WAL yet


@dataclasses.dataclass(frozen=True)
class Plan:
    """A restore before it is made."""

    until: datetime.datetime | None
    base: Base
    chain: list[wal.Segment]

    @property
    def until_text(self) -> str | None:
        """The moment as PostgreSQL takes it, in UTC; None for the end of the archive."""
        return self.until and self.until.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S.%f")

    def lines(self) -> list[str]:
        """For a person."""
        megabytes = self.base.bytes // 1024**2
        return [
            f"restore to:   {self.until_text + ' UTC' if self.until else 'the end of the archive'}",
            f"base backup:  {self.base.name}, {megabytes} MB, taken until {iso(self.base.end_time)}, timeline {self.base.timeline}",
            f"WAL:          {len(self.chain)} segments, {self.chain[0].name} to {self.chain[-1].name}{', still being written' * self.chain[-1].partial}",
        ]


def moment(text: str) -> datetime.datetime | None:
    """A moment with its time zone, or None for latest."""
    if text == LATEST:
        return None
    try:
        parsed = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise PitrError(f"--to {text}: write latest, or a time such as '2026-11-21 12:00:00+00'") from None
    if parsed.tzinfo is None:
        raise PitrError(f"--to {text}: say which time zone, such as '{text}+00' for UTC")
    if parsed > datetime.datetime.now(datetime.UTC):
        raise PitrError(f"--to {text}: lies in the future; write latest for the end of the archive")
    return parsed


def choose(settings: Settings, to: str, name: str | None = None) -> tuple[datetime.datetime | None, Base]:
    """The newest base backup that ended before the moment."""
    until = moment(to)
    there = programs.catalogue(settings)
    if not there:
        raise PitrError(f"there is no base backup in {settings.barman_server}; 'pitr base' makes one, the off-site copy may hold some")
    if name:
        there = [item for item in there if item.name == name]
        if not there:
            raise PitrError(f"there is no base backup {name}; 'pitr list' names those there are")
    stamp = until.timestamp() if until else None
    usable = [item for item in there if stamp is None or item.end_time <= stamp]
    if not usable:
        raise PitrError(f"--to {to}: the oldest base backup was complete at {iso(there[0].end_time)}; no earlier moment can be restored")
    timeline = wal.running_timeline(settings) if stamp is None else wal.timeline_at(settings, stamp)
    found = None
    for item in reversed(usable):
        found = programs.base(settings, item)
        if name or timeline in (None, found.timeline):
            return until, found
    raise PitrError(
        f"--to {to}: the database {'is' if stamp is None else 'was then'} on timeline {timeline}, which began with a restore, and no base backup of it "
        f"was complete by then: 'pitr base' takes one of now; --base (restore_base) takes another timeline, such as {usable[-1].name}"
    )


def plan(settings: Settings, to: str, name: str | None = None) -> Plan:
    """The newest base backup that ended before the moment, of the timeline that the database was on, and the WAL from it on."""
    until, chosen = choose(settings, to, name)
    return Plan(until, chosen, wal.needed(settings, chosen, until.timestamp() if until else None))


def no_room(where: str) -> str:
    """What a server that did not start may lack: of its own words, systemd passes on none."""
    free = shutil.disk_usage(where).free
    return f"{where} has {free // 1024**2} MB free: make room, and PostgreSQL starts by itself" if free < LITTLE else ""


def check_space(where: str, wanted: int, what: str) -> None:
    """A full disk would stop the database that still runs."""
    free = shutil.disk_usage(where).free
    if free < wanted:
        raise Unverified(f"{what} needs {wanted // 1024**2} MB in {where}, and {free // 1024**2} MB are free: make room first")
