"""What a release does on one host before it changes anything: image, and the plan of its migrations."""

from __future__ import annotations

import hashlib
import json
import re

from ansible_collections.senex.trader.plugins.module_utils.engine import unit_options, unit_text
from ansible_collections.senex.trader.plugins.module_utils.host import confined, image_origin, untrusted, user_manager
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import PODMAN, ServiceUser

MARK = "senex-plan:"
SYSTEMD_RUN = "/usr/bin/systemd-run"
NAME = "release-plan"
SERVICE = f"{NAME}.service"
LATE = 124  # what a command that did not end in time has for a status
ENVIRONMENT = re.compile(r"environment_([A-Za-z_]\w*)", re.ASCII)  # secrets that the application gets as files: STORED of the filter environment


def pull(user: ServiceUser, reference: str, kept: bool = False) -> dict:
    """Bring an image here; its id, its digest, and which containers run which image. A kept one is taken as it lies here, without the registry."""
    there = kept and user.image_ids([reference])
    result = None if there else user.podman("pull", "--quiet", reference, check=False, timeout=1800)
    if result and result.returncode:
        raise OSError(user.cannot_pull("django_image_tag", reference, result.stderr))
    found = image_origin.described(user, reference)
    if not found:
        raise OSError(f"the image {reference} was pulled, and is not here: something else removes images")
    return {**{name: found[name] for name in ("image", "digest", "built")}, **running(user)}


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
        image = unit_text.image(container["unit"])
        raise OSError(f"the plan of {image} could not be made, no migration was run: {(result.stderr or result.stdout).strip()[-1500:]}")
    return found


def undo(user: ServiceUser, container: dict, script: str) -> dict:
    """Take migrations back in the image that has them: what was (`undone`), what was back before (`back`), what was not (`left`), and why (`failed`)."""
    result = _shell(user, container, script)
    # It says after each migration what it has done so far
    found = _said(result)
    said = found or {}
    names = {kind: [name for name in said.get(kind) or [] if isinstance(name, str)] for kind in ("undone", "back")}
    asked = json.loads(container["environment"]["PLAN_UNDO"])
    ended = result.returncode or found is None
    return {
        **names,
        "left": [name for name in asked if name not in names["undone"] + names["back"]],
        "failed": untrusted.lines(f"it ended with {result.returncode}: {(result.stderr or result.stdout).strip()[-1500:]}") if ended
        else str(said.get("failed") or ""),
    }  # fmt: skip


def undo_failure(found: dict) -> str:
    """What is told of an undo that did not come to its end."""
    lines = [f"the migrations were not all undone: {found['failed'].rstrip('.')}.", f"Undone: {', '.join(found['undone']) or 'none'}."]
    lines += [f"Undone before: {', '.join(found['back'])}."] if found["back"] else []
    return " ".join([*lines, f"Not undone: {', '.join(found['left']) or 'none'}. It can be run again: what is undone is passed over then"])


def _shell(user: ServiceUser, container: dict, script: str):
    """`manage shell` of an image, in a container as its unit describes one: what the application has in service it has here."""
    unit = unit_options.read(container["unit"])
    environment = [word for name, value in container.get("environment", {}).items() for word in ("--env", f"{name}={value}")]
    # Another one than the application's is there from the next change on, too
    there = [name for name in unit.environment_files if name == unit.environment_files[0] or untrusted.kind(name)]
    files = [word for name in there for word in ("--env-file", name)]
    mounts = [word for mount in unit.mounts for word in _mounted(mount)]
    # A secret that only the next change brings is not there yet
    known = user.podman("secret", "ls", "--format", "{{.Name}}").stdout.split()
    secrets = [f"--secret={name},{how}" for name, how in unit.secrets if name in known]
    # Those that the environment file of this host names, whatever the inventory says by now
    named = {name for name, _ in unit.secrets}
    kept = [found for name in known if name not in named and (found := ENVIRONMENT.fullmatch(name))]
    owner = next((word.removeprefix("--user=").split(":")[0] for word in unit.options if word.startswith("--user=")), "0")
    secrets += [f"--secret={found[0]},type=mount,target=/run/secrets/{found[1]},uid={owner},gid={owner},mode=0400" for found in kept]
    user.systemctl("stop", SERVICE, check=False)  # of a run that was killed
    # Limits are a unit's matter, as for all other containers: where the kernel has none, it starts all the same
    limits = [f"--property={limit}" for limit in [*unit.properties, "Delegate=yes", "TimeoutStopSec=10", f"RuntimeMaxSec={int(container['timeout']) + 60}"]]
    inside = [
        PODMAN, "run", "--rm", "--interactive", "--pull=never", "--log-driver=none", "--name", NAME, "--replace", "--cgroups=split",
        "--network", container["network"], *files, *environment, *mounts, *secrets, *unit.options, *confined.OPTIONS,
        unit.image, *_manage(unit.words), "shell", "--verbosity", "0",
    ]  # fmt: skip
    result = user.run(
        [SYSTEMD_RUN, "--user", "--quiet", "--collect", "--wait", "--pipe", f"--unit={SERVICE}", *limits, "--", *user_manager.verbatim(inside)],
        check=False, stdin=script, timeout=int(container["timeout"]),
    )  # fmt: skip
    if result.returncode == LATE:  # the client ended, and what runs in the container has not
        user.podman("rm", "--force", "--time=0", NAME, check=False)
        user.systemctl("stop", SERVICE, check=False)
    return result


def _manage(words: list[str]) -> list[str]:
    """How the unit, which runs a script of its own in the same way, comes to `manage shell`."""
    return words[: len(words) - 1 - words[::-1].index("shell")]


def _mounted(mount: unit_options.Mount) -> list[str]:
    """A mount; an empty directory that is thrown away where the host has nothing yet, such as the static files of a release that was never started."""
    there = untrusted.kind(mount.source) or not mount.source.startswith("/")
    return ["--volume", mount.word()] if there else ["--tmpfs", f"{mount.target}:rw,mode=1777,size=64m"]


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
