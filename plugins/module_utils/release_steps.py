"""What a release does on one host before it changes anything: image, migration plan, dump of the database."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time

from ansible_collections.senex.trader.plugins.module_utils import confined, untrusted
from ansible_collections.senex.trader.plugins.module_utils.postgresql import dump_file, session
from ansible_collections.senex.trader.plugins.module_utils.postgresql.container import Container
from ansible_collections.senex.trader.plugins.module_utils.postgresql.server import UserHost
from ansible_collections.senex.trader.plugins.module_utils.service_user import FULL, ServiceUser, room

MARK = "senex-plan:"
REASON = "pre-deploy"
LATE = 124  # what a command that did not end in time has for a status
LATEST = 900  # seconds that a restore point may take
LONGEST = 6 * 3600  # seconds that a dump may take
MOMENT = "YYYY-MM-DD HH24:MI:SS.US+00"
AT = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}\+00"  # a moment that looks so
FORMAT = "{{.Id}} {{.Digest}}"


def pull(user: ServiceUser, reference: str, kept: bool = False) -> dict:
    """Bring an image here; its id, its digest, and which containers run which image. A kept one is taken as it lies here, without the registry."""
    there = kept and user.image_ids([reference])
    result = None if there else user.podman("pull", "--quiet", reference, check=False, timeout=1800)
    if result and result.returncode:
        raise OSError(user.cannot_pull("django_image_tag", reference, result.stderr))
    identity, digest = user.podman("image", "inspect", "--format", FORMAT, reference).stdout.split()
    return {"image": identity, "digest": digest, **running(user)}


def load(user: ServiceUser, reference: str, wanted: dict, source: str = "") -> dict:
    """The image of an archive under its reference, as `pull`; {missing: True} where it is not here and the archive neither."""
    image, changed = wanted["image"], False
    if user.image_ids([reference]).get(reference) != image:
        if not user.image_ids([image]):
            if not source:
                return {"missing": True}
            _loaded(user, image, wanted["sha256"], source)
        user.podman("tag", image, reference)
        changed = True
    return {"changed": changed, **pull(user, reference, kept=True)}


def _loaded(user: ServiceUser, image: str, checksum: str, source: str) -> None:
    with open(source, "rb") as handle:  # root's own, from the controller
        if hashlib.file_digest(handle, "sha256").hexdigest() != checksum:
            raise OSError("senex_image_from: the archive arrived damaged, nothing was changed or stopped; run the playbook again")
        handle.seek(0)
        result = user.podman("load", "--quiet", check=False, stdin=handle, timeout=1800)
    if result.returncode:
        raise OSError(user.cannot_pull("senex_image_from", image[:12], result.stderr))
    if not user.image_ids([image]):
        raise OSError(f"senex_image_from: the archive gave another image than {image[:12]}, which its manifest names: {result.stdout.strip()[-300:]}")


def running(user: ServiceUser) -> dict:
    """Containers that run now, with image id and image name."""
    rows = json.loads(user.podman("ps", "--format", "json").stdout or "[]") or []
    return {"running": {row["Names"][0]: {"image": row["ImageID"], "reference": row["Image"]} for row in rows}}


def plan(user: ServiceUser, container: dict, script: str) -> dict:
    """Run the plan script in `manage shell` of an image; what it found."""
    result = _shell(user, container, script)
    found = _said(result)
    if result.returncode or found is None:
        raise OSError(f"the plan of {container['image']} could not be made, nothing was changed: {(result.stderr or result.stdout).strip()[-1500:]}")
    return found


def undo(user: ServiceUser, container: dict, script: str) -> dict:
    """Take migrations back in the image that has them: what was (`undone`), what was back before (`back`), and why the rest was not (`failed`)."""
    result = _shell(user, container, script)
    # It says after each migration what it has done so far
    found = _said(result)
    said = found or {}
    names = {kind: [name for name in said.get(kind) or [] if isinstance(name, str)] for kind in ("undone", "back")}
    ended = result.returncode or found is None
    return {**names, "failed": untrusted.lines(f"it ended with {result.returncode}: {(result.stderr or result.stdout).strip()[-1500:]}") if ended
            else str(said.get("failed") or "")}  # fmt: skip


def _shell(user: ServiceUser, container: dict, script: str):
    """`manage shell` of an image, with the application's environment."""
    environment = [word for name, value in container.get("environment", {}).items() for word in ("--env", f"{name}={value}")]
    volumes = [word for volume in container["volumes"] for word in ("--volume", volume)]
    dns = [f"--dns-option={option}" for option in container["dns_options"]]
    result = user.podman(
        "run", "--rm", "--interactive", "--pull=never", "--log-driver=none", "--name", "release-plan", "--replace", "--read-only", "--tmpfs", "/tmp",
        "--network", container["network"], *dns, "--env-file", container["env_file"], *environment, *volumes,
        *confined.OPTIONS, "--user", str(container["user"]),
        container["image"], *container["manage"], "shell", "--verbosity", "0",
        check=False, stdin=script, timeout=int(container["timeout"]),
    )  # fmt: skip
    if result.returncode == LATE:  # the client ended, and what runs in the container has not
        user.podman("rm", "--force", "--time=0", "release-plan", check=False)
    return result


def _said(result) -> dict | None:
    """The last that a script said; None where it said nothing, or nothing of that kind."""
    lines = [line for line in untrusted.records(result.stdout) if line.startswith(MARK)]
    try:
        found = _clean(json.loads(lines[-1].removeprefix(MARK))) if lines else None
    except RecursionError:
        return None
    return found if isinstance(found, dict) else None


def _clean(said):
    """What the application says of itself goes into messages and records: printable lines, whatever is in its names."""
    if isinstance(said, dict):
        return {untrusted.plain(name): _clean(value) for name, value in said.items()}
    if isinstance(said, list):
        return [_clean(one) for one in said]
    return untrusted.plain(said, 2000) if isinstance(said, str) else said


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
            argv = dump_file.command(container, role, session.target(database))
            made = user.does(_dumped, directory, argv, keep, user.home, user.environment, patience=LONGEST)
    except (OSError, ValueError) as error:
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
