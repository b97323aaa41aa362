"""What the controller hands over for one part, turned into the part; and kept, so that the next run can ask of all parts at once."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os

from ansible_collections.senex.trader.plugins.module_utils import fileset, untrusted
from ansible_collections.senex.trader.plugins.module_utils.fileset import WantedFile
from ansible_collections.senex.trader.plugins.module_utils.quadlet_plan import Part
from ansible_collections.senex.trader.plugins.module_utils.service_user import ServiceUser
from ansible_collections.senex.trader.plugins.module_utils.system_transaction import SystemPart, ids

SUFFIX = ".last"


def quadlet_part(data: dict, user: ServiceUser, check: bool) -> Part:
    """A part of the service user; everything in it belongs to that user."""
    files = [
        WantedFile(item["path"], base64.b64decode(item["content"]), int(item["mode"], 8), user.uid, user.gid, item["secret"])
        for item in data["files"]
    ]
    secrets = {item["name"]: secret_value(item, check) for item in data["secrets"]}
    live = frozenset(item["name"] for item in data["secrets"] if item.get("live"))
    return Part(data["part"], files, data["directories"], secrets, data["units"], data["guards"], data["image_input"], live)


def system_part(data: dict, check: bool) -> SystemPart:
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
    return SystemPart(data["part"], files, data["directories"], data["absent"], data["checks"], data["handlers"], data["units"])


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
    """SHA-256 of all that was handed over, save the lease, which is of one run."""
    return hashlib.sha256(json.dumps({**data, "lease": {}}, sort_keys=True).encode()).hexdigest()


def keepable(data: dict) -> bool:
    """Whether files, secrets and units are all there is to a part: not where a script looks inside a container each time, or a secret lies in a file."""
    once = "inside" not in data or bool(data["inside"].get("once"))
    return data["state"] == "present" and once and not any("file" in item for item in data.get("secrets", []))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def keep(data: dict, directory: str = fileset.MANIFESTS) -> None:
    """Remember what a part was brought to, with digests in the place of its secrets."""
    path = os.path.join(directory, data["part"] + SUFFIX)
    if not keepable(data):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    files = [{**item, "content": _sha256(base64.b64decode(item["content"]))} if item["secret"] else item for item in data["files"]]
    kept = {**data, "lease": {}, "files": files}
    if "secrets" in data:
        kept["secrets"] = [{**item, "value": _sha256(str(item["value"]).encode())} for item in data["secrets"]]
    if "inside" in data:
        kept["inside"] = {**data["inside"], "script": _sha256(data["inside"]["script"].encode()), "redact": []}
    content = json.dumps({"digest": digest(data), "data": kept}).encode()
    if fileset.read(path)[0] != content:
        fileset.swap([(path, content, (0o600, os.geteuid(), os.getegid()))])


def is_kept(data: dict, directory: str = fileset.MANIFESTS) -> bool:
    """Whether the last run that ended well handed over the very same."""
    try:
        return json.loads(fileset.read(os.path.join(directory, data["part"] + SUFFIX))[0] or b"{}").get("digest") == digest(data)
    except (ValueError, AttributeError, RecursionError):
        return False


def _is_kept(one: object) -> bool:
    """Whether a file holds what `keep` wrote."""
    data = one.get("data") if isinstance(one, dict) else None
    return isinstance(data, dict) and {"part", "files", *(["user"] if "home" in data else [])} <= set(data) and isinstance(one.get("digest"), str)


def kept(directory: str = fileset.MANIFESTS) -> list[dict]:
    """What was kept of each part; a file that cannot be read is none."""
    found = []
    for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else []:
        if name.endswith(SUFFIX):
            with contextlib.suppress(ValueError, RecursionError):
                one = json.loads(fileset.read(os.path.join(directory, name))[0] or b"")
                found += [one] if _is_kept(one) else []
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
