# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""What is wrong with paths, below the home and from the root."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.senex.trader.plugins.plugin_utils.components import copying_jobs

PLACE = re.compile(r"(?!\.{1,2}(/|$))[A-Za-z0-9._-]+(/(?!\.{1,2}(/|$))[A-Za-z0-9._-]+)*")


def relative_path_problems(values: Mapping[str, Any]) -> list[str]:
    """One line for each value that names no directory below the home: a container gets it as its own, so it is never the home, nor outside of it."""
    said = "write a directory below senex_home, without the path of that, such as data/redis. Data on another disk has that disk mounted there"
    return [f"{name}: '{value}' {_no_place(str(value))}; {said}" for name, value in values.items() if not PLACE.fullmatch(str(value))]


def _no_place(value: str) -> str:
    """What is wrong with a path that names no directory below the home."""
    if not value or value.startswith("/"):
        return "begins at the root of the disk, and not at senex_home" if value else "is empty"
    if re.search("[^A-Za-z0-9._/-]", value):
        return "has a character in it that is no letter, no digit and none of '.', '_', '-'"
    return "has . or .. as a part" if re.search(r"(^|/)\.{1,2}(/|$)", value) else "has a slash at its end, or two beside one another"


# Below the home, whatever the inputs say: made by roles whose directories have no other place
TAKEN = ("bin", "config", "lib", "logs", ".config", ".local", ".cache", "data/media", "data/static", "data/staticfiles")
# Where role backup has the copies, by their component or job
COPIES = ("backups/postgresql", "backups/redis", "backups/media", *(f"backups/{job.job}" for _, job in copying_jobs("backup") if job.schedule))


def nesting_problems(values: Mapping[str, Any], others: Mapping[str, Any]) -> list[str]:
    """One line for each value whose directory is, holds or lies in another: each belongs to somebody else, and is removed or exchanged by itself."""
    places = [(name, str(value)) for name, value in values.items()]
    rest = [(str(value), f"{name} ({value})") for name, value in others.items()] + [(name, name) for name in TAKEN + COPIES]
    lines = []
    for at, (name, place) in enumerate(places, 1):
        those = [(there, f"{other} ({there})") for other, there in places[at:]] + rest
        met = [said for there, said in those if f"{place}/".startswith(f"{there}/") or f"{there}/".startswith(f"{place}/")]
        lines += [f"{name}: {place} is, holds or lies in {met[0]}; give each its own"] if met else []
    return lines


ABSOLUTE = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._-]+)+/?")


def no_paths(values: Mapping[str, Any]) -> list[str]:
    """One line for each value that is no absolute path. With .. in it, a comparison would take it for another one."""
    said = "is no absolute path; write one of letters, digits, '.', '_' and '-', without . or .. as a part, such as /srv/data"
    return [f"{name}: '{value}' {said}" for name, value in values.items() if not ABSOLUTE.fullmatch(str(value))]


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "relative_path_problems": relative_path_problems,
            "nesting_problems": nesting_problems,
            "no_paths": no_paths,
        }
