"""What a release does on one host before it changes anything: image, migration plan, dump of the database."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import subprocess
import time

from ansible_collections.senex.trader.plugins.module_utils.service_user import PODMAN, ServiceUser

MARK = "senex-plan:"
DUMP_ENDS = b"PostgreSQL database dump complete"
FORMAT = "{{.Id}} {{.Digest}}"


def pull(user: ServiceUser, reference: str, kept: bool = False) -> dict:
    """Bring an image here; its id, its digest, and which containers run which image. A kept one is taken as it lies here, without the registry."""
    there = kept and user.image_ids([reference])
    result = None if there else user.podman("pull", "--quiet", reference, check=False, timeout=1800)
    if result and result.returncode:
        raise OSError(
            f"django_image_tag: the image {reference} cannot be pulled, nothing was changed or stopped; name one that the registry has "
            f"and senex_registry_login may read. Podman said: {result.stderr.strip()[-800:]}"
        )
    identity, digest = user.podman("image", "inspect", "--format", FORMAT, reference).stdout.split()
    return {"image": identity, "digest": digest, **running(user)}


def running(user: ServiceUser) -> dict:
    """Containers that run now, with image id and image name."""
    rows = json.loads(user.podman("ps", "--format", "json").stdout or "[]") or []
    return {"running": {row["Names"][0]: {"image": row["ImageID"], "reference": row["Image"]} for row in rows}}


def plan(user: ServiceUser, container: dict, script: str) -> dict:
    """Run the plan script in `manage shell` of an image, with the application's environment; what it found."""
    environment = [word for name, value in container.get("environment", {}).items() for word in ("--env", f"{name}={value}")]
    volumes = [word for volume in container["volumes"] for word in ("--volume", volume)]
    result = user.podman(
        "run", "--rm", "--interactive", "--pull=never", "--log-driver=none", "--name", "release-plan", "--replace", "--read-only", "--tmpfs", "/tmp",
        "--network", container["network"], "--env-file", container["env_file"], *environment, *volumes,
        "--cap-drop=all", "--security-opt=no-new-privileges", "--user", str(container["user"]),
        container["image"], *container["manage"], "shell", "--verbosity", "0",
        check=False, stdin=script, timeout=int(container["timeout"]),
    )  # fmt: skip
    found = [line for line in result.stdout.splitlines() if line.startswith(MARK)]
    if result.returncode or not found:
        raise OSError(f"the plan of {container['image']} could not be made, nothing was changed: {(result.stderr or result.stdout).strip()[-1500:]}")
    return json.loads(found[-1].removeprefix(MARK))


def dump(user: ServiceUser, database: str, role: str, directory: str, keep: int, container: str = "postgres") -> dict:
    """A verified dump `pre-deploy-<UTC time>.sql.gz`; it has its name only when it is whole. The newest `keep` of its reason stay."""
    began = time.monotonic()
    if not os.path.isdir(directory):
        user.make_directory(directory, 0o700, None, None)
    path = os.path.join(directory, time.strftime("pre-deploy-%Y-%m-%d-%H%M%S.sql.gz", time.gmtime()))
    temporary = f"{path}.part"
    command = [PODMAN, "exec", container, "pg_dump", "--username", role, "--no-password", "--dbname", database]
    tail = b""
    try:
        with user.acting():
            raw = open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")  # noqa: SIM115  (closed below)
        with (
            raw,
            gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1, mtime=0) as packed,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=user.home, env=user.environment,
                             user=user.uid, group=user.gid, extra_groups=[]) as process,
        ):  # fmt: skip
            for block in iter(lambda: process.stdout.read(1 << 20), b""):
                packed.write(block)
                tail = (tail + block)[-200:]
            said = process.stderr.read().decode(errors="replace").strip()
        if process.returncode or DUMP_ENDS not in tail:
            raise OSError(f"pg_dump ended with {process.returncode}: {said or 'its output is not whole'}")
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
            digest = hashlib.sha256()
            while block := handle.read(1 << 20):
                digest.update(block)
        tail = b""
        with gzip.open(temporary) as packed:  # what lies on the disk, not what was meant to
            while block := packed.read(1 << 20):
                tail = (tail + block)[-200:]
        if DUMP_ENDS not in tail:
            raise OSError("what was written does not end as a dump does")
        os.rename(temporary, path)
    except (OSError, EOFError, gzip.BadGzipFile) as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise OSError(f"the backup before the release failed, nothing was changed: {error}") from error
    prune(directory, keep)
    return {"path": path, "bytes": os.path.getsize(path), "sha256": digest.hexdigest(), "seconds": round(time.monotonic() - began, 1)}


def prune(directory: str, keep: int) -> list[str]:
    """Remove all but the newest `keep` dumps of this reason; never the last."""
    found = sorted(name for name in os.listdir(directory) if name.startswith("pre-deploy-") and name.endswith(".sql.gz"))
    gone = found[: -max(1, keep)]
    for name in gone:
        os.unlink(os.path.join(directory, name))
    return gone


def restore_point(user: ServiceUser, database: str, role: str, name: str, container: str = "postgres") -> str:
    """A named point in the write-ahead log, for a recovery to just before the release."""
    user.podman(
        "exec", "--interactive", container, "psql", "-XqAt", "--username", role, "--dbname", database, "-v", "ON_ERROR_STOP=1", "-v", f"name={name}",
        stdin="select pg_create_restore_point(:'name');\n",
    )  # fmt: skip
    return name
