"""A dump of the database in a file: written, proven whole, named, kept for its time.

Standard library alone: role backup installs this file on the host beside its command, and a release uses it where that role is not.
"""

from __future__ import annotations

import calendar
import contextlib
import gzip
import hashlib
import json
import os
import re
import subprocess
import tempfile
import time
import zlib
from collections.abc import Callable
from typing import IO

NAME = re.compile(r"(?P<reason>daily|pre-deploy|manual)-(?P<when>\d{4}-\d\d-\d\d-\d{6})\.sql\.gz")
SUFFIXES = (".sha256", ".json")  # what may stand beside a dump
ENDS = b"PostgreSQL database dump complete"
LEFT_AFTER = 60  # seconds without a write after which a file under way counts as given up
BLOCK = 1 << 20
SAID = 2000  # bytes of what a command complained of, for a message
DAY = 86400
FEW = 100  # rows, or files: fewer come and go
ACCEPTED = "accepted"  # beside the backups; its time counts


def command(container: str, role: str, target: str, *options: str) -> list[str]:
    """pg_dump in the container, by its socket: who may exec there needs no password."""
    return ["/usr/bin/podman", "exec", container, "pg_dump", "--username", role, "--no-password", "--dbname", target, *options]


def path_for(directory: str, reason: str, now: float | None = None) -> str:
    """Where a dump of now goes; an older one is never overwritten, whatever the clock says."""
    path = os.path.join(directory, f"{reason}-{time.strftime('%Y-%m-%d-%H%M%S', time.gmtime(now))}.sql.gz")
    if os.path.exists(path):
        raise FileExistsError(f"{path} is there already: is the clock right?")
    return path


def write(path: str, argv: list[str], details: Callable[[], dict] = dict, **process: object) -> dict:
    """Run argv and keep what it prints at `path`, which has its name only when it is whole. `details` are written beside it."""
    began = time.monotonic()
    parts = {suffix: f"{path}{suffix}.part" for suffix in ("", *SUFFIXES)}
    try:
        size = compress_stream(open_exclusive(parts[""]), argv, process)
        digest = verify_complete(parts[""])
        facts = {**details(), "bytes": os.path.getsize(parts[""]), "uncompressed_bytes": size, "sha256": digest}
        write_small_file(parts[".sha256"], f"{digest}  {os.path.basename(path)}\n")
        write_small_file(parts[".json"], json.dumps({"dump": os.path.basename(path), **facts}, indent=1, sort_keys=True) + "\n")
        for suffix in (*SUFFIXES, ""):  # the dump itself last: whoever sees it sees what belongs to it
            os.rename(parts[suffix], f"{path}{suffix}")
        sync(os.path.dirname(path))
    except BaseException:
        for part in parts.values():
            with contextlib.suppress(OSError):
                os.unlink(part)
        raise
    return {**facts, "path": path, "seconds": round(time.monotonic() - began, 1)}


def open_exclusive(path: str):
    """A new file for its owner alone."""
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def write_small_file(path: str, text: str) -> None:
    """A small file, on the disk when this returns."""
    with open_exclusive(path) as handle:
        handle.write(text.encode())
        handle.flush()
        os.fsync(handle.fileno())


