"""WAL in the archive: which segments a recovery needs, and whether they are whole."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import json
import os
import re
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Iterator

from senex_host.files import replace_json

from pitr.jobs import PitrError, iso, moment
from pitr.programs import Base, barman, in_image, unrun
from pitr.settings import Settings

NAME = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})")
# XLogLongPageHeaderData of src/include/access/xlog_internal.h: magic, info, timeline, page address, rest, system id, segment size, block size
HEADER = struct.Struct("=HHIQI4xQII")
LONG_HEADER = 0x0002
DEFAULT_SIZE = 16 * 1024 * 1024
JOURNAL = "timelines.json"  # beside the WAL, and sent off the host with it
COMMIT = re.compile(r"rmgr: Transaction (?:(?!desc: ).)*desc: COMMIT(?:_PREPARED)? (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) UTC")
# Restore points that the archive's job makes, so that time passes in the WAL of an idle database too
MARK = "pitr "
MARKED = re.compile(rf"desc: RESTORE_POINT {MARK}(\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+)$")
BROKEN = re.compile(r"error: (?:error in WAL record at|could not find a valid record after) ([0-9A-F]+)/([0-9A-F]+):?\s*(.*)", re.DOTALL)
# A page that begins with nothing, as PostgreSQL 15 and those from 16 on name it
UNWRITTEN = re.compile(r"invalid magic number 0000 in (?:log|WAL) segment ([0-9A-F]{24}),(?: LSN [0-9A-F/]+,)? offset (\d+)")


@dataclasses.dataclass(frozen=True)
class Segment:
    """A file of the archive."""

    name: str
    path: str
    written: float

    @property
    def partial(self) -> bool:
        """Whether it is the one that is still being written."""
        return self.path.endswith(".partial")


def number(name: str, size: int = DEFAULT_SIZE) -> int:
    """Which segment of its timeline a name is."""
    _timeline, high, low = (int(part, 16) for part in NAME.fullmatch(name).groups())
    return high * (2**32 // size) + low


def name_of(timeline: int, which: int, size: int = DEFAULT_SIZE) -> str:
    """The name of a segment."""
    each = 2**32 // size
    return f"{timeline:08X}{which // each:08X}{which % each:08X}"


def names_in(place: str) -> list[str]:
    """The names in a directory, which Barman makes when it has the first file for it."""
    return sorted(os.listdir(place)) if os.path.isdir(place) else []


def segments(settings: Settings, timeline: int) -> dict[int, Segment]:
    """All segments of a timeline, by number: archived, received and not yet archived, and the one being received."""
    for _attempt in range(9):
        with contextlib.suppress(FileNotFoundError):  # one was completed or filed away between the look at its directory and the one at it
            return _segments(settings, timeline)
    return _segments(settings, timeline)


def _segments(settings: Settings, timeline: int) -> dict[int, Segment]:
    found: dict[int, Segment] = {}
    for place in _places(settings.barman_server, timeline):
        for entry in names_in(place):
            name = entry.removesuffix(".partial")
            if NAME.fullmatch(name) and int(name[:8], 16) == timeline:
                path = os.path.join(place, entry)
                one, other = Segment(name, path, os.stat(path).st_mtime), found.get(number(name))
                if not one.partial or not other or (other.partial and _received(one.path) >= _received(other.path)):
                    found[number(name)] = one
    return found


def _received(path: str) -> int:
    """How many bytes of a segment there are. One that was set aside by an exchange that failed, or was undone, is received again from its beginning."""
    with open(path, "rb") as handle:
        return len(handle.read().rstrip(b"\0"))


def _places(root: str, timeline: int) -> Iterator[str]:
    """Where WAL lies, in the order in which it goes from one to the next. Each is looked for when it is its turn: the last may just be made."""
    yield os.path.join(root, "partial")
    yield os.path.join(root, "streaming")
    filed = os.path.join(root, "wals")
    yield from (os.path.join(filed, name) for name in names_in(filed) if name.startswith(f"{timeline:08X}"))


def known_timelines(settings: Settings) -> set[int]:
    """The timelines that the archive has WAL or a history of."""
    # In the order in which files go from one to the next, so that none is missed
    names = [name for place in ("partial", "streaming", "wals") for name in names_in(os.path.join(settings.barman_server, place))]
    return {int(name[:8], 16) for name in names if re.match(r"[0-9A-F]{16}|[0-9A-F]{8}\.history$", name)}


def journal(settings: Settings) -> list[dict]:
    """Which timeline the database was on, and when: a number says nothing of that, for the way back from a restore leads to a smaller one."""
    try:
        with open(os.path.join(settings.barman_server, JOURNAL), encoding="utf-8") as handle:
            return json.load(handle)
    except FileNotFoundError:
        return []


def ran(settings: Settings, timeline: int, now: float) -> dict:
    """Write down that the database is on a timeline; since when it has been."""
    known = journal(settings)
    if not known or known[-1]["timeline"] != timeline:
        known.append({"timeline": timeline, "since": iso(now)})
    known[-1]["until"] = iso(now)
    replace_json(os.path.join(settings.barman_server, JOURNAL), known)
    return known[-1]


def running_timeline(settings: Settings) -> int:
    """The timeline that the database is on, or was when it was lost."""
    known = journal(settings)
    return known[-1]["timeline"] if known else max(known_timelines(settings), default=1)


def timeline_at(settings: Settings, when: float) -> int | None:
    """The timeline of a moment; None where nobody has written it down."""
    return next((one["timeline"] for one in reversed(journal(settings)) if moment(one["since"]) <= when), None)


def needed(settings: Settings, base: Base, until: float | None) -> list[Segment]:
    """The segments from a base backup to a moment (None: to the end), without a gap, or a PitrError that names the missing file."""
    there = segments(settings, base.timeline)
    first = number(base.begin_wal)
    last = max([which for which in there if which >= first], default=first)
    chosen, beyond = [], 0
    for which in range(first, last + 1):
        if which not in there:
            name = name_of(base.timeline, which)
            place = os.path.join(settings.barman_server, "wals", name[:16], name)
            raise PitrError(f"WAL segment {place} is missing: base backup {base.name} cannot be brought past the end of segment {which - first} of its WAL")
        chosen.append(there[which])
        # Commits of a moment lie before the last write of their segment; one more segment, in case that one ended without a commit
        beyond += until is not None and there[which].written > until
        if beyond == 2:
            break
    if len(chosen) > 1 and _unbegun(chosen[-1]):
        chosen.pop()
    return chosen


def _unbegun(segment: Segment) -> bool:
    """Whether the receiver has made the file of the next segment, which it fills with zeros first, and received nothing of it yet."""
    if not segment.partial:
        return False
    try:
        with open(segment.path, "rb") as handle:
            return not handle.read().strip(b"\0")
    except FileNotFoundError:  # complete by now
        return False


def content(path: str) -> bytes:
    """A file of the archive, decompressed. FileNotFoundError where it is not there, or no longer."""
    try:
        with open(path, "rb") as handle:
            raw = handle.read()
        return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except FileNotFoundError:
        raise
    except (OSError, EOFError, zlib.error) as error:
        raise PitrError(f"WAL file {path} is damaged: {error}") from None


def copy_history(settings: Settings, base: Base, place: str) -> None:
    """How each timeline came to be. All of them: a server that is promoted takes the first number that it finds no history of."""
    there = set()
    for directory in ("streaming", "wals"):  # in which order they go from one to the other
        for name in names_in(os.path.join(settings.barman_server, directory)):
            if re.fullmatch(r"[0-9A-F]{8}\.history", name):
                with contextlib.suppress(FileNotFoundError):
                    history = content(os.path.join(settings.barman_server, directory, name))
                    there.add(name)
                    with open(os.path.join(place, name), "wb") as handle:
                        handle.write(history)
    wanted = f"{base.timeline:08X}.history"
    if base.timeline > 1 and wanted not in there:
        raise PitrError(f"{os.path.join(settings.barman_server, 'wals', wanted)} is missing: timeline {base.timeline} cannot be followed without it")


def examined(segment: Segment, base: Base) -> bytes:
    """A segment's bytes, when it is whole, of this cluster, and what its name says."""
    # One that was found may have been completed, and filed away, since
    filed = os.path.join(os.path.dirname(os.path.dirname(segment.path)), "wals", segment.name[:16], segment.name)
    data = None
    for path in (segment.path, segment.path.removesuffix(".partial"), filed):
        if data is None:
            with contextlib.suppress(FileNotFoundError):
                data = content(path)
    if data is None:
        raise PitrError(f"WAL segment {segment.path} is damaged: it is gone")
    if len(data) < HEADER.size:
        raise PitrError(f"WAL segment {segment.path} is damaged: {len(data)} bytes are no segment")
    _magic, info, _timeline, address, _rest, system, size, _block = HEADER.unpack_from(data)
    if not info & LONG_HEADER or size not in {2**power for power in range(20, 31)}:
        raise PitrError(f"WAL segment {segment.path} is damaged: it does not begin as a segment does")
    if system != base.system_id:
        raise PitrError(f"WAL segment {segment.path} is of another cluster: system identifier {system}, that of base backup {base.name} is {base.system_id}")
    if len(data) != size:
        raise PitrError(f"WAL segment {segment.path} is damaged: {len(data)} bytes, and a segment has {size}")
    if address != number(segment.name, size) * size:
        raise PitrError(f"WAL segment {segment.path} is not what its name says: it begins at {address >> 32:X}/{address & 0xFFFFFFFF:X}")
    return data


