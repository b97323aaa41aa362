"""The archive of a host that is gone, from what role backup sent off it: beside the archive of this host, and then in its place."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import re

from pitr import jobs, programs, removal, wal
from pitr.jobs import PitrError, Unverified, iso, say
from pitr.plan import check_space, choose
from pitr.programs import Base
from pitr.settings import Settings

LATEST, OWN = "latest", "own"  # of the machine before this one, if any; and of this one
NOT_NOW = 75  # how the command of role backup ends when the storage does not answer


@dataclasses.dataclass(frozen=True)
class Copy:
    """A copy off the host: who sent it, until when, and restic's ids of it."""

    machine: str
    copy: str
    ids: list[str]
    until: str


def fetched(settings: Settings) -> Settings:
    """The same host, with the fetched archive instead of its own."""
    archive = f"{settings.archive}{programs.FETCHED}"
    return dataclasses.replace(settings, archive=archive, configuration=f"{archive}/barman.conf")


def note(settings: Settings) -> str:
    """Where the copy that was fetched is written down; beside the archive, so that it does not get into the live one."""
    return f"{fetched(settings).archive}.json"


def _of_backup(settings: Settings) -> dict:
    """What role backup has written down for its command; nothing where it is not here."""
    try:
        with open(os.path.join(settings.home, "config/backup/settings.json"), encoding="utf-8") as handle:
            read = json.load(handle)
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


def sends(settings: Settings) -> bool:
    """Whether this host sends copies off itself."""
    return bool((_of_backup(settings).get("offsite") or {}).get("repository"))


def dumps(settings: Settings) -> bool:
    """Whether this host dumps its database, has a dump, and a command that restores it for a drill (site.yml may have been told to leave role backup out).

    A job that has stopped is told of by the age of its last run.
    """
    try:
        there = any(name.endswith(".sql.gz") for name in os.listdir(os.path.join(settings.home, "backups/postgresql")))
    except OSError:
        return False
    able = os.path.exists(os.path.join(settings.home, "lib/senex_backup/around.py"))
    return there and able and "dump" in (_of_backup(settings).get("jobs") or {})


def backup(settings: Settings, *words: str) -> str:
    """The last line that the command of role backup says; its reason when it fails."""
    program = os.path.join(settings.home, "bin/backup")
    if not os.path.exists(program):
        raise PitrError("there is no copy off the host: role backup is not here (site.yml --tags backup)")
    done = programs.run(program, *words, check=False)
    if done.returncode:
        raise (Unverified if done.returncode == NOT_NOW else PitrError)(programs.last_words(done.stderr or done.stdout, 1).removeprefix("backup: "))
    return done.stdout


def bring(settings: Settings, snapshot: str, only: list[str]) -> Copy:
    """Paths below the archive, out of a copy."""
    place = fetched(settings).archive
    if not os.path.isdir(f"{place}.part"):
        removal.begin(settings, f"{place}.part")
    words = [word for path in only for word in ("--path", f"/barman/{settings.server}/{path}")]
    return Copy(**json.loads(backup(settings, "fetch", snapshot, "--into", f"{place}.part", *words).strip().rpartition("\n")[2]))


def emptied(settings: Settings) -> None:
    """Nothing of an earlier fetch is taken for this one's."""
    place = fetched(settings).archive
    removal.remove(settings, place, f"{place}.part")


def settle(settings: Settings) -> Settings:
    """Put what was brought where Barman finds it, with a configuration of its own."""
    found = fetched(settings)
    brought = os.path.join(f"{found.archive}.part", "barman")
    if not os.path.isdir(os.path.join(brought, settings.server)):
        raise PitrError(f"the copy holds no archive of WAL of the server {settings.server} (pitr_server): its host had no role pitr, or another name for it")
    jobs.renamed(os.path.join(f"{found.archive}.part", removal.MARK), os.path.join(brought, removal.MARK))
    jobs.renamed(brought, found.archive)
    os.rmdir(f"{found.archive}.part")
    with open(settings.barman, encoding="utf-8") as here, open(found.barman, "w", encoding="utf-8") as there:
        there.write(re.sub(r"(?m)^barman_home = .*$", f"barman_home = {found.archive}", here.read()))
    return found


