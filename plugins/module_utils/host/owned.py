"""Directories that the collection makes and removes again, and the one place where a directory goes.

One goes only where the collection's own mark says that it was made to go, and where it neither is, holds nor lies in anybody's data: by its real path,
and by where it lies on its file system, which a bind mount shows under another path.

Standard library alone, and no import from __future__: roles common (senex_host) and podman install this file, and the engine hands its
text to a Python in the service user's namespace, where files of the containers' users can be handled.
"""

import glob
import json
import os
import re
import shutil
import stat
import sys

MARK = ".senex-made"
MARKS = (MARK, ".senex-pitr")  # the second is of before
CHILDREN = ".senex-made-below"  # in a directory whose directories are all made by the collection, and filled by others
PYTHON = "/usr/bin/python3"
UNITS = ".config/containers/systemd"
# Below the home, wherever inputs put things beside
KEPT = (
    "backups/postgresql", "backups/redis", "backups/media", "backups/barman", "backups/status", "config", "bin", "lib", "logs", ".config", ".local", ".ssh",
    "data/postgres", "data/redis", "data/media", "data/volumes", "data/staticfiles",
)  # fmt: skip


def unmounted(witness: str, path: str) -> str:
    """Why nothing may be written to a directory of which a run of the engine has noted (kept_data.py) that it is a disk of its own; empty where it may."""
    try:
        with open(witness, encoding="utf-8", errors="replace") as handle:
            before = handle.read(100).strip()
    except FileNotFoundError:
        return ""
    try:
        if not before.endswith("apart") or os.stat(path).st_dev != os.stat("/").st_dev:
            return ""
    except FileNotFoundError:
        pass
    return f"{path} is not on its own file system, as it was: mount its disk. Where it was moved on purpose, site.yml says what to do"


class Refused(OSError):
    """Why a directory stays, in a sentence for a person."""


def begin(path: str, about: dict | None = None) -> str:
    """A new directory that may be removed again."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    os.mkdir(path, 0o700)
    mark(path, about)
    return path


def mark(path: str, about: dict | None = None, name: str = MARK) -> None:
    """Say of a directory that the collection made it."""
    write(os.path.join(path, name), json.dumps(about or {}) + "\n")


def write(path: str, text: str) -> None:
    """A file of ours in the place of whatever has its name: where somebody else may make names, that is a link, a FIFO, or a file with two names."""
    fresh = f"{path}.new"
    if os.path.lexists(fresh):
        os.unlink(fresh)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w", encoding="utf-8") as handle:
        handle.write(text)
    os.replace(fresh, path)


def read(path: str, most: int = 64 << 10) -> str | None:
    """What is in a small file of that name; nothing where there is none, or something else: whoever may make names there has it led nowhere."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None
    with open(descriptor, "rb") as handle:
        seen = os.fstat(descriptor)
        return handle.read(most).decode(errors="replace") if stat.S_ISREG(seen.st_mode) and seen.st_size <= most else None


def unmark(path: str) -> None:
    """Of a directory that is to stay."""
    for name in MARKS:
        if os.path.lexists(os.path.join(path, name)):
            os.unlink(os.path.join(path, name))


def marked(path: str, names: tuple = MARKS) -> bool:
    """Whether a directory has the mark: a file of its own, no link to somebody's."""
    return any(os.path.lexists(found := os.path.join(path, name)) and stat.S_ISREG(os.lstat(found).st_mode) for name in names)


def below(path: str, above: str) -> bool:
    """Whether a path is another, or lies in it."""
    return path == above or path.startswith(above.rstrip("/") + "/")


def mounts() -> list:
    """[(where, device, which path of it)]: a later one of the same place lies over the earlier."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape", newline="\n") as handle:
        rows = [line.split(" ") for line in handle]  # at what the kernel writes between: it leaves other white space in a name as it is
    return [(plain(row[4]), row[2], plain(row[3])) for row in rows]


def plain(text: str) -> str:
    """As the kernel writes a path, and as it is."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def physical(real: str, table: list) -> tuple:
    """(device, path on it) of a real path."""
    where, device, root = max((row for row in table if below(real, row[0])), key=lambda row: len(row[0]), default=("/", "", "/"))
    found = [row for row in table if row[0] == where]
    device, root = found[-1][1:] if found else (device, root)
    return device, os.path.normpath(f"{root}/{real[len(where) :]}").replace("//", "/")