@dataclasses.dataclass
class Reading:
    """What pg_waldump found in a run of segments. Times are UTC, written as PostgreSQL does."""

    commits: int = 0
    last_commit: str = ""
    last_wanted: str = ""  # the last commit up to the moment asked for
    passed: bool = False  # there is a commit after that moment
    mark: str = ""  # the first restore point after it
    last_mark: str = ""

    @property
    def end(self) -> str:
        """How far the archive reaches."""
        return max(self.last_commit, self.last_mark)

    def add(self, line: str, until: str | None) -> None:
        """Take a record into account."""
        if match := COMMIT.match(line):
            self.commits += 1
            self.last_commit = match[1]
            if until is None or match[1] <= until:
                self.last_wanted = match[1]
            else:
                self.passed = True
        elif match := MARKED.search(line.rstrip()):
            self.last_mark = match[1]
            if until is not None and match[1] > until and not self.mark:
                self.mark = match[1]


def read_records(settings: Settings, base: Base, directory: str, chain: list[Segment], until: str | None) -> Reading:
    """Read every record, which checks its checksum. The end of the newest segment may be unwritten; any other end is damage."""
    dump = ["pg_waldump", "--path=/wal", f"--timeline={base.timeline}", "--rmgr=Transaction", "--rmgr=XLOG", chain[0].name, chain[-1].name]
    reading = Reading()
    argv = in_image(settings, dump, [f"{directory}:/wal:ro"])
    # Into a file: what nobody reads until the end must not fill a pipe
    with (
        tempfile.TemporaryFile("w+", errors="replace") as errors,
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=errors, text=True, errors="replace") as process,
    ):
        for line in process.stdout:
            reading.add(line, until)
        process.wait()
        errors.seek(0)
        said = errors.read()
    unrun(subprocess.CompletedProcess(dump, process.returncode, "", said), "pg_waldump")
    if process.returncode:
        _judge(said, directory, chain)
    return reading


