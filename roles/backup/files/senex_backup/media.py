"""Copies of uploaded media, and of the application's volumes that are to be kept: a directory each time, in which what did not change is a hard link to
the copy before.

Runs inside the user namespace (`podman unshare`), for the files belong to the container's user.
"""

from __future__ import annotations

import calendar
import contextlib
import hashlib
import os
import re
import stat
import subprocess
import sys
import time

from senex_host import owned

from senex_backup.common import PODMAN, BackupError, Settings, need, say
from senex_backup.postgresql import dump_file

WHAT = "copy uploaded media"
DIRECTORY = "media"
UNFINISHED = ("*.part", "*.gone")
NAME = re.compile(r"media-(\d{4}-\d\d-\d\d-\d{6})")
SUMS = "SHA256SUMS"
# In a copy, beside the files of media: a directory for each volume
VOLUMES = ".volumes"
# What restores keep in the directory itself is no media of now
NOT_OURS = ("--exclude=/.before-restore-*Z/", "--exclude=/.restored-*Z/", "--exclude=/.coming-*Z/", "--exclude=/lost+found/")
INSIDE = "_CONTAINERS_USERNS_CONFIGURED"


def inside(arguments: list[str]) -> None:
    """Become the same command inside the user namespace, where this is not it yet."""
    if not os.environ.get(INSIDE):
        os.execv(PODMAN, [PODMAN, "unshare", sys.executable, "-IB", os.path.realpath(sys.argv[0]), *arguments])  # noqa: S606


def sources(settings: Settings) -> list[tuple[str, str]]:
    """What is copied: media, and each volume with the place that it has in a copy."""
    volumes = settings["media"].get("volumes", {})
    return [(os.path.join(settings.home, settings["media"]["directory"]), "")] + [
        (os.path.join(settings.home, path), f"{VOLUMES}/{name}") for name, path in sorted(volumes.items())
    ]


def make(settings: Settings) -> dict:
    """A copy of now; it has its name when every file in it has its checksum."""
    directory = settings.directory(DIRECTORY)
    for source, below in sources(settings):
        if not os.path.isdir(source):
            raise BackupError(f"{source} is not there: {'has site.yml run on this host?' if below else 'is django_media_directory of this host another one?'}")
    name = time.strftime("media-%Y-%m-%d-%H%M%S", time.gmtime())
    path, part = os.path.join(directory, name), os.path.join(directory, f"{name}.part")
    if os.path.exists(path):
        raise FileExistsError(f"{path} is there already: is the clock right?")
    sweep(settings, directory)
    before = copies(directory)[-1:]
    owned.begin(part)
    try:
        copied = [_words(source, os.path.join(part, "files", below), [os.path.join(directory, one, "files", below) for one in before])
                  for source, below in sources(settings)]  # fmt: skip
        for words in copied:
            os.makedirs(words[-1], 0o700)
        plans = [rsync("--dry-run", "--stats", *words) for words in copied]
        sizes = [int(re.sub(r"\D", "", re.search(r"Total transferred file size: ([\d,.]+)", plan)[1])) for plan in plans]
        need(directory, sum(sizes), "the copy of media")
        for words in copied:
            rsync(*words)
        size = sums(part, os.path.join(directory, before[0]) if before else None)
        os.sync()  # thousands of small files: one call for all
        os.rename(part, path)
        dump_file.sync(directory)
    except BaseException:
        with contextlib.suppress(OSError):  # the next run removes it; the reason is the first one
            remove(settings, part)
        raise
    gone = prune(settings, directory, int(settings["retention"]["media"]["days"]), name)
    if spared := richer(directory, name):
        raise BackupError(
            f"the copy is whole and kept, and has less than half the files of {spared[-1]}: {len(spared)} copies from before stay for that. "
            f"Where what is missing was removed on purpose: {settings.home}/bin/backup accept media"
        )
    say(f"{path}: {size} bytes" + (f"; removed {', '.join(gone)}" if gone else ""))
    return {"what": path, "path": path, "bytes": size, "removed": gone}


def _words(source: str, target: str, before: list[str]) -> list[str]:
    """What rsync is told for one of them. A volume that came since has no copy before."""
    links = [f"--link-dest={path}" for path in before if os.path.isdir(path)]
    hides = [] if f"/{VOLUMES}/" in target else [f"--exclude=/{VOLUMES}/"]  # a directory of media cannot pass for a volume
    return [*NOT_OURS, *hides, *links, f"{source.rstrip('/')}/", f"{target.rstrip('/')}/"]


def rsync(*words: str, keep: tuple[int, ...] = ()) -> str:
    """Copy files with owners, times and links; one that vanished meanwhile (24) is no failure, it was deleted by its user. `keep`: descriptors it needs."""
    argv = ["/usr/bin/rsync", "--archive", "--no-specials", "--no-devices", "--hard-links", "--numeric-ids", "--fsync", *words]
    result = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False, pass_fds=keep)
    if result.returncode not in (0, 24):
        raise BackupError(f"rsync ended with {result.returncode}: {result.stderr.strip()[-800:]}")
    return result.stdout


