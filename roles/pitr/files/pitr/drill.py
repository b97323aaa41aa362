"""The proof: the newest base backup and all WAL after it, restored into a throwaway server and looked at."""

from __future__ import annotations

import datetime
import os
import time

from pitr import checks, jobs, recovery, removal
from pitr.jobs import Failure, iso, say
from pitr.plan import LATEST, plan
from pitr.settings import Settings

ROOT = "pitr-drill"  # a directory of its own, whatever drill_directory is


def drill(settings: Settings) -> dict:
    """Restore, check, remove, and say how long it took and how much would have been lost."""
    with jobs.run(settings, "drill") as record:
        began = time.time()
        root = removal.begin(settings, os.path.join(settings.drill_directory, ROOT))
        directory = os.path.join(root, "data")
        try:
            wanted = plan(settings, LATEST)
            record |= {"what": wanted.base.name, "bytes": wanted.base.bytes}
            reading = recovery.fill(settings, wanted, directory)
            with recovery.server(settings, wanted, reading, directory, "pitr-drill", durable=False) as server:
                serving = time.time()
                found = checks.verify(server, settings.drill_columns)
        finally:
            removal.remove(settings, root)
        newest = found.get("newest_row") or (reading.end and reading.end.replace(" ", "T") + "Z")
        record["rto_seconds"] = round(serving - began, 1)
        record["rpo_seconds"] = _age(newest, began)
        record["newest"] = newest
        record["rows"] = sum(found["rows"].values())
        record["migrations"] = found.get("migrations")
        if not found["rows"]:
            raise Failure(f"the restored database {settings.database} has no table")
        say(f"restored {wanted.base.name} in {record['rto_seconds']} s, newest {newest or 'unknown'} ({record['rpo_seconds']} s before), at {iso(began)}")
    return record


def _age(newest: str | None, moment: float) -> float | None:
    """Seconds between the newest thing restored and the moment of the drill."""
    if not newest:
        return None
    return round(max(0.0, moment - datetime.datetime.fromisoformat(newest).timestamp()), 1)
