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
CHOICES = {"server": ("asgi", "wsgi"), "media": ("local", "s3"), "topology": ("one", "services", "monitoring")}
# Where servers are on hosts of their own: which groups each of these has. Who has data makes its copies, and every server watches itself
SERVICES = {"database": ("postgresql",), "queue": ("redis", "celery", "celery_beat"), "monitoring": ("monitoring",)}
NO_DATA = ("monitoring",)
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


def environment_groups(
    hosts: Sequence[str], celery: bool, beat: bool, redis: bool = True, services: str = "", monitoring: bool = False
) -> dict[str, list[str]]:
    """The hosts of each group of the inventory: of these web hosts the first one has all else, unless servers have hosts of their own, whose names begin
    with `services`. With `monitoring` there is Prometheus too."""
    without = {"celery": not celery, "celery_beat": not beat, "redis": not redis}
    # What a later phase brings is for whoever asks for it
    without |= {group: True for group in every_group() if all(one.phase > 1 for one in registry().values() if group in one.groups)}
    without["monitoring"] = not monitoring
    own = {group: f"{services}-{name}" for name, groups in SERVICES.items() for group in groups if services and not without.get(group)}
    others = list(dict.fromkeys(own.values()))
    copied = [own[group] for group in own if group not in NO_DATA]
    many = {"web": list(hosts), "watchdog": [*hosts, *others], "backup": list(dict.fromkeys([*hosts[:1], *copied]))}
    return {group: [] if without.get(group) else many.get(group) or [own.get(group, hosts[0])] for group in every_group()}


class FilterModule:
    """Filters about new environments."""

    def filters(self) -> dict[str, Any]:
        """Name to function."""
        return {"environment_groups": environment_groups, "environment_shape_problems": environment_shape_problems}
