"""Files of Redis or media taken back from a copy: laid beside what is in use, then both exchanged within the directory.

The directory itself stays, so it may be a mount point, and whoever has it mounted sees the new files. What was in it is kept in a directory that
nobody but the service user enters. Called in the user namespace: the files belong to users of containers.

Those users may plant links and directories of these names, and exchange ours at any moment. So each is opened once, has to be a directory of ours, and
is worked in by its descriptor.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil

from senex_host import owned

from senex_backup import media, redis
from senex_backup.common import BackupError, Settings, say
from senex_backup.postgresql import dump_file

# In the directory itself: what waits to be put in place, what is being put in place, and what was there before
READY, COMING, ASIDE = ".restored-", ".coming-", ".before-restore-"
STAMP = re.compile(r"\d{8}T\d{6}Z")
STAYS = {"lost+found"}


def place(settings: Settings, kind: str) -> str:
    """The directory in use."""
    return os.path.join(settings.home, settings[kind]["directory"])


def places(settings: Settings, kind: str) -> list[tuple[str, str]]:
    """Each directory in use, with the part of a copy that belongs there: media has the application's volumes besides."""
    return media.sources(settings) if kind == "media" else [(place(settings, kind), "")]


def has(wanted: dict, below: str) -> bool:
    """Whether a copy has a part. One from before a volume was kept does not have that."""
    return not below or os.path.isdir(os.path.join(wanted["path"], "files", below))


def own(name: str) -> bool:
    """Whether a name is one of those above."""
    return any(name.startswith(mark) and STAMP.fullmatch(name.removeprefix(mark)) for mark in (READY, COMING, ASIDE))


def kept(settings: Settings, kind: str) -> list[str]:
    """What earlier restores put aside, oldest first, without the dot."""
    there = os.listdir(place(settings, kind)) if os.path.isdir(place(settings, kind)) else []
    return sorted(name[1:] for name in there if own(name) and name.startswith(ASIDE))


def remove(settings: Settings, path: str) -> None:
    """What was to be put in place, and was not."""
    owned.remove(settings.home, path, data=settings.data, place=os.path.dirname(path))


