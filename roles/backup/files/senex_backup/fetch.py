"""What lies off the host, brought here: beside what there is, or into a directory of its own."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import socket
import time

from senex_host import owned
from senex_host.files import replace_json

from senex_backup import kinds
from senex_backup.common import BackupError, Settings, say
from senex_backup.offsite import TAG, WAL_TAG, machine, opened, restic
from senex_backup.postgresql import dump_file

LATEST, OWN = "latest", "own"
SETTLED = 2 * dump_file.DAY  # seconds between its first copy and its last after which a machine has a history of its own


def places() -> list[str]:
    """What is fetched beside what is there; an archive of WAL is never mixed with another."""
    return ["postgresql", *kinds.directories()]


def listed() -> dict[str, tuple]:
    """For each kind where its copies lie, which they are, and of when."""
    return {"dump": ("postgresql", dump_file.dumps, dump_file.timestamp_of),
            **{kind: (module.DIRECTORY, module.copies, module.stamp) for kind, module in kinds.every().items()}}  # fmt: skip


def state(settings: Settings, name: str) -> str:
    """A file that is no backup, and must not be lost with them."""
    place = os.path.join(settings.home, ".local/state/senex-backup")
    os.makedirs(place, mode=0o700, exist_ok=True)
    return os.path.join(place, name)


def read(settings: Settings, name: str) -> dict:
    try:
        with open(state(settings, name), encoding="utf-8") as handle:
            return json.load(handle)
    except FileNotFoundError:
        return {}


def sender(snapshot: dict) -> str:
    """The machine that sent a copy."""
    return next((tag.removeprefix("machine-") for tag in snapshot.get("tags") or [] if tag.startswith("machine-")), "")


def name_of(snapshot: dict) -> str:
    """The name of the host that sent a copy."""
    return next((tag.removeprefix("on-") for tag in snapshot.get("tags") or [] if tag.startswith("on-")), "a machine without a name")


def clusters_of(snapshot: dict) -> set[str]:
    """The clusters of PostgreSQL that a copy is of; none where it was sent before copies said so, or has no database."""
    return {tag.removeprefix("cluster-") for tag in snapshot.get("tags") or [] if tag.startswith("cluster-")}


def when(snapshot: dict) -> float:
    """When a copy was sent, by its sender's clock."""
    return datetime.datetime.fromisoformat(snapshot["time"][:19] + "+00:00").timestamp()


def title(snapshot: dict) -> str:
    """A copy, for a person."""
    return f"{snapshot['id'][:8]} of {snapshot['time'][:19].replace('T', ' ')} by {name_of(snapshot)} (machine {sender(snapshot) or 'unknown'}" + (
        f", cluster {', '.join(sorted(clusters_of(snapshot)))})" if clusters_of(snapshot) else ")"
    )


def chosen(settings: Settings, wanted: str, job: str, places: tuple[str, ...] | list[str] = ("postgresql",)) -> tuple[dict, dict | None]:
    """The copy to take, and the newer one of WAL that goes with it. Without a word: of the machine that was here before this one."""
    host = settings["offsite"]["host"]
    there = sorted(json.loads(restic(settings, "snapshots", "--json", "--host", host).stdout), key=lambda one: one["time"])
    # A clock that was ahead once would have the newest for years
    plausible = [one["id"] for one in there if when(one) < time.time() + dump_file.DAY]
    whole = [one for one in there if TAG in (one.get("tags") or []) and job in one["tags"]]
    asks = wanted != OWN
    if wanted == OWN:
        wanted, whole = f"machine-{machine()}", [one for one in whole if name_of(one) == socket.gethostname()]
    if wanted.startswith("machine-"):
        whole = [one for one in whole if sender(one) == wanted.removeprefix("machine-")]
    elif wanted.startswith("on-"):
        whole = [one for one in whole if name_of(one) == wanted.removeprefix("on-")]
    elif wanted.startswith("cluster-"):
        whole = [one for one in whole if wanted.removeprefix("cluster-") in clusters_of(one)]
    elif wanted != LATEST:
        found = [one for name in wanted.split(",") for one in there if one["id"].startswith(name)]
        if len(found) != wanted.count(",") + 1:
            raise BackupError(f"there is no copy {wanted} of {host} off the host: see {settings.home}/bin/backup restic snapshots")
        return found[0], found[1] if len(found) > 1 else None
    if not whole:
        others = {one["hostname"] for one in json.loads(restic(settings, "snapshots", "--json").stdout)} - {host}
        hint = f"; it holds copies of {', '.join(sorted(others))}: is backup_offsite_host right?" if others else ""
        raise BackupError(f"the repository holds no copy of {host if wanted == LATEST else f'{host} by {wanted}'} with a {job}{hint}")
    known, own = {one for one, of in read(settings, "taken-over.json").items() if of is True or set(places) <= set(of)}, machine()
    now = [one for one in whole if one["id"] in plausible] or whole
    ranks = (
        [one for one in now if sender(one) not in {own, *known}],
        [one for one in now if sender(one) == own],
        now,
    )
    rank = next(rank for rank in ranks if rank)
    newest = senders(rank)
    # One that took a machine's place by hand never said so; a new one has sent its empty database for some hours at most
    if rank is ranks[0] and ranks[1] and when(ranks[1][-1]) - when(ranks[1][0]) > SETTLED:
        newest[machine(), "this one"] = ranks[1][-1]
    if asks and len(newest) > 1 and not (wanted == LATEST and rank is ranks[2]):
        several = "; ".join(title(one) for one in newest.values())
        raise BackupError(f"copies of several machines lie off the host: name one (restore_copy=machine-ID, on-NAME, cluster-ID, or a copy's ID): {several}")
    found = rank[-1]
    wal = [one for one in there if WAL_TAG in (one.get("tags") or []) and (sender(one), name_of(one)) == (sender(found), name_of(found))
           and one["time"] > found["time"] and same_cluster(one, found) and (one["id"] in plausible or found["id"] not in plausible)]  # fmt: skip
    return found, wal[-1] if wal else None


