# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""The shape of a new environment: what may be asked for, and which hosts have what."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.senex.trader.plugins.plugin_utils.components import every_group, registry

YES = ("yes", "true", "y", "on", "1")
NO = ("no", "false", "n", "off", "0")
CHOICES = {"server": ("asgi", "wsgi"), "media": ("local", "s3")}
# Every server watches itself and may have web instances; all else is on the first one
EVERYWHERE = ("web", "watchdog")
MOST = 9


def environment_shape_problems(asked: Mapping[str, Any]) -> list[str]:
    """One line for each answer that is none."""
    given = {name: str(value).strip() for name, value in asked.items()}
    problems = []
    if not re.fullmatch(r"[a-z][a-z0-9_]*", given["senex_environment"]):
        good = "write small letters, digits and _, such as -e senex_environment=shop"
        problems.append(f"senex_environment: {given['senex_environment']!r} is no name of an environment; {good}")
    problems += [f"{name}: {given[name]!r} is neither {' nor '.join(known)}" for name, known in CHOICES.items() if given[name] not in known]
    words = [name for name in ("celery", "beat", "redis") if given[name].lower() not in YES + NO]
    problems += [f"{name}: {given[name]!r} is neither yes nor no" for name in words]
    if given["celery"].lower() in YES and given["redis"].lower() in NO:
        problems.append(f"redis: {given['redis']!r} with celery {given['celery']!r}, whose queue lies in Redis; say celery=no, or redis=yes")
    if not re.fullmatch(r"[0-9]+", given["web_hosts"]) or not 1 <= int(given["web_hosts"]) <= MOST:
        problems.append(f"web_hosts: {given['web_hosts']!r} is no number from 1 to {MOST}")
    return problems


def environment_groups(hosts: Sequence[str], celery: bool, beat: bool, redis: bool = True) -> dict[str, list[str]]:
    """The hosts of each group of the inventory."""
    without = {"celery": not celery, "celery_beat": not beat, "redis": not redis}
    # What a later phase brings is for whoever asks for it
    without |= {group: True for group in every_group() if all(one.phase > 1 for one in registry().values() if group in one.groups)}
    return {group: [] if without.get(group) else list(hosts if group in EVERYWHERE else hosts[:1]) for group in every_group()}


class FilterModule:
    """Filters about new environments."""

    def filters(self) -> dict[str, Any]:
        """Name to function."""
        return {"environment_groups": environment_groups, "environment_shape_problems": environment_shape_problems}
