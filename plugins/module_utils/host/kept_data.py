"""Which data a host had. Where an earlier run has seen data of a component, its directory is never laid out anew by itself: an unmounted disk, or a path
that was mistyped, must not become an empty site. Root notes it beside the component's manifest; the note stays when the component goes, as the data does.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct

from ansible_collections.senex.trader.plugins.module_utils.host import fileset, untrusted
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import ServiceUser

SUFFIX = ".data"
# A cluster of PostgreSQL is known by its system identifier; files by being there; uploads, which users may remove, by their file system; copies by both,
# for jobs go on writing where the disk is not
CLUSTER, FILES, UPLOADS, COPIES = "cluster", "files", "uploads", "copies"
UNKNOWN, FILLED, APART, HERE = "unknown", "filled", "apart", "here"
NOTHING = {"lost+found"}  # names that no data is


def of_component(directories: list[dict]) -> list[dict]:
    """Those of a component's directories that hold data."""
    return [item for item in directories if item.get("data")]


def control(path: str) -> str:
    """The file of a cluster that begins with its system identifier."""
    return os.path.join(path, "global/pg_control")


def identifier(content: bytes | None) -> str:
    """The system identifier at the beginning of pg_control, as PostgreSQL prints it."""
    return str(struct.unpack_from("=Q", content)[0]) if content and len(content) >= 8 else UNKNOWN


def clusters(paths: list[str]) -> dict[str, str]:
    """The system identifier in each directory; nothing where there is no whole cluster."""
    versions = {path: os.path.join(path, "PG_VERSION") for path in paths}
    found = untrusted.read([*versions.values(), *map(control, paths)])
    for version in versions.values():
        if trouble := untrusted.problem(found[version]):
            raise trouble
    return {path: identifier(found[control(path)].get("content")) if found[versions[path]].get("content") else "" for path in paths}


def filled(paths: list[str]) -> dict[str, str]:
    """Whether anything is in each directory."""
    found = untrusted.names(paths)
    for answer in found.values():
        if trouble := untrusted.problem(answer):
            raise trouble
    return {path: FILLED if set(answer.get("names", [])) - NOTHING else "" for path, answer in found.items()}


def placed(paths: list[str]) -> dict[str, str]:
    """Whether each directory lies on another file system than the host's own."""
    found = untrusted.space([*paths, "/"])
    for answer in found.values():
        if trouble := untrusted.problem(answer):
            raise trouble
    return {path: "" if "device" not in found[path] else HERE if found[path]["device"] == found["/"]["device"] else APART for path in paths}


def copied(paths: list[str]) -> dict[str, str]:
    """Whether anything is in each directory, and on which file system."""
    where = placed(paths)
    return {path: f"{what}, {where[path]}" if what else "" for path, what in filled(paths).items()}


LOOKS = {CLUSTER: clusters, FILES: filled, UPLOADS: placed, COPIES: copied}


def seen(items: list[dict]) -> dict[str, str]:
    """What is in each directory of data."""
    found: dict[str, str] = {}
    for kind, look in LOOKS.items():
        paths = [item["path"] for item in items if item["data"]["kind"] == kind]
        found.update(look(paths) if paths else {})
    return found


def lost(before: str, now: str) -> bool:
    """Whether what was in a directory is not there any more."""
    return not now or (before.endswith(APART) and now.endswith(HERE))


def noted(component: str, directory: str = fileset.MANIFESTS) -> dict[str, str]:
    """Directory -> what was in it when a run last looked."""
    return json.loads(fileset.read(os.path.join(directory, component + SUFFIX))[0] or b"{}")


def told(items: list[dict]) -> dict[str, str]:
    """What whoever exchanges data in order (a restore, an upgrade) has told of it, in the witness."""
    witnesses = {item["path"]: item["data"]["witness"] for item in items if item["data"].get("witness")}
    found = untrusted.read(list(witnesses.values()))
    return {path: found[witness].get("content", b"").decode(errors="replace").strip() for path, witness in witnesses.items()}


def trouble(component: str, items: list[dict], directory: str = fileset.MANIFESTS) -> str:
    """Why a component must not be laid out on what is there; empty where it may."""
    before = noted(component, directory)
    if not before:
        return ""
    there, said = seen(items), told(items)
    elsewhere = [path for path in before if path not in there]  # it had another path then
    for item in items:
        path, data = item["path"], item["data"]
        place = path if path in before else next(iter(elsewhere), "")
        if not place or data.get("new"):
            continue
        if lost(before[place], there[path]):
            what = f"cluster {before[place]}" if data["kind"] == CLUSTER else "data"
            state = "is not on its own file system" if there[path] else "is missing or empty"
            return (
                f"{path} {state}, and this host has had {what} in {place}: mount the disk that holds it, or put {data['input']} right. "
                f"Where it is lost and is to be restored, or is to begin with nothing, say so once: -e {data['begin']}=true"
            )
        if data["kind"] == CLUSTER and UNKNOWN not in (there[path], before[place]) and there[path] not in (before[place], said.get(path)):
            return (
                f"{path} holds cluster {there[path]}, and this host had cluster {before[place]}: mount the right disk, or put {data['input']} right. "
                f"Where this one is to serve from now on, say so once: -e {data['begin']}=true"
            )
    return ""


def news(component: str, items: list[dict], directory: str = fileset.MANIFESTS) -> bool:
    """Whether something is there that no run has noted yet."""
    there = {path: what for path, what in seen(items).items() if what}
    return bool(there) and there != noted(component, directory)


def remember(component: str, items: list[dict], user: ServiceUser, directory: str = fileset.MANIFESTS) -> None:
    """Note what is there, for root and for the container's own start; where nothing is, what was noted stays."""
    there = {path: what for path, what in seen(items).items() if what}
    if not there:
        return
    if there != noted(component, directory):
        text = json.dumps(there, indent=1, sort_keys=True) + "\n"
        fileset.swap([(os.path.join(directory, component + SUFFIX), text.encode(), (0o600, os.geteuid(), os.getegid()))])
    said = told(items)
    for item in items:
        path, witness = item["path"], item["data"].get("witness")
        if witness and path in there and said[path] != there[path]:
            tell(user, witness, there[path])


def tell(user: ServiceUser, witness: str, what: str) -> None:
    """Write a witness: a start of the container on an empty directory is refused as long as it is there."""
    user.writes(fileset.swap, [(witness, f"{what}\n".encode() if what else None, (0o644, user.uid, user.gid))])


def let_begin(items: list[dict], user: ServiceUser) -> None:
    """Take the witness away where a component was told to begin with nothing."""
    there = seen(items)
    for item in items:
        if item["data"].get("new") and item["data"].get("witness") and not there[item["path"]]:
            tell(user, item["data"]["witness"], "")


def gone(directory: str = fileset.MANIFESTS) -> list[dict]:
    """Directories of which a run has noted data, and which are missing or empty now."""
    looks, found = {APART: placed, HERE: placed, f"{FILLED}, {APART}": copied, f"{FILLED}, {HERE}": copied}, []
    for component in fileset.components(directory, SUFFIX):
        for path, what in noted(component, directory).items():
            with contextlib.suppress(OSError):  # the component's own look says why
                if lost(what, looks.get(what, filled)([path])[path]):
                    found.append({"component": component, "path": path})
    return found


def forget(directory: str = fileset.MANIFESTS) -> None:
    """Of a host whose data was put aside on purpose: nothing is missing there."""
    fileset.swap([(os.path.join(directory, component + SUFFIX), None, (0, 0, 0)) for component in fileset.components(directory, SUFFIX)])