def sync(directory: str) -> None:
    """What was renamed in a directory survives a loss of power."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def errors_apart() -> IO[bytes]:
    """Where a command writes what it complains of, while something else of it is read: a pipe would be full some day, and the command wait for ever."""
    return tempfile.TemporaryFile()


def last_words(errors: IO[bytes]) -> str:
    """The end of what was written there."""
    errors.seek(max(0, errors.seek(0, os.SEEK_END) - SAID))
    return errors.read().decode(errors="replace").strip()


def compress_stream(raw, argv: list[str], process: dict) -> int:
    """Compress what a command prints into an open file, down to the disk; how much it was."""
    size, tail = 0, b""
    with raw, errors_apart() as errors, subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, **process) as dumping:
        try:
            with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1, mtime=0) as packed:
                for block in iter(lambda: dumping.stdout.read(BLOCK), b""):
                    packed.write(block)
                    size += len(block)
                    tail = (tail + block)[-200:]
        except BaseException:
            dumping.kill()
            raise
        raw.flush()
        os.fsync(raw.fileno())
        dumping.wait()
        said = last_words(errors)
    if dumping.returncode or ENDS not in tail:
        raise OSError(f"pg_dump ended with {dumping.returncode}: {said or 'its output is not whole'}")
    return size


def verify_complete(path: str, digest: str | None = None) -> str:
    """Read a dump as it lies on the disk: its digest, when it is whole (and has the digest it should have)."""
    name = os.path.basename(path)
    found, unpacking, tail = hashlib.sha256(), zlib.decompressobj(31), b""
    with open(path, "rb") as handle:
        while block := handle.read(1 << 16):  # what it unpacks to may be a thousand times as much
            found.update(block)
            try:
                tail = (tail + unpacking.decompress(block))[-200:]
            except zlib.error as error:
                raise OSError(f"{name} is damaged: {error}") from error
    if digest is not None and found.hexdigest() != digest:
        raise OSError(f"{name} is damaged: its SHA-256 is not the one in {name}.sha256")
    if not unpacking.eof or unpacking.unused_data:
        raise OSError(f"{name} is damaged: it {'goes on after its end' if unpacking.eof else 'ends too early'}")
    if ENDS not in tail:
        raise OSError(f"{name} does not end as a dump does")
    return found.hexdigest()


def verify(path: str) -> None:
    """Raise an error that names the file unless the dump is what was once written."""
    with contextlib.suppress(FileNotFoundError), open(f"{path}.sha256", encoding="ascii", errors="replace") as handle:
        verify_complete(path, handle.read(64))
        return
    verify_complete(path)


def timestamp_of(name: str) -> float:
    """When a dump was made, in seconds since 1970, by its name."""
    return float(calendar.timegm(time.strptime(NAME.fullmatch(name)["when"], "%Y-%m-%d-%H%M%S")))


def dumps(directory: str, reason: str | None = None) -> list[str]:
    """Names of the dumps of a reason, oldest first."""
    found = [name for name in os.listdir(directory) if (match := NAME.fullmatch(name)) and reason in (None, match["reason"])]
    return sorted(found, key=lambda name: name[-24:])


def outlived(made: dict[str, float], days: int, spare: str) -> list[str]:
    """Names of backups that are older than `days`. None where that would be all but `spare`, which was just made, and those of the future.

    A clock that is ahead makes every good one look old; one that was ahead has left a backup that would be the newest for years. After a
    host was off for long, the next run but one removes what is old.
    """
    now = time.time()
    others = [name for name, at in made.items() if name != spare and at <= now + DAY]
    gone = [name for name in others if now - made[name] >= days * DAY]
    return [] if spare and len(gone) == len(others) else gone


def newest(made: dict[str, float]) -> str | None:
    """The newest backup that is not of the future, if there is one."""
    now = time.time()
    there = [name for name, at in made.items() if at <= now + DAY] or list(made)
    return max(there, key=lambda name: (made[name], name), default=None)


def facts(path: str) -> dict:
    """What was written beside a dump; nothing where it is an old one."""
    try:
        with open(f"{path}.json", encoding="utf-8") as handle:
            return json.load(handle)
    except (OSError, ValueError):
        return {}


def fell(before: int, now: int) -> bool:
    """Whether there is so much less that it may be another site: less than half, of a number that is not small."""
    return before >= FEW and now * 2 < before


def accepted(directory: str) -> float:
    """Until when backups may hold more than those that come after: somebody has said that what was there is gone for good."""
    try:
        return os.stat(os.path.join(directory, ACCEPTED)).st_mtime
    except FileNotFoundError:
        return 0.0


def richer(directory: str, spare: str) -> list[str]:
    """Dumps that hold far more than the one that was just made, which may be of an empty site: they are all that is left of the other."""
    now, since = facts(spare).get("tables"), accepted(directory)
    if now is None:
        return []
    found = []
    for name in dumps(directory):
        had = facts(os.path.join(directory, name)).get("tables") or {}
        if name != os.path.basename(spare) and timestamp_of(name) > since and fell(sum(had.values()), sum(now.values())):
            found.append(name)
    return found


def prune(directory: str, reason: str, days: int = 0, keep: int = 0, spare: str = "") -> list[str]:
    """Remove dumps of a reason that are older than `days` and not among the newest `keep`; `spare`, just proven whole, and the newest never;
    nor those that hold far more than `spare`.

    What killed runs left of theirs goes too.
    """
    now = time.time()
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        alone = name.endswith(SUFFIXES) and not os.path.exists(path.rpartition(".")[0])
        # One that still grows may be of a release whose controller died a moment ago
        if name.startswith(f"{reason}-") and (name.endswith(".part") or alone):
            with contextlib.suppress(FileNotFoundError):
                if now - os.path.getmtime(path) > LEFT_AFTER:
                    os.unlink(path)
    found = dumps(directory, reason)
    old = set(outlived({name: timestamp_of(name) for name in found}, days, os.path.basename(spare))) if days else set(found)
    kept = {*found[-max(1, keep) :], os.path.basename(spare), *(richer(directory, spare) if spare else [])}
    gone = [name for name in found if name in old and name not in kept]
    for name in gone:
        for suffix in ("", *SUFFIXES):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(directory, name + suffix))
    return gone
