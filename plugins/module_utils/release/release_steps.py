"""What a release does on one host before it changes anything: image, and the plan of its migrations."""

from __future__ import annotations

import hashlib
import json
import re

from ansible_collections.senex.trader.plugins.module_utils.host import confined, untrusted
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import ServiceUser

MARK = "senex-plan:"
LATE = 124  # what a command that did not end in time has for a status
FORMAT = "{{.Id}} {{.Digest}}"
ENVIRONMENT = re.compile(r"environment_([A-Za-z_]\w*)", re.ASCII)  # secrets that the application gets as files: STORED of the filter environment


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
    # Those that the environment file of this host names, whatever the inventory says by now
    kept = [found for name in user.podman("secret", "ls", "--format", "{{.Name}}").stdout.split() if (found := ENVIRONMENT.fullmatch(name))]
    owner = f"uid={container['user']},gid={container['user']},mode=0400"
    mounts = [f"--secret={found[0]},type=mount,target=/run/secrets/{found[1]},{owner}" for found in kept]
    result = user.podman(
        "run", "--rm", "--interactive", "--pull=never", "--log-driver=none", "--name", "release-plan", "--replace", "--read-only", "--tmpfs", "/tmp",
        "--network", container["network"], *dns, "--env-file", container["env_file"], *environment, *volumes, *mounts,
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