def _judge(said: str, directory: str, chain: list[Segment]) -> None:
    """Whether records end where writing ended, or at damage."""
    if _unwritten(said, directory, chain):
        return
    match = BROKEN.search(said)
    if not match:
        raise PitrError(f"pg_waldump could not read the WAL from {chain[0].path} on: {' '.join(said.split())[-300:]}")
    where = int(match[1], 16) << 32 | int(match[2], 16)
    inner = re.search(r"at ([0-9A-F]+)/([0-9A-F]+)", match[3])
    if inner:
        where = max(where, int(inner[1], 16) << 32 | int(inner[2], 16))
    segment = next((item for item in chain if number(item.name) == where // DEFAULT_SIZE), chain[-1])
    reason = " ".join(match[3].split())
    if not segment.partial:
        raise PitrError(f"WAL segment {segment.path} is damaged at {where >> 32:X}/{where & 0xFFFFFFFF:X}: {reason}")
    with open(os.path.join(directory, segment.name), "rb") as handle:
        rest = handle.read()[where % DEFAULT_SIZE :]
    length = int.from_bytes(rest[:4], "little")
    # A record that was still on its way may lack its end; nothing can follow it. Each page adds a header of 24 bytes.
    written = len(rest.rstrip(b"\0"))
    if written > length + (length // 8192 + 2) * 40 or length > 1024 * 1024:
        raise PitrError(f"WAL segment {segment.path} is damaged at {where >> 32:X}/{where & 0xFFFFFFFF:X}: {reason}; {written} bytes follow")


def _unwritten(said: str, directory: str, chain: list[Segment]) -> bool:
    """Whether what is missing begins with a page that was not received yet: WAL is sent by pages, and a record may go on in the next."""
    page = UNWRITTEN.search(said)
    segment = page and next((item for item in chain if item.name == page[1]), None)
    if not segment or not segment.partial:
        return False
    with open(os.path.join(directory, segment.name), "rb") as handle:
        handle.seek(int(page[2]))
        return not handle.read().strip(b"\0")


def leave_timeline(settings: Settings) -> None:
    """File away what was received, and set the rest aside: the receiver goes on from the newest file that it finds, and asks the server for that file's
    timeline, which is none of the server's once other data runs. It would be refused until somebody files that away."""
    streaming, kept = (os.path.join(settings.barman_server, name) for name in ("streaming", "partial"))
    os.makedirs(kept, mode=0o700, exist_ok=True)
    if any(NAME.fullmatch(name) for name in names_in(streaming)):
        with contextlib.suppress(PitrError):  # where Barman cannot, recovery finds them among the ones set aside
            barman(settings, "archive-wal", settings.server)
    for name in names_in(streaming):
        if NAME.fullmatch(name.removesuffix(".partial")):
            left, there = os.path.join(streaming, name), os.path.join(kept, name)
            if os.path.exists(there) and _received(there) > _received(left):
                os.remove(left)
            else:
                os.replace(left, there)
