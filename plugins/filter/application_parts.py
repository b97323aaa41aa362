# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""What an application has beside web instances, workers and Beat: volumes (senex_application_volumes) and processes (senex_application_processes)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.senex.trader.plugins.filter.checking_types import FLAGS, TYPES
from ansible_collections.senex.trader.plugins.filter.sizing import UNITS as SIZES
from ansible_collections.senex.trader.plugins.filter.sizing import to_megabytes

VOLUMES = "senex_application_volumes"
PROCESSES = "senex_application_processes"
VOLUME_KEYS = ("name", "mount", "parts", "read_only", "backup")
PROCESS_KEYS = ("name", "command", "count", "health_command", "stop_timeout", "memory", "group")
PARTS = ("web", "worker", "beat")
GROUPS = ("web", "celery", "celery_beat")
# Below senex_home: nothing there is served by nginx, and each directory is the image user's alone
PLACE = "data/volumes"
NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
MOUNT = re.compile(r"(/[A-Za-z0-9_][A-Za-z0-9._-]*|/\.[A-Za-z0-9_-][A-Za-z0-9._-]*)+")
# A check is one line of a unit, and Podman splits it at its spaces
PLAIN = re.compile(r"[A-Za-z0-9_./:=@,+-]+")
# What the image, Podman or this collection has there
TAKEN = ("/tmp", "/var/tmp", "/run", "/proc", "/sys", "/dev", "/etc", "/var/lib/celery-beat")  # noqa: S108  (names of mounts)
# First words of units that there are already, or may be: process-1 is a unit beside web-1
RESERVED = (
    "web",
    "worker",
    "beat",
    "flower",
    "release",
    "celery",
    "postgres",
    "redis",
    "nginx",
    "pitr",
    "backup",
    "senex",
    "podman",
    "user",
    "dbus",
    "systemd",
)
MOST = 32
LEAST_MEMORY = 64
STOP_TIMEOUT = 30


def _mapping(value: Any) -> list[Mapping[str, Any]]:
    """The entries that can be read; what is none was refused before."""
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, Sequence) and not isinstance(value, str) else []


