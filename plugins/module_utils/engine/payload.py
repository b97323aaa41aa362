"""What the controller hands over for one component, turned into the component; and kept, so that the next run can ask of all components at once."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os

from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_plan import Component
from ansible_collections.senex.trader.plugins.module_utils.engine.system_transaction import SystemComponent, ids
from ansible_collections.senex.trader.plugins.module_utils.host import fileset, untrusted
from ansible_collections.senex.trader.plugins.module_utils.host.fileset import WantedFile
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import ServiceUser

SUFFIX = ".last"


def quadlet_component(data: dict, user: ServiceUser, check: bool) -> Component:
    """A component of the service user; everything in it belongs to that user."""
    files = [WantedFile(item["path"], base64.b64decode(item["content"]), int(item["mode"], 8), user.uid, user.gid, item["secret"]) for item in data["files"]]
    secrets = {item["name"]: secret_value(item, check) for item in data["secrets"]}
    no_restart = frozenset(item["name"] for item in data["secrets"] if item.get("no_restart_on_change"))
    rest = (data["directories"], secrets, data["units"], data["preconditions"], data["image_input"], no_restart, data.get("images", {}))
    return Component(data["component"], files, *rest)


def system_component(data: dict, check: bool) -> SystemComponent:
    """A set of system files."""
    files = []
    for item in data["files"]:
        try:
            owner = ids(item["owner"], item["group"])
        except LookupError:
            if not check:  # in check mode on a bare host the owner is made by a task before this one
                raise
            owner = (0, 0)
        content = base64.b64decode(item["content"])
        files.append(WantedFile(item["path"], content, int(item["mode"], 8), *owner, item["secret"], item["notify"], item.get("block_at", "")))
    return SystemComponent(data["component"], files, data["directories"], data["absent"], data["checks"], data["handlers"], data["units"])


def secret_value(item: dict, check: bool) -> str:
    """A secret's value, given or read from a file on the host that only root may read (a private key that was made here)."""
    if "file" not in item:
        return str(item["value"])
    answer = untrusted.read([item["file"]], follow=True)[item["file"]]
    if "content" in answer:
        return answer["content"].decode()
    if check:  # made by a task before this one
        return ""
    raise untrusted.problem(answer) or FileNotFoundError(*answer["error"])


def digest(data: dict) -> str:
    """SHA-256 of all that was handed over, save what is of one run."""
    return hashlib.sha256(json.dumps(_lasting(data), sort_keys=True).encode()).hexdigest()


def _lasting(data: dict) -> dict:
    """Without the lock, and without images whose tags are moved now: the host has them from then on."""
    return {**{name: value for name, value in data.items() if name != "images"}, "deploy_lock": {}}


def is_cacheable(data: dict) -> bool:
    """Whether files, secrets and units are all there is to a component: not where a script looks inside a container each time, or a secret lies in a file."""
    once = "post_start_exec" not in data or bool(data["post_start_exec"].get("only_on_change"))
    return data["state"] == "present" and once and not any("file" in item for item in data.get("secrets", []))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def save_applied(data: dict, directory: str = fileset.MANIFESTS) -> None:
    """Remember what a component was brought to, with digests in the place of its secrets."""
    path = os.path.join(directory, data["component"] + SUFFIX)
    if not is_cacheable(data):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    files = [{**item, "content": _sha256(base64.b64decode(item["content"]))} if item["secret"] else item for item in data["files"]]
    kept = {**_lasting(data), "files": files}
    if "secrets" in data:
        kept["secrets"] = [{**item, "value": _sha256(str(item["value"]).encode())} for item in data["secrets"]]
    if "post_start_exec" in data:
        kept["post_start_exec"] = {**data["post_start_exec"], "script": _sha256(data["post_start_exec"]["script"].encode()), "redact": []}
    content = json.dumps({"digest": digest(data), "data": kept}).encode()
    if fileset.read(path)[0] != content:
        fileset.swap([(path, content, (0o600, os.geteuid(), os.getegid()))])


def is_applied(data: dict, directory: str = fileset.MANIFESTS) -> bool:
    """Whether the last run that ended well handed over the very same."""
    try:
        return json.loads(fileset.read(os.path.join(directory, data["component"] + SUFFIX))[0] or b"{}").get("digest") == digest(data)
    except (ValueError, AttributeError, RecursionError):
        return False


def _is_saved(one: object) -> bool:
    """Whether a file holds what `save_applied` wrote."""
    data = one.get("data") if isinstance(one, dict) else None
    return isinstance(data, dict) and {"component", "files", *(["user"] if "home" in data else [])} <= set(data) and isinstance(one.get("digest"), str)


def load_applied(directory: str = fileset.MANIFESTS) -> list[dict]:
    """What was kept of each component; a file that cannot be read is none."""
    found = []
    for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else []:
        if name.endswith(SUFFIX):
            with contextlib.suppress(ValueError, RecursionError):
                one = json.loads(fileset.read(os.path.join(directory, name))[0] or b"")
                found += [one] if _is_saved(one) else []
    return found


def with_secrets(data: dict, values: dict[str, str]) -> dict | None:
    """What was kept, with the secrets that lie on the host where they are still the same; None where one is not."""
    files, secrets = [], []
    there = fileset.read_all([item["path"] for item in data["files"] if item["secret"]])
    for item in data["files"]:
        if item["secret"]:
            content, _owner = there[item["path"]]
            if content is None or _sha256(content) != item["content"]:
                return None
            item = {**item, "content": base64.b64encode(content).decode()}
        files.append(item)
    for item in data.get("secrets", []):
        value = values.get(item["name"])
        if value is None or _sha256(value.encode()) != item["value"]:
            return None
        secrets.append({**item, "value": value})
    return {**data, "files": files, "secrets": secrets}
