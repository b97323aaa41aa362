"""Directories that this program makes and removes again, by the collection's own rules (owned.py): their files may be the container user's."""

from __future__ import annotations

import json
import os

from senex_host import owned

from pitr.jobs import PitrError
from pitr.programs import as_container_user, last_words, podman, run
from pitr.settings import Settings

MARK = owned.MARK


def data(settings: Settings) -> list[str]:
    """What nothing that is removed may be, hold or lie in, beside what is so everywhere."""
    return [settings.data, settings.archive, settings.sockets, settings.status]


def named(settings: Settings, text: str) -> str:
    """The directory that a person means: a name alone lies beside the data, wherever it is typed."""
    return os.path.abspath(os.path.join(os.path.dirname(settings.data), text))


def new_copy(settings: Settings, directory: str) -> None:
    """Raise a PitrError unless a copy may be made there, where it can be put in place, and removed again, by name."""
    if not directory.startswith(f"{settings.data}.") or os.path.dirname(directory) != os.path.dirname(settings.data):
        raise PitrError(f"--into {directory}: a copy lies beside the data, under its name and one of yours, such as {settings.data}.rows")
    refuse(settings, directory)


def refuse(settings: Settings, directory: str) -> None:
    """Raise a PitrError unless a directory may be one that this program removes."""
    try:
        owned.refuse(settings.home, directory, data(settings))
    except owned.Refused as refused:
        raise PitrError(str(refused)) from None


def begin(settings: Settings, directory: str) -> str:
    """A new directory that may be removed; one that is left of a run that was killed goes first."""
    remove(settings, directory)
    refuse(settings, directory)
    return owned.begin(directory)


def note(directory: str, about: dict) -> None:
    """Write the mark of a directory that may be the container user's already; what is known of it."""
    run("podman", "unshare", *owned.words("mark", directory, about))


def noted(directory: str) -> dict | None:
    """What the mark says; nothing where there is none."""
    said = read(os.path.join(directory, MARK))
    try:
        found = json.loads(said) if said is not None else None
        return found if isinstance(found, dict | None) else {}
    except (ValueError, RecursionError):
        return {}


def read(path: str) -> str | None:
    """A small file of the container user's; nothing where there is none, or something else."""
    said = run("podman", "unshare", *owned.words("read", path)).stdout
    return json.loads(said) if said else None


def clear(settings: Settings, directory: str) -> None:
    """A directory that is to stay bears no mark."""
    as_container_user(settings, *owned.words("unmark", directory))


def remove(settings: Settings, *directories: str) -> None:
    """Remove directories with the mark, or whose WAL beside them has it."""
    there = [directory for directory in directories if os.path.lexists(directory)]
    if there:
        done = run("podman", "unshare", *owned.words("remove", settings.home, *there, data=data(settings), beside=".wal"), check=False)
        if done.returncode:
            raise PitrError(last_words(done.stderr, 1))


def working_on(directory: str) -> list[str]:
    """Containers that have it mounted."""
    found = []
    for name in podman("ps", "--format", "{{.Names}}").stdout.split():
        mounts = podman("inspect", "--format", "{{range .Mounts}}{{println .Source}}{{end}}", name, check=False).stdout
        if any(owned.below(os.path.realpath(mount), os.path.realpath(directory)) for mount in mounts.split("\n") if mount):
            found.append(name)
    return found
