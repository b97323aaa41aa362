"""What there is, and whether it is still what was written."""

from __future__ import annotations

import contextlib
import datetime
import json
import os

from senex_backup import dump, exchange, kinds, restore_files, undo
from senex_backup.common import BackupError, Settings, read_status, say, sentence
from senex_backup.postgresql import dump_file


def found(settings: Settings) -> list[dict]:
    """Every backup that looks complete, oldest first of its kind."""
    rows = []
    place = settings.directory(dump.DIRECTORY)
    for name in dump_file.dumps(place):
        path = os.path.join(place, name)
        facts = dump_file.facts(path)
        made = datetime.datetime.fromtimestamp(dump_file.timestamp_of(name), datetime.UTC).isoformat(timespec="seconds")
        rows.append({"kind": "dump", "name": name, "path": path, "made": made, "bytes": os.path.getsize(path), "database": facts.get("database"),
                     "rows": sum(facts["tables"].values()) if "tables" in facts else None})  # fmt: skip
    for kind, module in kinds.every().items():
        place = settings.directory(module.DIRECTORY)
        for name in module.copies(place):
            path = os.path.join(place, name)
            stamp = datetime.datetime.strptime(module.NAME.fullmatch(name)[1], "%Y-%m-%d-%H%M%S").replace(tzinfo=datetime.UTC)
            rows.append({"kind": kind, "name": name, "path": path, "made": stamp.isoformat(timespec="seconds"),
                         "bytes": os.path.getsize(path) if os.path.isfile(path) else None})  # fmt: skip
    return rows


def show(settings: Settings, as_json: bool) -> int:
    """A table for a person, or JSON."""
    rows, jobs = found(settings), [read_status(settings, job) for job in settings["jobs"]]
    aside = [(kind, name) for kind in restore_files.MODULES if kind in settings["jobs"] for name in exchange.kept(settings, kind)]
    if "dump" in settings["jobs"]:
        with contextlib.suppress(BackupError):  # a list of files is had without a server
            aside += [("dump", name) for name in undo.kept(settings)]
    if as_json:
        say(json.dumps({"backups": rows, "jobs": jobs, "kept_aside": [{"kind": kind, "name": name} for kind, name in aside]}, indent=1))
        return 0
    for row in rows:
        size = f"{row['bytes']:>14,}" if row["bytes"] is not None else " " * 14
        say(f"{row['kind']:<6} {row['made']:<25} {size}  {row['name']}" + (f"  {row['rows']:,} rows" if row.get("rows") is not None else ""))
    for kind, name in aside:
        say(f"{kind:<6} {name}  kept aside by a restore")
    for job in jobs:
        say(f"job {job['job']:<14} {job['result']:<7} {job['finished'] or ''}" + (f"  {job['error']}" if job["error"] else ""))
    return 0


def verify(settings: Settings, names: list[str]) -> int:
    """Read every backup (or those named) to its end; each that is damaged is named."""
    rows = [row for row in found(settings) if not names or row["name"] in names or row["path"] in names]
    unknown = [name for name in names if name not in {row[key] for row in rows for key in ("name", "path")}]
    if unknown:
        raise BackupError(f"there is no backup {', '.join(unknown)}: see {settings.home}/bin/backup list")
    damaged = []
    for row in rows:
        try:
            if row["kind"] == "dump":
                dump_file.verify(row["path"])
            else:
                kinds.every()[row["kind"]].verify(settings, row["path"])
        except (BackupError, OSError, ValueError) as error:
            damaged.append(row["name"])
            say(f"DAMAGED {row['name']}: {sentence(error)}")
        else:
            say(f"good    {row['name']}")
    if damaged:
        raise BackupError(f"{len(damaged)} of {len(rows)} backups are damaged: {', '.join(damaged)}")
    return 0
