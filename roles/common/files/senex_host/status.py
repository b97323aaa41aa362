"""The file that a job leaves of its last run, for whoever watches."""

from __future__ import annotations

import json
import os

from . import files

RESULTS = ("ok", "failed", "unverified", "never")
FIELDS = ("started", "finished", "seconds", "bytes", "what", "error")  # beside job, result and max_age_seconds; null where there is nothing to say


def path(directory: str, job: str) -> str:
    """Where it lies."""
    return os.path.join(directory, f"{job}.json")


def never(job: str) -> dict:
    """That of a job that has not run yet."""
    return {"job": job, "result": "never", **dict.fromkeys(FIELDS)}


def read(directory: str, job: str) -> dict | None:
    """What the job's own program reads of it; None where there is none, or none that can be read."""
    try:
        with open(path(directory, job), encoding="utf-8") as handle:
            return json.load(handle)
    except (OSError, ValueError):
        return None


def write(directory: str, job: str, max_age: int, **fields: object) -> None:
    """Replace it as a whole. `max_age`: seconds after which a result is stale."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    files.replace_json(path(directory, job), {**never(job), **fields, "max_age_seconds": max_age})
