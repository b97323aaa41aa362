"""Directories that this program makes and removes again. It removes those alone: each bears a mark, and none is, holds or lies in anybody's data."""

from __future__ import annotations

import json
import os

from pitr.jobs import Failure
from pitr.programs import as_container_user, run
from pitr.settings import Settings

MARK = ".senex-pitr"


def of_others(settings: Settings) -> list[str]:
    """What nothing that is removed may be, hold or lie in."""
    own = [os.path.join(settings.home, name) for name in ("backups/postgresql", "backups/redis", "backups/media", "config", "bin", "lib")]
    return [settings.data, settings.archive, settings.sockets, settings.status, *own]


def refuse(settings: Settings, directory: str) -> None:
    """Raise a Failure unless a directory may be one that this program removes."""
    real = os.path.realpath(directory)
    if os.path.islink(directory) or os.path.ismount(real):
        raise Failure(f"{directory} is a link or a mount point: it is not removed")
    if not real.startswith(os.path.realpath(settings.home) + os.sep):
        raise Failure(f"{directory} is not below {settings.home}: it is not removed")
    for other in map(os.path.realpath, of_others(settings)):
        if f"{real}/".startswith(f"{other}/") or f"{other}/".startswith(f"{real}/"):
            raise Failure(f"{directory} is, holds or lies in {other}: it is not removed")


def begin(settings: Settings, directory: str) -> str:
    """A new directory that may be removed; one that is left of a run that was killed goes first."""
    remove(settings, directory)
    refuse(settings, directory)
    os.makedirs(os.path.dirname(directory), mode=0o700, exist_ok=True)
    os.mkdir(directory, 0o700)
    with open(os.path.join(directory, MARK), "w", encoding="utf-8") as handle:
        handle.write("{}\n")
    return directory


def note(directory: str, about: dict) -> None:
    """Write the mark of a directory that may be the container user's already; what is known of it."""
    run("podman", "unshare", "/bin/sh", "-c", 'cat >"$0"', os.path.join(directory, MARK), stdin=json.dumps(about) + "\n")


def noted(directory: str) -> dict | None:
    """What the mark says; nothing where there is none."""
    done = run("podman", "unshare", "cat", os.path.join(directory, MARK), check=False)
    try:
        return json.loads(done.stdout) if done.returncode == 0 else None
    except ValueError:
        return {}


def clear(settings: Settings, directory: str) -> None:
    """A directory that is to stay bears no mark."""
    as_container_user(settings, "rm", "-f", "--", os.path.join(directory, MARK))


def remove(settings: Settings, *directories: str) -> None:
    """Remove directories with the mark, or whose WAL beside them has it. Their files may be the container user's."""
    for directory in directories:
        if not os.path.lexists(directory):
            continue
        refuse(settings, directory)
        if noted(directory) is None and noted(f"{directory}.wal") is None:
            try:
                os.rmdir(directory)  # made, and killed before the mark was there
            except OSError:
                raise Failure(f"{directory} was not made by this program, and is not removed: move it away") from None
            continue
        as_container_user(settings, "rm", "-rf", "--one-file-system", "--", directory)