def _words(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and bool(value) and all(isinstance(word, str) and word for word in value)


def _whole(value: Any, least: int, most: int) -> bool:
    # Podman takes 030 for an octal number
    return not isinstance(value, bool) and re.fullmatch("0|[1-9][0-9]{0,5}", str(value)) is not None and least <= int(value) <= most


def _flag(value: Any) -> bool:
    return str(value).lower() in ("true", "yes", "on", "y", "t", "1")


def _strange(kind: str, entry: Mapping[str, Any], keys: Sequence[str], needed: Sequence[str]) -> list[str]:
    lines = [f"{kind}: there is no key {key}; there are {', '.join(keys)}" for key in entry if key not in keys]
    return lines + [f"{kind}: has no {key}" for key in needed if not entry.get(key)]


def _twice(kind: str, entries: Sequence[Mapping[str, Any]]) -> list[str]:
    names = [str(one.get("name")) for one in entries]
    return [f"{kind}: the name {name} is there twice; give each its own" for name in dict.fromkeys(names) if names.count(name) > 1]


def _apart(one: str, two: str) -> bool:
    return one != two and not one.startswith(f"{two}/") and not two.startswith(f"{one}/")


def volume_problems(volumes: Any, processes: Any = (), taken: Mapping[str, Any] | None = None, groups: Mapping[str, Sequence[str]] | None = None) -> list[str]:
    """One line for each thing that is wrong with the volumes. `taken`: mounts that there are, by the variable that names each. `groups`: those of the
    inventory, which say where copies are made."""
    entries, known = _mapping(volumes), [*PARTS, *(str(one.get("name")) for one in _mapping(processes))]
    others = {**{path: "the containers have their own there" for path in TAKEN}, **{str(path): f"{name} is there" for name, path in (taken or {}).items()}}
    lines = _twice(VOLUMES, entries)
    for number, one in enumerate(entries, 1):
        title = f"{VOLUMES}, number {number}"
        lines += _strange(title, one, VOLUME_KEYS, ("name", "mount"))
        name, mount, parts = one.get("name"), str(one.get("mount") or ""), one.get("parts")
        if name and not NAME.fullmatch(str(name)):
            lines.append(f"{title}.name: '{name}' is no name; write small letters, digits and -, such as search-index")
        if mount and not MOUNT.fullmatch(mount):
            lines.append(f"{title}.mount: '{mount}' is no absolute path of a directory in the container; write such as /app/index")
        else:
            lines += [f"{title}.mount: {mount} and {path} would cover each other; {why}" for path, why in others.items() if mount and not _apart(mount, path)]
        if mount:
            others.setdefault(mount, f"the volume {name} is there")
        if parts is not None and (not _words(parts) or set(parts) - set(known)):
            said = ", ".join(str(part) for part in parts if part not in known) if _words(parts) else "it"
            lines.append(f"{title}.parts: {said} is none of {', '.join(known)}; write a list of these, or take the line out for all of them")
        lines += [f"{title}.{key}: must be true or false" for key in ("read_only", "backup") if key in one and str(one[key]).lower() not in FLAGS]
        if _flag(one.get("backup")) and groups is not None:
            lines += [f"{title}.backup: {problem}" for problem in _copy_problems(one, processes, groups)]
    return lines


def _copy_problems(volume: Mapping[str, Any], processes: Any, groups: Mapping[str, Sequence[str]]) -> list[str]:
    """Why a volume is not copied on every host that has one: copies are made beside those of media."""
    usual = "celery" if groups.get("celery") else "web"
    hosts = {"web": "web", "worker": "celery", "beat": "celery_beat", **{str(one.get("name")): str(one.get("group", usual)) for one in _mapping(processes)}}
    mounts = [host for part in volume.get("parts") or hosts for host in groups.get(hosts.get(part, ""), [])]
    copied = [host for host in groups.get("web") or [] if host in (groups.get("backup") or [])]
    away = [host for host in dict.fromkeys([*(groups.get("web") or []), *mounts]) if host not in copied]
    if not away:
        return []
    said = "would have the volume and make no copy of it, which hosts do that are in the groups web and backup; write false, or name other parts"
    return [f"{', '.join(away)} {said}"]


def kept_volumes(volumes: Any) -> dict[str, str]:
    """Where the volumes are, below the home, that are copied."""
    return {str(one["name"]): f"{PLACE}/{one['name']}" for one in _mapping(volumes) if _flag(one.get("backup"))}


def process_problems(processes: Any, groups: Mapping[str, Sequence[str]]) -> list[str]:
    """One line for each thing that is wrong with the processes."""
    entries = _mapping(processes)
    lines = _twice(PROCESSES, entries)
    for number, one in enumerate(entries, 1):
        title, name = f"{PROCESSES}, number {number}", one.get("name")
        lines += _strange(title, one, PROCESS_KEYS, ("name", "command"))
        if name and not NAME.fullmatch(str(name)):
            lines.append(f"{title}.name: '{name}' is no name; write small letters, digits and -, such as market-feed")
        elif name and str(name).split("-")[0] in RESERVED:
            lines.append(f"{title}.name: {name} begins with {str(name).split('-')[0]}, as other units do; write another name, such as my-{name}")
        for key in ("command", "health_command"):
            if one.get(key) and not _words(one[key]):
                lines.append(f"{title}.{key}: must be a list of words, such as [manage, consume]")
        if _words(one.get("health_command")) and not all(PLAIN.fullmatch(word) for word in one["health_command"]):
            lines.append(f"{title}.health_command: a word has spaces, quotes or the like, which a check cannot have; put them into a command of the image")
        if _words(one.get("health_command")) and " ".join(one["health_command"]).upper() == "NONE":
            lines.append(f"{title}.health_command: Podman takes none for no check at all; take the line out for that")
        for key, least, most, what in (("count", 1, MOST, "processes"), ("stop_timeout", 1, 3600, "seconds")):
            if key in one and not _whole(one[key], least, most):
                lines.append(f"{title}.{key}: must be a number of {what} from {least} to {most}")
        lines += _memory_problems(title, one.get("memory"))
        group = one.get("group")
        if group is not None and (group not in GROUPS or not groups.get(group)):
            lines.append(f"{title}.group: must be one of {', '.join(name for name in GROUPS if groups.get(name))}, whose hosts have the image")
    return lines


def _memory_problems(title: str, memory: Any) -> list[str]:
    if memory is None:
        return []
    text = str(memory).strip()
    good = not isinstance(memory, bool) and re.fullmatch(rf"[0-9]+\s*[{''.join(SIZES)}]?i?b?", text, re.IGNORECASE) and TYPES["size"][1](memory)
    if not good or to_megabytes(memory) < LEAST_MEMORY:
        return [f"{title}.memory: must be a size such as 256M, or a number of MB; {LEAST_MEMORY} at least"]
    return []


def process_instances(processes: Any, groups: Mapping[str, Sequence[str]], mine: Sequence[str]) -> list[dict[str, Any]]:
    """The processes of a host with these groups, each by a name of its own, and in the group whose role puts it in place."""
    usual = "celery" if groups.get("celery") else "web"
    found = []
    for one in _mapping(processes):
        group = one.get("group", usual)
        count = int(one.get("count", 1)) if _whole(one.get("count", 1), 1, MOST) else 1
        found += [{**one, "group": group, "process": one.get("name"), "name": f"{one.get('name')}-{number}"} for number in range(1, count + 1) if group in mine]
    return found


def unplanned_processes(instances: Sequence[Mapping[str, Any]]) -> int:
    """How many share what the plan of memory has for processes: those that say no limit of their own."""
    return len([one for one in instances if one.get("memory") is None])


def process_memory(instances: Sequence[Mapping[str, Any]]) -> int:
    """MB that the others may take together."""
    return sum(to_megabytes(one["memory"]) for one in instances if one.get("memory") is not None)


def process_files(instances: Sequence[Mapping[str, Any]], groups: Sequence[str], about: Mapping[str, Any], shared: Any = 0) -> list[dict[str, Any]]:
    """A unit for each process of these groups. `about`: what the template has of the role. `shared`: MB for all of a host that have no limit of their own."""
    each = int(shared or 0) // max(1, unplanned_processes(instances))
    return [
        {"src": "process.container.j2", "dest": f"{one['name']}.container",
         "vars": {"__process": {"stop_timeout": STOP_TIMEOUT, "health_command": [], **about, **one,
                                "memory": to_megabytes(one["memory"]) if one.get("memory") is not None else each}}}
        for one in instances if one["group"] in groups
    ]  # fmt: skip


def process_units(instances: Sequence[Mapping[str, Any]], groups: Sequence[str]) -> list[dict[str, str]]:
    return [{"name": f"{one['name']}.service"} for one in instances if one["group"] in groups]


def volume_mounts(volumes: Any, home: str, part: str = "") -> list[str]:
    """What a part mounts, as Quadlet has it; without a part, all of them. A container that is no part of its own has what all parts have."""
    return [
        f"{home}/{PLACE}/{one['name']}:{one['mount']}{':ro' if _flag(one.get('read_only')) else ''}"
        for one in _mapping(volumes)
        if not part or not one.get("parts") or part in one["parts"]
    ]


def volume_directories(volumes: Any, user: Any, data: Mapping[str, Any], witness: str = "") -> list[dict[str, Any]]:
    """The directories on the host, as the engine takes them: nobody but the image's user enters, and one that is not mounted is refused, as with media.
    `witness`: beginning of the file that tells those who copy of it."""
    return [
        {"path": f"{PLACE}/{one['name']}", "mode": "0700", "container_user": int(user),
         "data": {**data, **({"witness": f"{witness}{one['name']}"} if witness else {})}}
        for one in _mapping(volumes)
    ]  # fmt: skip


class FilterModule:
    """Filters about volumes and processes of the application."""

    def filters(self) -> dict[str, Any]:
        """Names in templates."""
        return {
            "volume_problems": volume_problems,
            "volume_mounts": volume_mounts,
            "volume_directories": volume_directories,
            "kept_volumes": kept_volumes,
            "process_problems": process_problems,
            "process_instances": process_instances,
            "process_files": process_files,
            "process_units": process_units,
            "process_memory": process_memory,
            "unplanned_processes": unplanned_processes,
        }
