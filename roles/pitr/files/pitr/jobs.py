"""One run of a job: alone, and its result in a file that the watchdog and the status page read."""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import json
import os
import sys
import time
from collections.abc import Callable, Iterator

from pitr import owned
from pitr.settings import Settings

JOBS = ("base", "wal", "drill")
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
    record = {"job": job, "result": "never", "started": None, "finished": None, "seconds": None, "bytes": None, "what": None, "error": None}
    record |= fields | {"max_age_seconds": max_age(settings, job)}
    os.makedirs(settings.status, mode=0o700, exist_ok=True)
    path = os.path.join(settings.status, f"{job}.json")
    part = f"{path}.{os.getpid()}"
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as handle:
            json.dump(record, handle, indent=1)
            handle.write("\n")
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)  # a full disk would get one a minute
        raise


def read(settings: Settings, job: str) -> dict:
    """What the job's status file says."""
    try:
        with open(os.path.join(settings.status, f"{job}.json"), encoding="utf-8") as handle:
            return json.load(handle)
    except (OSError, ValueError):
        return {}


def never(settings: Settings) -> None:
    """Say of each job that has no status yet that it never ran."""
    for job in JOBS:
        if not os.path.exists(os.path.join(settings.status, f"{job}.json")):
            write(settings, job)


@contextlib.contextmanager
def alone(settings: Settings, name: str, wait: float = 0) -> Iterator[None]:
    """Not twice at once; the kernel lets go of the lock when the process dies. `wait`: seconds that a second one is patient."""
    os.makedirs(settings.status, mode=0o700, exist_ok=True)
    with open(os.path.join(settings.status, f".{name}.lock"), "w", encoding="utf-8") as handle:
        end, told = time.monotonic() + wait, False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise PitrError(f"{name} is running already; wait for its end") from None
                if not told:
                    print(f"{name} is running already: waiting for its end, {wait:.0f} s at most", file=sys.stderr, flush=True)
                    told = True
                time.sleep(0.2)
        yield


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


def printable(text: str) -> str:
    """Names and messages of others reach a terminal and the journal as nothing but words."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "?" for letter in text)


def say(text: str) -> None:
    """A line for the person and for the journal."""
    print(printable(text), flush=True)


def complain(text: str) -> None:
    """A line that the journal files under errors."""
    # systemd takes the number for the priority; a person need not see it
    prefix = "<3>" if "JOURNAL_STREAM" in os.environ else ""
    print(f"{prefix}pitr: {printable(text)}", file=sys.stderr, flush=True)
