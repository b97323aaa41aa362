"""The proof: what a restore would take, restored into a throwaway server and looked at. The newest base backup and all WAL after it from the archive on the
database's own disk, the same from the bucket alone, and the newest dump, in turn: what is proven of one says nothing of the others."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import statistics
import time

from pitr import checks, jobs, offsite, recovery, removal
from pitr.jobs import PitrError, iso, say
from pitr.plan import LATEST, plan
from pitr.programs import podman
from pitr.settings import Settings

ROOT = "pitr-drill"  # a directory of its own, whatever drill_directory is
ARCHIVE, BUCKET, DUMP = "archive", "bucket", "dump"
SOURCES = {ARCHIVE: "the archive on this host", BUCKET: "the bucket alone", DUMP: "the newest dump"}
CONTAINER = "pitr-drill"
KEPT = 52  # drills that are remembered; a year of weekly ones
OUTCOMES = {"ok": "proved", "failed": "failed", "unverified": "could not verify"}


def sources(settings: Settings) -> list[str]:
    """Where this host could be restored from."""
    there = {ARCHIVE: True, BUCKET: offsite.sends(settings), DUMP: offsite.dumps(settings)}
    return [source for source, is_there in there.items() if is_there]


def due(settings: Settings) -> str:
    """Where the next drill restores from: the one after that of the last."""
    order, last = list(SOURCES), jobs.read(settings, "drill").get("source")
    begin = order.index(last) + 1 if last in order else 0
    return next(source for source in order[begin:] + order[:begin] if source in sources(settings))


def drill(settings: Settings, source: str | None = None) -> dict:
    """Restore, check, remove, and say how long it took and how much would have been lost."""
    source = source or due(settings)
    with jobs.run(settings, "drill", remember=lambda record: remembered(settings, record)) as record:
        began = time.time()
        record["source"] = source
        root = removal.begin(settings, os.path.join(settings.drill_directory, ROOT))
        try:
            found, serving, newest = (of_dump if source == DUMP else of_archive)(settings, source, root, record)
        finally:
            removal.remove(settings, root)
        newest = found.get("newest_row") or newest
        record["rto_seconds"] = round(serving - began, 1)
        record["rpo_seconds"] = _age(newest, began)
        record["newest"] = newest
        record["rows"] = sum(found["rows"].values())
        record["migrations"] = found.get("migrations")
        if not found["rows"]:
            raise PitrError(f"the restored database {settings.database} has no table")
        say(f"restored {record['what']} from {SOURCES[source]} in {record['rto_seconds']} s, newest {newest or 'unknown'} "
            f"({record['rpo_seconds']} s before), at {iso(began)}")  # fmt: skip
    return record


def clear_up(settings: Settings) -> None:
    """What a drill that was killed left, which the next one is a week away to remove."""
    root = os.path.join(settings.drill_directory, ROOT)
    if os.path.lexists(root):
        jobs.left(settings, "drill", lambda: (podman("rm", "--force", "--time=10", CONTAINER, check=False), removal.remove(settings, root)))


def of_archive(settings: Settings, source: str, root: str, record: dict) -> tuple[dict, float, str | None]:
    """A base backup and its WAL: what was found, when the copy served, and the newest moment in it."""
    directory = os.path.join(root, "data")
    where = fetched(settings, root) if source == BUCKET else settings
    wanted = plan(where, LATEST)
    record |= {"what": wanted.base.name, "bytes": wanted.base.bytes}
    reading = recovery.fill(where, wanted, directory)
    with recovery.server(where, wanted, reading, directory, CONTAINER, durable=False) as server:
        serving = time.time()
        found = checks.verify(server, settings.drill_columns)
    return found, serving, reading.end and reading.end.replace(" ", "T") + "Z"


def of_dump(settings: Settings, _source: str, root: str, record: dict) -> tuple[dict, float, str | None]:
    """The same of the newest dump, by the restore's own steps, in a server that knows none of its roles and has no database of its kind."""
    with recovery.blank(settings, os.path.join(root, "data"), CONTAINER) as server:
        done = json.loads(offsite.backup(settings, "prove", "newest", "--container", CONTAINER).strip().rpartition("\n")[2])
        serving = time.time()
        record |= {"what": done["dump"], "bytes": done["bytes"], "checked": done["checked"]}
        # Every index was looked at by the restore itself
        return checks.verify(server, settings.drill_columns, deep=False), serving, done["made"]


def fetched(settings: Settings, root: str) -> Settings:
    """What this host sent off itself, fetched as on a new one; nothing of its own archive is used."""
    place = dataclasses.replace(settings, archive=os.path.join(root, "archive"))
    offsite.fetch(place, LATEST, offsite.OWN)
    return offsite.fetched(place)


def remembered(settings: Settings, record: dict) -> dict:
    """The last drill of each source, and the last of all in their order; a bounded number of them."""
    before, source = jobs.read(settings, "drill"), record["source"]
    found = before.get("sources") or ({ARCHIVE: _last(before, None)} if before.get("result") in OUTCOMES else {})
    found[source] = _last(record, found.get(source))
    there = {one: last for one, last in found.items() if one in sources(settings)}
    entry = {name: record.get(name) for name in ("finished", "source", "result", "seconds", "rto_seconds", "rpo_seconds", "bytes")}
    return {"sources": there, "history": [*before.get("history", []), entry][-KEPT:]}


def _last(record: dict, before: dict | None) -> dict:
    """What is known of a source after a drill; the proof of before stays, with its time."""
    proved = record.get("finished") if record["result"] == "ok" else (before or {}).get("proved")
    return {**{name: record.get(name) for name in ("result", "finished", "error", "rto_seconds", "rpo_seconds")}, "proved": proved}


def lines(settings: Settings) -> list[str]:
    """The drills that are remembered, for a person, and how long a restore takes by them."""
    history = jobs.read(settings, "drill").get("history", [])
    if not history:
        return ["no drill yet: 'pitr drill' makes one"]
    told = [f"{'when':<21} {'from':<8} {'outcome':<17} {'serves after':>12} {'newest before':>14} {'MB':>8}"]
    for one in history:
        seconds = [f"{one[name]:.0f} s" if one.get(name) is not None else "" for name in ("rto_seconds", "rpo_seconds")]
        size = one["bytes"] // 1024**2 if one.get("bytes") else ""
        told.append(f"{one['finished']:<21} {one['source']:<8} {OUTCOMES[one['result']]:<17} {seconds[0]:>12} {seconds[1]:>14} {size:>8}")
    for source, words in SOURCES.items():
        times = [one["rto_seconds"] for one in history if one["source"] == source and one["result"] == "ok"]
        if times:
            told.append(f"from {words}: {times[-1]:.0f} s, median of {len(times)} drills {statistics.median(times):.0f} s, longest {max(times):.0f} s")
    return told


def _age(newest: str | None, moment: float) -> float | None:
    """Seconds between the newest thing restored and the moment of the drill."""
    if not newest:
        return None
    return round(max(0.0, moment - datetime.datetime.fromisoformat(newest).timestamp()), 1)
