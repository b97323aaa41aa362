"""Copies of Redis: a snapshot as a replica gets it, checked by the image's own redis-check-rdb."""

from __future__ import annotations

import calendar
import contextlib
import os
import re
import subprocess
import time

from senex_host import confined

from senex_backup.common import PODMAN, BackupError, Settings, need, podman, say
from senex_backup.postgresql import dump_file

WHAT = "copy Redis"
DIRECTORY = "redis"
UNFINISHED = ("*.part",)
MARK, SUM = 40, 8  # bytes of the end mark of a transfer, and of the checksum of a snapshot
NAME = re.compile(r"redis-(\d{4}-\d\d-\d\d-\d{6})\.rdb")


def make(settings: Settings) -> dict:
    """A copy of now. The container's redis-cli logs in by itself; the password is on no command line."""
    directory, container = settings.directory(DIRECTORY), settings["redis"]["container"]
    memory = re.search(r"^used_memory:(\d+)", podman("exec", container, "redis-cli", "-e", "info", "memory"), re.MULTILINE)
    need(directory, int(memory[1]) if memory else 0, "the copy of Redis")
    path = os.path.join(directory, time.strftime("redis-%Y-%m-%d-%H%M%S.rdb", time.gmtime()))
    part = f"{path}.part"
    if os.path.exists(path):
        raise FileExistsError(f"{path} is there already: is the clock right?")
    try:
        with dump_file.open_exclusive(part) as raw:
            # As a replica: an RDB of this moment, which leaves the server's own saves alone
            result = subprocess.run([PODMAN, "exec", container, "redis-cli", "-e", "--rdb", "-"], stdout=raw, stderr=subprocess.PIPE, check=False)
            os.fsync(raw.fileno())
        if result.returncode or not os.path.getsize(part):
            raise BackupError(f"redis-cli --rdb ended with {result.returncode}: {result.stderr.decode(errors='replace').strip()[-500:]}")
        without_mark(part)
        check(settings, part)
        with open(part, "rb") as handle:
            digest = digest_of(handle)
        dump_file.write_small_file(f"{path}.sha256.part", f"{digest}  {os.path.basename(path)}\n")
        os.rename(f"{path}.sha256.part", f"{path}.sha256")
        os.rename(part, path)
        dump_file.sync(directory)
    except BaseException:
        for left in (part, f"{path}.sha256.part"):
            with contextlib.suppress(OSError):
                os.unlink(left)
        raise
    gone = prune(directory, int(settings["retention"]["redis"]["days"]), path)
    say(f"{path}: {os.path.getsize(path)} bytes" + (f"; removed {len(gone)} old" if gone else ""))
    return {"what": path, "path": path, "bytes": os.path.getsize(path), "removed": gone}


def without_mark(path: str) -> None:
    """Cut off the mark by which a replica knows the end: redis-cli leaves it where it writes to its standard output.

    A server that loads a snapshot does not look behind its end, but one whose log begins with it does, and ends.
    """
    with open(path, "r+b") as handle:
        size = handle.seek(0, os.SEEK_END)
        if size < len(b"REDIS0011\xff") + SUM + MARK:
            return
        handle.seek(size - MARK - SUM - 1)
        tail = handle.read()
        # The last instruction and its checksum, and behind them the mark
        if tail[:1] == b"\xff" and re.fullmatch(rb"[0-9a-f]{%d}" % MARK, tail[1 + SUM :]):
            handle.truncate(size - MARK)
            os.fsync(handle.fileno())


def digest_of(handle) -> str:
    found = dump_file.hashlib.sha256()
    while block := handle.read(dump_file.BLOCK):
        found.update(block)
    return found.hexdigest()


def image_of(settings: Settings) -> str:
    """The image that Redis runs in, or would: a container that does not start is not there."""
    try:
        return podman("inspect", "--format", "{{.Image}}", settings["redis"]["container"]).strip()
    except BackupError:
        with open(os.path.join(settings.home, ".config/containers/systemd", f"{settings['redis']['container']}.container"), encoding="utf-8") as unit:
            return re.search(r"^Image=(\S+)$", unit.read(), re.MULTILINE)[1]


def check(settings: Settings, path: str) -> dict:
    """Have the image's own checker read a copy, in a container that can do nothing else; how many keys there are, and how many of them have an end."""
    image = image_of(settings)
    # Root of the container is the service user outside, who owns the file
    options = ["--rm", "--pull=never", "--network=none", "--read-only", *confined.OPTIONS, "--log-driver=none"]
    try:
        said = podman("run", *options, "--user=0", f"--volume={path}:/copy.rdb:ro", "--entrypoint=redis-check-rdb", image, "/copy.rdb")
    except BackupError as error:
        raise BackupError(f"{os.path.basename(path)} is damaged: {error}") from error
    counted = {what: int(number) for number, what in re.findall(r"^\[info\] (\d+) (keys read|expires)$", said, re.MULTILINE)}
    return {"keys": counted.get("keys read", 0), "expiring": counted.get("expires", 0)}


def verify(settings: Settings, path: str) -> None:
    """Raise an error that names the file unless it is what was once written."""
    with open(path, "rb") as handle, open(f"{path}.sha256", encoding="ascii", errors="replace") as wanted:
        if digest_of(handle) != wanted.read(64):
            raise BackupError(f"{os.path.basename(path)} is damaged: its SHA-256 is not the one in {os.path.basename(path)}.sha256")


def stamp(name: str) -> float:
    """When a copy was made, in seconds since 1970, by its name."""
    return float(calendar.timegm(time.strptime(NAME.fullmatch(name)[1], "%Y-%m-%d-%H%M%S")))


def copies(directory: str) -> list[str]:
    return sorted(name for name in os.listdir(directory) if NAME.fullmatch(name))


def prune(directory: str, days: int, spare: str) -> list[str]:
    """Remove copies older than `days`, never the one just proven; and what killed runs left."""
    gone = dump_file.outlived({name: stamp(name) for name in copies(directory)}, days, os.path.basename(spare))
    gone += [name for name in os.listdir(directory) if name.endswith(".part")]  # under the lock, so nobody is at it
    for name in gone:
        for suffix in ("", ".sha256"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(directory, name + suffix))
    return gone
