"""What is kept of the database before a release or an upgrade changes it: a verified dump, and a point in the write-ahead log."""

from __future__ import annotations

import json
import os
import re
import time

from ansible_collections.senex.trader.plugins.module_utils.host import untrusted
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import FULL, CommandError, ServiceUser, room
from ansible_collections.senex.trader.plugins.module_utils.postgresql import dump_file, session
from ansible_collections.senex.trader.plugins.module_utils.postgresql.container import Container
from ansible_collections.senex.trader.plugins.module_utils.postgresql.server import UserHost

REASON = "pre-deploy"
LATEST = 900  # seconds that a restore point may take
LONGEST = 6 * 3600  # seconds that a dump may take
MOMENT = "YYYY-MM-DD HH24:MI:SS.US+00"
AT = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}\+00"  # a moment that looks so


def dump(user: ServiceUser, database: str, role: str, directory: str, keep: int, container: str) -> dict:
    """A verified dump `pre-deploy-<UTC time>.sql.gz`; it has its name only when it is whole. The newest `keep` of its reason stay.

    Made by the command of role backup where that is installed, which lets no other dump run beside it.
    """
    began = time.monotonic()
    command = os.path.join(user.home, "bin/backup")
    try:
        if untrusted.kind(command):
            result = user.run([command, "dump", "--reason", REASON, "--keep", str(keep), "--json"], check=False, timeout=LONGEST)
            if result.returncode:
                raise OSError((result.stderr or result.stdout).strip())
            made = _whole(json.loads(result.stdout.strip().rpartition("\n")[2]))
        else:
            if untrusted.kind(directory) != "directory":
                user.make_directory(directory, 0o700, None, None)
            there = Container(UserHost(user), container)
            [[encoding]] = there.psql("show server_encoding;", session.target(database), role)
            argv = dump_file.command(container, role, session.target(database), f"--encoding={encoding}")
            made = user.does(_dumped, directory, argv, keep, user.home, user.environment, patience=LONGEST)
    except (OSError, ValueError, CommandError) as error:
        where = f". {room([directory])}" if any(word in str(error).lower() for word in FULL) else ""
        raise OSError(f"the backup before the release failed, nothing was changed: {error}{where}") from error
    return {**{key: made[key] for key in ("path", "bytes", "sha256")}, "seconds": round(time.monotonic() - began, 1)}


def _whole(made: object) -> dict:
    """What a dump may be in a record: the command that says it is the service user's own."""
    if not (
        isinstance(made, dict)
        and isinstance(made.get("path"), str)
        and made["path"].isprintable()
        and dump_file.NAME.fullmatch(os.path.basename(made["path"]))
        and type(made.get("bytes")) is int
        and re.fullmatch("[0-9a-f]{64}", str(made.get("sha256")))
    ):
        raise ValueError("bin/backup does not say what it made: site.yml --tags backup brings it anew")
    return made


def _dumped(directory: str, argv: list[str], keep: int, home: str, environment: dict[str, str]) -> dict:
    """All of it as the service user, whose directory it is."""
    made = dump_file.write(dump_file.path_for(directory, REASON), argv, cwd=home, env=environment)
    dump_file.prune(directory, REASON, keep=keep, spare=made["path"])
    return made


def restore_point(user: ServiceUser, database: str, role: str, name: str, container: str) -> dict:
    """A named point in the write-ahead log, and its time as a recovery takes it: just before the release changed anything."""
    result = Container(UserHost(user), container).program(
        "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-v", f"name={name}", "-d", session.target(database), role=role, timeout=LATEST,
        stdin=f"select to_char(clock_timestamp() at time zone 'utc', '{MOMENT}') from pg_create_restore_point(:'name');\n",
    )  # fmt: skip
    at = result.stdout.strip()
    if not re.fullmatch(AT, at):  # it stands in the record, for a person to give to a restore
        raise OSError(f"{container} gives no time for the restore point, nothing was changed")
    return {"restore_point": name, "restore_point_at": at}
