# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""The parts that an environment can do without: what is said of those that it lacks, and what it cannot have alone."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.senex.trader.plugins.plugin_utils.components import groups_of, registry


def part_problems(groups: Mapping[str, Sequence[str]], redis: bool, redis_cache: bool = False) -> list[str]:
    """One line for each part of an environment that lacks what it stands on. `redis`: the application has the address of one, here or elsewhere."""
    problems = []
    if groups.get("celery") and not redis:
        hosts = ", ".join(groups["celery"])
        problems.append(f"group celery: has {hosts}, and its queue lies in Redis, of which there is none; give the group redis a host, or empty celery")
    if redis_cache and not groups.get("redis"):
        problems.append("senex_redis_cache_instance: asks for a second Redis, and the group redis has no host; give it one, or take the line out")
    return problems


def absent_problems(states: Mapping[str, Any], groups: Mapping[str, Sequence[str]], mine: Sequence[str], named: Sequence[str]) -> list[str]:
    """One line for each component of a host with the groups `mine` that a run would take away below those that go on asking it. `named`: the tags of the run.

    A run of everything goes from servers to clients, so the site would be down with its first step.
    """
    known, problems = registry(), []
    for name, one in known.items():
        clients = dict.fromkeys(client for port in one.ports for client in port.clients if client in known and client != name)
        here = [client for client in clients if any(groups.get(group) for group in groups_of(client))]
        if states.get(name) == "absent" and here and set(groups_of(name)) & set(mine) and name not in named:
            alone = f"to remove it alone, playbooks/site.yml --tags {name} -e {name}_state=absent (its data stays); for everything, playbooks/remove.yml"
            problems.append(f"{name}_state: absent would take {name} from {', '.join(here)}, which this run puts in place after it; {alone}")
    return problems


def environment_without(variables: Mapping[str, Any], absent: Sequence[str]) -> dict[str, Any]:
    """The environment without the variables of these names, which may be patterns: what stands behind them is not there."""
    return {name: value for name, value in variables.items() if not any(fnmatch.fnmatchcase(name, pattern) for pattern in absent)}


class FilterModule:
    """Filters about parts."""

    def filters(self) -> dict[str, Any]:
        """Names in templates."""
        return {
            "part_problems": part_problems,
            "absent_problems": absent_problems,
            "environment_without": environment_without,
        }