def volumes(home: str) -> list:
    """What the service user's units mount: whatever it is, it is in use."""
    found = []
    for unit in glob.glob(os.path.join(glob.escape(home), UNITS, "**", "*.container"), recursive=True):
        if not os.path.isfile(unit):  # root waits for the end of this, and nobody writes to a FIFO
            continue
        with open(unit, encoding="utf-8", errors="surrogateescape") as handle:
            found += [path.replace("%h", home) for path in re.findall(r"^Volume\s*=\s*((?:/|%h)[^:\s]*)", handle.read(), re.MULTILINE)]
    return found


def refuse(home: str, path: str, data: list, place: str = "") -> None:
    """Raise unless a directory is one that may go. `place`: a directory of data in which it lies, and the caller puts such ones."""
    table, real = mounts(), os.path.realpath(path)
    if os.path.islink(path) or os.path.ismount(real):
        raise Refused(f"{path} is a link or a mount point: it is not removed")
    inside = [where for where, *_ in table if below(where, real)]
    if inside:
        raise Refused(f"{path} holds the mount point {inside[0]}: it is not removed")
    if not real.startswith(os.path.realpath(home) + os.sep):
        raise Refused(f"{path} is not below {home}: it is not removed")
    its_place = os.path.realpath(place) if place and os.path.dirname(real) == os.path.realpath(place) else ""
    here = physical(real, table)
    for other in [*(os.path.join(home, name) for name in KEPT), *data, *volumes(home)]:
        kept = os.path.realpath(other)
        there = physical(kept, table)
        same = there[0] == here[0]
        holds = below(kept, real) or (same and below(there[1], here[1]))
        lies = below(real, kept) or (same and below(here[1], there[1]))
        if holds or (lies and not (its_place and below(its_place, kept))):
            raise Refused(f"{path} is, holds or lies in {other}: it is not removed")


def made(path: str, beside: str = "") -> bool:
    """Whether the collection made it: by its own mark, that of the directory beside it, or that of the one above it."""
    return marked(path) or bool(beside and marked(path + beside)) or marked(os.path.dirname(path), (CHILDREN,))


def remove(home: str, *paths: str, data: list | tuple = (), place: str = "", beside: str = "") -> None:
    """Remove directories, with all that is in them. `beside`: what a directory's name goes on with where the one with the mark lies beside it."""
    for path in paths:
        if not os.path.lexists(path):
            continue
        refuse(home, path, [*data], place)
        if not made(path, beside):
            try:
                os.rmdir(path)  # made, and killed before the mark was there
            except OSError:
                raise Refused(f"{path} was not made by this program, and is not removed: move it away") from None
            continue
        # The mark goes last, so that what a kill leaves can be removed
        for name in [name for name in os.listdir(path) if name not in MARKS]:
            inner = os.path.join(path, name)
            if os.path.isdir(inner) and not os.path.islink(inner):
                shutil.rmtree(inner)
            else:
                os.unlink(inner)
        shutil.rmtree(path)


STEPS = {"remove": remove, "mark": mark, "unmark": unmark, "read": read}


def words(step: str, *arguments: str, program: str = "", **options: object) -> list:
    """The command that does a step: to be put behind `podman unshare`. `program`: where this text is; `-` for the standard input."""
    return [PYTHON, "-I", program or os.path.realpath(__file__), json.dumps([step, arguments, options])]


def main(argv: list) -> int:
    """A step in the user namespace; what it answers, if anything, as JSON."""
    step, arguments, options = json.loads(argv[0])
    try:
        answer = STEPS[step](*arguments, **options)
        if answer is not None:
            print(json.dumps(answer))
    except OSError as error:
        print(str(error), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