@contextlib.contextmanager
def ours(directory: str, name: str, at: int | None = None):
    """The descriptor of a directory in the one in use that this program made: no link, and nobody's in a container."""
    path = os.path.join(directory, name)
    try:
        found = os.open(path if at is None else name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
    except OSError as error:
        raise BackupError(f"{path} is no directory of a restore ({error.strerror}): see who made it, and move it away") from error
    try:
        if os.fstat(found).st_uid != os.geteuid():
            raise BackupError(f"{path} belongs to a user of a container, and no restore made it so: move it away")
        yield found
    finally:
        os.close(found)


def inside(descriptor: int) -> str:
    """A path into an open directory, whatever has its name by now."""
    return f"/proc/self/fd/{descriptor}"


def sweep(settings: Settings, directory: str) -> None:
    """Of restores that were killed before anything was exchanged. Without the mark it may be what was kept aside and was to be put back: it stays kept."""
    for name in os.listdir(directory):
        if own(name) and name.startswith(READY):
            path = os.path.join(directory, name)
            if os.path.islink(path) or not os.path.isdir(path):
                raise BackupError(f"{path} is no directory of a restore: see who made it, and move it away")
            if owned.marked(path) or not os.listdir(path):
                remove(settings, path)
            else:
                os.rename(path, os.path.join(directory, ASIDE + name.removeprefix(READY)))


def bring(settings: Settings, wanted: dict) -> None:
    """The copy's files, beside those in use; each is what was once copied."""
    for directory, below in places(settings, wanted["kind"]):
        if has(wanted, below):
            _bring(settings, wanted, directory, below)


def _bring(settings: Settings, wanted: dict, directory: str, below: str) -> None:
    finish(directory)
    sweep(settings, directory)
    ready = owned.begin(os.path.join(directory, READY + wanted["stamp"]))
    try:
        with ours(directory, os.path.basename(ready)) as held:
            if wanted["kind"] == "media":
                apart = [] if below else [f"--exclude=/{media.VOLUMES}/"]
                media.rsync(*apart, os.path.join(wanted["path"], "files", below, ""), f"{inside(held)}/", keep=(held,))
                media.compare(wanted["path"], inside(held), below)
                os.fchown(held, 0, 0)
                os.fchmod(held, 0o700)
            else:
                owner = os.stat(directory)
                target = os.path.join(inside(held), "dump.rdb")
                shutil.copyfile(wanted["path"], target)
                redis.without_mark(target)  # copies of before have it
                os.chmod(target, 0o600)
                os.chown(target, owner.st_uid, owner.st_gid)
        os.sync()
    except BaseException:
        remove(settings, ready)
        raise


def swap(settings: Settings, wanted: dict) -> None:
    """What is ready takes the place of what is in use, which is kept aside. Of several directories, those that an earlier run has done stay so."""
    # A copy from before a volume was kept has nothing for it, nor was anything put aside then
    there = [
        directory for directory, below in places(settings, wanted["kind"])
        if not below or (os.path.lexists(_comes(directory, wanted)) if wanted.get("back") else has(wanted, below))
    ]  # fmt: skip
    todo = [directory for directory in there if not _swapped(directory, wanted)] or there[:1]
    for directory in todo:
        if not wanted.get("empty") and not os.path.isdir(_comes(directory, wanted)):
            raise BackupError(f"{_comes(directory, wanted)} is not there: begin the restore again")
    for directory in todo:
        _swap(wanted, directory)


def _comes(directory: str, wanted: dict) -> str:
    """What is to take the place of what is in use."""
    return os.path.join(directory, f".{wanted['back']}" if wanted.get("back") else READY + wanted["stamp"])


def _swapped(directory: str, wanted: dict) -> bool:
    finish(directory)
    return os.path.isdir(os.path.join(directory, ASIDE + wanted["stamp"])) and not os.path.isdir(os.path.join(directory, READY + wanted["stamp"]))


def _swap(wanted: dict, directory: str) -> None:
    ready = os.path.join(directory, READY + wanted["stamp"])
    if wanted.get("empty"):
        owned.begin(ready)
    comes = _comes(directory, wanted)
    with ours(directory, os.path.basename(comes)):
        pass  # before anything has another name
    os.mkdir(os.path.join(directory, ASIDE + wanted["stamp"]), 0o700)
    if comes != ready:  # what an earlier restore put aside is ready as it lies; from here on the exchange has begun, and it is never one to be removed
        os.rename(comes, ready)
    dump_file.sync(directory)
    finish(directory)
    say(f"{directory} holds {wanted['name']} now; what was there is kept in {os.path.join(directory, ASIDE + wanted['stamp'])}")


def finish(directory: str) -> None:
    """An exchange that has begun goes on to its end, also after it was killed: everything is in one of the places, and the names say which.

    First all that is in use goes aside, then one rename says so, then what was ready takes its place.
    """
    with contextlib.ExitStack() as stack:
        at = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, at)
        there = set(os.listdir(at))
        for name in sorted(there):
            stamp = name.removeprefix(READY)
            if name.startswith(READY) and own(name) and ASIDE + stamp in there:
                ready, aside = (stack.enter_context(ours(directory, one, at)) for one in (name, ASIDE + stamp))
                move([entry for entry in os.listdir(at) if not own(entry) and entry not in STAYS], at, aside)
                owned.unmark(inside(ready))
                os.rename(name, COMING + stamp, src_dir_fd=at, dst_dir_fd=at)
                os.fsync(at)
        for name in sorted(os.listdir(at)):
            if name.startswith(COMING) and own(name):
                coming = stack.enter_context(ours(directory, name, at))
                move(os.listdir(coming), coming, at)
                os.rmdir(name, dir_fd=at)
                os.fsync(at)


def move(names: list[str], source: int, target: int) -> None:
    """From one open directory to another."""
    for name in names:
        os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
    os.fsync(source)
    os.fsync(target)


def proof(settings: Settings, wanted: dict) -> None:
    """A copy of media is what was once copied; how much that is."""
    media.verify(settings, wanted["path"])
    sizes = [os.path.getsize(os.path.join(wanted["path"], name)) for name in media.read_sums(wanted["path"])]
    say(json.dumps({"files": len(sizes), "bytes": sum(sizes)}))


def show(settings: Settings, wanted: dict) -> None:
    """What earlier restores put aside."""
    say(json.dumps(kept(settings, wanted["kind"])))


STEPS = {"show": show, "proof": proof, "bring": bring, "swap": swap}
