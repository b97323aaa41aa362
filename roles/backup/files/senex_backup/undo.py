"""The database that a restore of a dump has kept, put back into its place: by the same steps as a dump, with nothing to load."""

from __future__ import annotations

import re
import time

from senex_backup.around import CLUSTER
from senex_backup.common import BackupError, Settings, rows, say, sql
from senex_backup.postgresql import contents

NAME = "before-restore-"  # and its time, as of what restores of Redis and of media keep


def kept(settings: Settings) -> dict[str, str]:
    """{the name that a person gives: that of the database}, oldest first."""
    pattern = re.compile(rf"{re.escape(settings['database']['name'])}_before_restore_(\d{{14}})")
    there = [name for (name,) in rows(settings, "select datname from pg_database order by 1;", CLUSTER)]
    return {NAME + found[1]: name for name in there if (found := pattern.fullmatch(name))}


def is_meant(settings: Settings, name: str) -> bool:
    """Whether a name is one of these, and not a dump's."""
    return name.startswith((NAME, f"{settings['database']['name']}_before_restore_"))


def plan(settings: Settings, name: str) -> dict:
    """What putting one back would do."""
    there = kept(settings)
    back = there.get(name) or (name if name in there.values() else "")
    if not back:
        raise BackupError(f"there is no database {name} that a restore kept; there are: {', '.join(there) or 'none'}")
    counts, database = counted(settings, back), settings["database"]["name"]
    replaced = time.strptime(back[-14:], "%Y%m%d%H%M%S")
    return {
        "dump": back, "back": True, "made": time.strftime("%F %T UTC", replaced), "rows": sum(counts.values()), "tables": len(counts), "database": database,
        "database_bytes": int(sql(settings, f"select pg_database_size('{database}');", CLUSTER)), "restored": back,
        "aside": f"{database}_before_restore_{time.strftime('%Y%m%d%H%M%S', time.gmtime())}", "machine": None, "source": None, "roles": [], "others": [],
    }  # fmt: skip


def counted(settings: Settings, database: str) -> dict[str, int]:
    """Rows of each table: each of them can be read."""
    return {name: int(count) for kind, name, count in rows(settings, contents.COUNTS, database, timeout=3600) if kind == "T"}


def load(settings: Settings, wanted: dict) -> dict:
    """It is there and can be read, and nobody has written to it since the plan."""
    began = time.monotonic()
    found = sum(counted(settings, wanted["restored"]).values())
    if found != wanted["rows"]:
        raise BackupError(f"{wanted['restored']} has {found} rows, and had {wanted['rows']} when the plan was made: somebody writes to it")
    say(f"{wanted['restored']} is there: {found} rows in {wanted['tables']} tables")
    return {**wanted, "checked": [f"{found} rows"], "load_seconds": 0.0, "seconds": round(time.monotonic() - began, 1)}
