"""One run of a job: alone, and its result in a file that the watchdog and the status page read."""

from __future__ import annotations

import contextlib
import datetime
import errno
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator

from senex_host import host_layout, lock, owned, status
from senex_host.process import printable

from pitr.settings import Settings

JOBS = host_layout.RECOVERY_JOBS
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM)
PATIENCE = 900  # seconds that somebody who asks for a base backup waits for the one that is being taken


class PitrError(Exception):
    """What went wrong, in a sentence for the person on call."""


class Unverified(PitrError):
    """What was to be tried could not be tried, by no fault of any backup: the storage does not answer, the disk has no room."""


def iso(moment: float) -> str:
    """ISO 8601 in UTC."""
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str) -> float:
    """Seconds since the epoch of a time that `iso` wrote."""
    return datetime.datetime.fromisoformat(text).timestamp()


def max_age(settings: Settings, job: str) -> int:
    """Seconds after which a result of the job is stale."""
    return {"base": settings.base_max_age, "wal": settings.wal_max_age, "drill": settings.drill_max_age}[job]


def write(settings: Settings, job: str, **fields: object) -> None:
    """Replace the job's status file as a whole."""
    status.write(settings.status, job, max_age(settings, job), **fields)


def read(settings: Settings, job: str) -> dict:
    """What the job's status file says."""
    return status.read(settings.status, job) or {}


def never(settings: Settings) -> None:
    """Say of each job that has no status yet that it never ran."""
    for job in JOBS:
        if not os.path.exists(status.path(settings.status, job)):
            write(settings, job)


@contextlib.contextmanager
def alone(settings: Settings, name: str, wait: float = 0) -> Iterator[None]:
    """Not twice at once. `wait`: seconds that a second one is patient."""
    waiting = f"{name} is running already: waiting for its end, {wait:.0f} s at most"
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(lock.exclusive(settings.status, name, wait, lambda: print(waiting, file=sys.stderr, flush=True)))
        except lock.Busy:
            raise PitrError(f"{name} is running already; wait for its end") from None
        yield


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Nothing that a person at a terminal does ends this program, or what it calls, in the body: a Ctrl-C or a lost connection between the end of one database
    and the start of the other would leave none. What was typed meanwhile is forgotten.
    """
    kinds = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, kinds)
    try:
        yield
    finally:
        while signal.sigtimedwait(kinds - before, 0):
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def mounted(settings: Settings) -> None:
    """Nothing is written to an archive whose disk is not there: it would fill the root disk, and the database would let go of WAL that the disk lacks."""
    if wrong := owned.unmounted(os.path.join(settings.home, "config/pitr/place"), settings.archive):
        raise PitrError(wrong)


@contextlib.contextmanager
def run(settings: Settings, job: str, wait: float = 0, remember: Callable[[dict], dict] | None = None) -> Iterator[dict]:
    """Run a job alone. What the body puts into the record is written with the result, whatever the result is.

    `remember`: more fields, made of the record; such a job tells what failed from what could not be tried.
    """
    with alone(settings, job, wait):
        began, record = time.time(), {}
        try:
            if job in ("base", "wal"):
                mounted(settings)
            yield record
        except BaseException as error:
            words = str(error) if isinstance(error, PitrError) else f"{type(error).__name__}: {error}"
            untried = isinstance(error, Unverified) or (isinstance(error, OSError) and error.errno in NO_ROOM)
            with contextlib.suppress(OSError):  # a full disk may have no room for it either; the reason is the first one
                _end(settings, job, began, {**record, "result": "unverified" if remember and untried else "failed", "error": words}, remember)
            raise
        _end(settings, job, began, {**record, "result": "ok"}, remember)


def left(settings: Settings, name: str, remove: Callable[[], object]) -> None:
    """Remove what a killed run left, unless somebody is at it now. What cannot be removed is told, and is no failure of whoever looks."""
    with contextlib.suppress(PitrError), alone(settings, name):
        try:
            remove()
        except PitrError as failure:
            complain(str(failure))


def _end(settings: Settings, job: str, began: float, record: dict, remember: Callable[[dict], dict] | None) -> None:
    ended = time.time()
    record |= {"started": iso(began), "finished": iso(ended), "seconds": round(ended - began, 1)}
    write(settings, job, **record, **(remember(record) if remember else {}))


def renamed(source: str, target: str) -> None:
    """Give a directory another name beside its own, on the disk when this returns."""
    os.rename(source, target)
    place = os.open(os.path.dirname(target), os.O_RDONLY)
    try:
        os.fsync(place)
    finally:
        os.close(place)


def say(text: str) -> None:
    """A line for the person and for the journal."""
    print(printable(text), flush=True)


def tell(text: str) -> None:
    """The same where standard output is the answer."""
    print(printable(text), file=sys.stderr, flush=True)


def complain(text: str) -> None:
    """A line that the journal files under errors."""
    # systemd takes the number for the priority; a person need not see it
    prefix = "<3>" if "JOURNAL_STREAM" in os.environ else ""
    print(f"{prefix}pitr: {printable(text)}", file=sys.stderr, flush=True)