def segments(settings: Settings, copy: Copy) -> dict[str, list[str]]:
    """{directory: segments} of the archive's WAL in the copy; later ones have theirs in the same directories."""
    there: dict[str, list[str]] = {}
    for identity in copy.ids:
        listed = backup(settings, "restic", "ls", identity, f"/barman/{settings.server}/wals", "--recursive")
        for found in re.finditer(r"(?m)/wals/([0-9A-F]{16})/([0-9A-F]{24})$", listed):
            there.setdefault(found[1], []).append(found[2])
    return there


def look(settings: Settings, to: str, snapshot: str = LATEST) -> tuple[Copy, Base]:
    """Which copy and which base backup of it would be taken: the catalogue alone is fetched for that."""
    emptied(settings)
    copy = bring(settings, snapshot, ["identity.json", wal.JOURNAL, "meta", "base/*/backup.info", f"base/*/{programs.DAMAGED}"])
    try:
        until, base = choose(settle(settings), to)
    except PitrError:
        emptied(settings)
        raise
    if until and until > datetime.datetime.fromisoformat(copy.until[:19] + "+00:00"):
        emptied(settings)
        raise PitrError(f"--to {to}: the copy {copy.copy} holds WAL until {copy.until[:19].replace('T', ' ')} UTC; no later moment can be restored from it")
    return copy, base


def plan_lines(settings: Settings, to: str, snapshot: str = LATEST) -> list[str]:
    """What would be fetched and restored, for a person."""
    copy, base = look(settings, to, snapshot)
    emptied(settings)
    return [
        f"copy:         {copy.copy}, with WAL until {copy.until[:19].replace('T', ' ')} UTC",
        f"restore to:   {to}",
        f"base backup:  {base.name}, {base.bytes // 1024**2} MB, taken until {iso(base.end_time)}, timeline {base.timeline}",
    ]


def fetch(settings: Settings, to: str, snapshot: str = LATEST) -> None:
    """The base backup for a moment and the WAL from it on; nothing of this host's own archive is touched."""
    copy, base = look(settings, to, snapshot)
    check_space(os.path.dirname(settings.archive), int(base.bytes * 1.1), "the base backup from off the host")
    emptied(settings)
    places = [place for place in segments(settings, copy) if place >= base.begin_wal[:16]]
    chosen = ["identity.json", wal.JOURNAL, f"meta/{base.name}-backup.info", f"base/{base.name}", "streaming", "partial", "wals/*.history"]
    bring(settings, ",".join(copy.ids), chosen + [f"wals/{place}" for place in places])
    found = settle(settings)
    for name in ("streaming", "incoming", "errors", "wals"):
        os.makedirs(os.path.join(found.barman_server, name), mode=0o700, exist_ok=True)
    # The list of segments that Barman keeps is of the whole archive
    programs.barman(found, "rebuild-xlogdb", found.server)
    with open(note(settings), "w", encoding="utf-8") as handle:
        json.dump(dataclasses.asdict(copy), handle)
    say(f"fetched {copy.copy}: base backup {base.name} and {len(wal.segments(found, base.timeline))} segments of WAL")


def put_in_place(settings: Settings, stamp: str) -> str:
    """The fetched archive goes on where the lost host's ended; this host's own stays aside. Where that is."""
    found, aside = fetched(settings), f"{settings.archive}.before-restore-{stamp}"
    if not os.path.isdir(found.archive):
        raise PitrError(f"{found.archive} is not there; 'pitr fetch' makes it")
    os.remove(found.barman)
    removal.clear(settings, found.archive)
    if os.path.exists(settings.archive):
        jobs.renamed(settings.archive, aside)
    jobs.renamed(found.archive, settings.archive)
    _kept_stays(aside, settings.archive)
    with open(note(settings), encoding="utf-8") as handle:
        machine = json.load(handle)["machine"]
    os.remove(note(settings))
    backup(settings, "taken-over", machine)
    return aside


def put_back(settings: Settings, stamp: str, now: str) -> None:
    """The way back: the archive that belongs to data which a restore kept aside."""
    kept = f"{settings.archive}.before-restore-{stamp}"
    if os.path.isdir(kept):
        jobs.renamed(settings.archive, f"{settings.archive}.before-restore-{now}")
        jobs.renamed(kept, settings.archive)
        _kept_stays(f"{settings.archive}.before-restore-{now}", settings.archive)


def _kept_stays(source: str, target: str) -> None:
    """Archives of clusters that an upgrade keeps are this host's, whichever archive is in use: the way back looks for them there."""
    place, wanted = (os.path.join(archive, "kept") for archive in (source, target))
    if os.path.isdir(place) and not os.path.exists(wanted):
        jobs.renamed(place, wanted)
