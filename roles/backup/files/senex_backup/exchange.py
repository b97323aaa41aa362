"""Files of Redis or media taken back from a copy: laid beside what is in use, then both exchanged within the directory.

The directory itself stays, so it may be a mount point, and whoever has it mounted sees the new files. What was in it is kept in a directory that
nobody but the service user enters. Called in the user namespace: the files belong to users of containers.
"""

from __future__ import annotations

import json
import os
import re
import shutil

from senex_backup import dump_file, media, owned, redis
from senex_backup.common import Settings, Trouble, say

# In the directory itself: what waits to be put in place, what is being put in place, and what was there before
READY, COMING, ASIDE = ".restored-", ".coming-", ".before-restore-"
STAMP = re.compile(r"\d{8}T\d{6}Z")
STAYS = {"lost+found"}


def place(settings: Settings, kind: str) -> str:
    """The directory in use."""
    return os.path.join(settings.home, settings[kind]["directory"])


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


def sweep(settings: Settings, directory: str) -> None:
    """Of restores that were killed before anything was exchanged. Without the mark it may be what was kept aside and was to be put back: it stays kept."""
    for name in os.listdir(directory):
        if own(name) and name.startswith(READY):
            path = os.path.join(directory, name)
            if owned.marked(path) or not os.listdir(path):
                remove(settings, path)
            else:
                os.rename(path, os.path.join(directory, ASIDE + name.removeprefix(READY)))


def bring(settings: Settings, wanted: dict) -> None:
    """The copy's files, beside those in use; each is what was once copied."""
    directory = place(settings, wanted["kind"])
    finish(directory)
    sweep(settings, directory)
    ready = owned.begin(os.path.join(directory, READY + wanted["stamp"]))
    try:
        if wanted["kind"] == "media":
            media.rsync(f"{wanted['path']}/files/", f"{ready}/")
            media.compare(wanted["path"], ready)
            os.chown(ready, 0, 0)
            os.chmod(ready, 0o700)
        else:
            owner = os.stat(directory)
            target = os.path.join(ready, "dump.rdb")
            shutil.copyfile(wanted["path"], target)
            redis.without_mark(target)  # copies of before have it
            os.chmod(target, 0o600)
            os.chown(target, owner.st_uid, owner.st_gid)
        os.sync()
    except BaseException:
        remove(settings, ready)
        raise


def swap(settings: Settings, wanted: dict) -> None:
    """What is ready takes the place of what is in use, which is kept aside."""
    directory = place(settings, wanted["kind"])
    finish(directory)
    ready = os.path.join(directory, READY + wanted["stamp"])
    if wanted.get("empty"):
        owned.begin(ready)
    comes = os.path.join(directory, f".{wanted['back']}") if wanted.get("back") else ready
    if not os.path.isdir(comes):
        raise Trouble(f"{comes} is not there: begin the restore again")
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
    there = set(os.listdir(directory))
    for name in sorted(there):
        stamp = name.removeprefix(READY)
        if name.startswith(READY) and own(name) and ASIDE + stamp in there:
            move([entry for entry in os.listdir(directory) if not own(entry) and entry not in STAYS], directory, os.path.join(directory, ASIDE + stamp))
            owned.unmark(os.path.join(directory, name))
            os.rename(os.path.join(directory, name), os.path.join(directory, COMING + stamp))
            dump_file.sync(directory)
    for name in sorted(os.listdir(directory)):
        if name.startswith(COMING) and own(name):
            move(os.listdir(os.path.join(directory, name)), os.path.join(directory, name), directory)
            os.rmdir(os.path.join(directory, name))
            dump_file.sync(directory)


def move(names: list[str], source: str, target: str) -> None:
    for name in names:
        os.rename(os.path.join(source, name), os.path.join(target, name))
    dump_file.sync(source)
    dump_file.sync(target)


def proof(_settings: Settings, wanted: dict) -> None:
    """A copy of media is what was once copied; how much that is."""
    media.verify(wanted["path"])
    sizes = [os.path.getsize(os.path.join(wanted["path"], name)) for name in media.read_sums(wanted["path"])]
    say(json.dumps({"files": len(sizes), "bytes": sum(sizes)}))


def show(settings: Settings, wanted: dict) -> None:
    """What earlier restores put aside."""
    say(json.dumps(kept(settings, wanted["kind"])))


STEPS = {"show": show, "proof": proof, "bring": bring, "swap": swap}