def senders(copies: list[dict]) -> dict[tuple, dict]:
    """The newest copy of each machine. Clones may have one id, so by its name as well; and where they have one name too, by their clusters."""
    found: dict[tuple, list[dict]] = {}
    for one in copies:
        found.setdefault((sender(one), name_of(one)), []).append(one)
    return {(*key, *of): one for key, group in found.items() for of, one in (by_cluster(group) if in_turns(group) else {(): group[-1]}).items()}


def by_cluster(copies: list[dict]) -> dict[tuple, dict]:
    return {tuple(sorted(clusters_of(one))): one for one in copies}


def in_turns(copies: list[dict]) -> bool:
    """Whether a cluster comes again after another: a machine that was set up anew or upgraded has one after the other."""
    before: list[set[str]] = []
    for of in filter(None, map(clusters_of, copies)):
        if not before or not of & before[-1]:
            if any(of & one for one in before):
                return True
            before.append(of)
    return False


def same_cluster(one: dict, other: dict) -> bool:
    """Whether two copies may be of one cluster: WAL of the one that came after an upgrade is nothing to the base backups of the one before."""
    mine, others = clusters_of(one), clusters_of(other)
    return bool(mine & others) or not (mine and others)


def bring(settings: Settings, snapshot: dict, only: list[str], target: str) -> None:
    """The paths of a copy that are wanted; a later copy's files take the place of an earlier one's."""
    restic(settings, "restore", snapshot["id"], *(word for path in only for word in ("--include", path)), "--target", target)


def fetch(settings: Settings, wanted: str, only: list[str]) -> dict:
    """Bring backups back beside what is there. A file of this host is never overwritten."""
    opened(settings, begin=False)
    # Several hosts of one environment may send to one repository
    snapshot, _wal = chosen(settings, wanted, next((job for job in listed() if job in settings["jobs"]), TAG), only)
    incoming = os.path.join(settings.backups, "incoming")
    if os.path.isdir(incoming) and set(os.listdir(incoming)) <= set(places()):
        owned.mark(incoming)  # of a run of before that was killed
    owned.remove(settings.home, incoming, data=settings.data, place=settings.backups)
    owned.begin(incoming)
    bring(settings, snapshot, [f"/{place}" for place in only], incoming)
    # Which are the newest of those that came: this host may have made newer ones of its own that is empty
    newest = {kind: newest_of(os.path.join(incoming, place), *how) for kind, (place, *how) in listed().items()}
    came, kept = 0, []
    for name in sorted(set(os.listdir(incoming)) & set(places())):
        more, there = merge(os.path.join(incoming, name), os.path.join(settings.backups, name))
        came, kept = came + more, kept + there
    owned.remove(settings.home, incoming, data=settings.data, place=settings.backups)
    replace_json(state(settings, "fetched.json"), {"machine": sender(snapshot), **newest, "copy": title(snapshot)})
    say(f"fetched {came} files and directories to {settings.backups} from {title(snapshot)}; {len(kept)} files were here already and stay as they are")
    return {"what": settings.backups, "came": came, "kept": len(kept)}


def newest_of(directory: str, listed, stamp) -> str | None:
    """The newest of what a directory holds, if there is one."""
    return dump_file.newest({name: stamp(name) for name in listed(directory)} if os.path.isdir(directory) else {})


def fetch_into(settings: Settings, wanted: str, only: list[str], target: str) -> dict:
    """Paths of a copy, and of the WAL that was sent since, into a directory of their own."""
    opened(settings, begin=False)
    snapshot, wal = chosen(settings, wanted, "dump")
    os.makedirs(target, mode=0o700, exist_ok=True)
    for one in (snapshot, wal):
        if one:
            bring(settings, one, only, target)
    found = {"machine": sender(snapshot), "copy": title(snapshot), "ids": [one["id"] for one in (snapshot, wal) if one]}
    return {**found, "until": (wal or snapshot)["time"]}


def take_over(settings: Settings, sent_by: str, place: str) -> None:
    """From now on this machine's own copies of this are the ones to fetch, not those of the machine whose place it took.

    Of this alone: a host whose database is restored first has no uploads yet, and those of its own copies are none.
    """
    if sent_by == machine():
        return
    known = read(settings, "taken-over.json")
    before = known.get(sent_by, [])  # true where an earlier version noted it, for all of them
    replace_json(state(settings, "taken-over.json"), {**known, sent_by: before if before is True else sorted({*before, place})})


def merge(source: str, target: str) -> tuple[int, list[str]]:
    """Move what the target does not have; how much that was, and which files it had."""
    if not os.path.lexists(target):
        shutil.move(source, target)
        return 1, []
    if not os.path.isdir(source) or os.path.islink(source):
        return 0, [target]
    came, kept = 0, []
    for name in sorted(os.listdir(source)):
        more, there = merge(os.path.join(source, name), os.path.join(target, name))
        came, kept = came + more, kept + there
    return came, kept