def files(root: str) -> list[str]:
    """Regular files of a directory, by the path that they have in a copy."""
    found = [os.path.join(place, name) for place, _, names in os.walk(root) for name in names]
    # Whoever uploads may make a FIFO, which would hold up whoever opens it
    return sorted(os.path.join("files", os.path.relpath(path, root)) for path in found if stat.S_ISREG(os.lstat(path).st_mode))


def read_sums(copy: str) -> dict[str, str]:
    """{path: digest}, as sha256sum writes them, each ended by a zero byte."""
    with open(os.path.join(copy, SUMS), encoding="utf-8", errors="surrogateescape") as handle:
        return {line[66:]: line[:64] for line in handle.read().split("\0") if line}


def digest(path: str) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sums(copy: str, before: str | None) -> int:
    """Write the checksums of a copy; a hard link to the copy before has that one's. How many bytes the copy shows."""
    old, size, lines = read_sums(before) if before else {}, 0, []
    for name in files(os.path.join(copy, "files")):
        seen = os.stat(os.path.join(copy, name))
        size += seen.st_size
        same = name in old and os.path.exists(f"{before}/{name}") and os.stat(f"{before}/{name}").st_ino == seen.st_ino
        lines.append(f"{old[name] if same else digest(os.path.join(copy, name))}  {name}\0")
    with open(os.path.join(copy, SUMS), "w", encoding="utf-8", errors="surrogateescape") as handle:
        handle.write("".join(lines))
    return size


def verify(settings: Settings, copy: str) -> None:
    """Raise an error that names each file that is not what was once copied."""
    compare(copy, os.path.join(copy, "files"))


def part_of(sums_: dict[str, str], below: str) -> dict[str, str]:
    """Of the checksums of a copy those of media alone, or of one volume, by the paths that the files have in use."""
    if below:
        begins = os.path.join("files", below, "")
        return {os.path.join("files", name.removeprefix(begins)): digest_ for name, digest_ in sums_.items() if name.startswith(begins)}
    return {name: digest_ for name, digest_ in sums_.items() if not name.startswith(os.path.join("files", VOLUMES, ""))}


def compare(copy: str, root: str, below: str | None = None) -> None:
    """The same of a directory that is to hold the files of a copy; of a part of them, where one is named."""
    wanted, there = read_sums(copy), set(files(root))
    wanted = wanted if below is None else part_of(wanted, below)
    paths = {name: os.path.join(root, os.path.relpath(name, "files")) for name in there}
    wrong = [name for name, digest_ in wanted.items() if name in there and digest(paths[name]) != digest_]
    more = there - {*wanted, os.path.join("files", owned.MARK)}
    wrong += [f"{name} (missing)" for name in wanted if name not in there] + [f"{name} (not of this copy)" for name in more]
    if wrong:
        raise BackupError(f"{os.path.basename(copy)} is damaged: {', '.join(sorted(wrong)[:10])}" + (f" and {len(wrong) - 10} more" if len(wrong) > 10 else ""))


def stamp(name: str) -> float:
    """When a copy was made, in seconds since 1970, by its name."""
    return float(calendar.timegm(time.strptime(NAME.fullmatch(name)[1], "%Y-%m-%d-%H%M%S")))


def copies(directory: str) -> list[str]:
    return sorted(name for name in os.listdir(directory) if NAME.fullmatch(name))


def remove(settings: Settings, path: str) -> None:
    """A copy, or what became of one. Those of before have no mark: what they are made of tells them."""
    if os.path.isdir(path) and not os.path.islink(path) and set(os.listdir(path)) <= {"files", SUMS}:
        owned.mark(path)
    owned.remove(settings.home, path, data=settings.data, place=os.path.dirname(path))


def sweep(settings: Settings, directory: str) -> None:
    """What killed runs left; under the lock, so nobody is at it."""
    for name in os.listdir(directory):
        if NAME.fullmatch(name.removesuffix(".part").removesuffix(".gone")) and name.endswith((".part", ".gone")):
            remove(settings, os.path.join(directory, name))


def richer(directory: str, spare: str) -> list[str]:
    """Copies that have far more files than the one that was just made, which may be of a disk that is not mounted."""
    now, since = number(os.path.join(directory, spare)), dump_file.accepted(directory)
    return [name for name in copies(directory) if name != spare and stamp(name) > since and dump_file.fell(number(os.path.join(directory, name)), now)]


def number(copy: str) -> int:
    """How many files a copy has."""
    try:
        with open(os.path.join(copy, SUMS), "rb") as handle:
            return sum(block.count(b"\0") for block in iter(lambda: handle.read(dump_file.BLOCK), b""))
    except FileNotFoundError:
        return 0


def prune(settings: Settings, directory: str, days: int, spare: str) -> list[str]:
    """Remove copies older than `days`, never the one just made, nor those that have far more. A copy loses its name first, so that half a one never
    looks whole."""
    kept = richer(directory, spare)
    gone = [name for name in dump_file.outlived({name: stamp(name) for name in copies(directory)}, days, spare) if name not in kept]
    for name in gone:
        os.rename(os.path.join(directory, name), os.path.join(directory, f"{name}.gone"))
        remove(settings, os.path.join(directory, f"{name}.gone"))
    return gone
