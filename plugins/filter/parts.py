# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""The parts that an environment can do without: what is said of those that it lacks, and what it cannot have alone."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any


def part_problems(groups: Mapping[str, Sequence[str]], redis: bool, redis_cache: bool = False) -> list[str]:
    """One line for each part of an environment that lacks what it stands on. `redis`: the application has the address of one, here or elsewhere."""
    problems = []
    if groups.get("celery") and not redis:
        hosts = ", ".join(groups["celery"])
        problems.append(f"group celery: has {hosts}, and its queue lies in Redis, of which there is none; give the group redis a host, or empty celery")
    if redis_cache and not groups.get("redis"):
        problems.append("senex_redis_cache_instance: asks for a second Redis, and the group redis has no host; give it one, or take the line out")
    return problems


def environment_without(variables: Mapping[str, Any], absent: Sequence[str]) -> dict[str, Any]:
    """The environment without the variables of these names, which may be patterns: what stands behind them is not there."""
    return {name: value for name, value in variables.items() if not any(fnmatch.fnmatchcase(name, pattern) for pattern in absent)}


class FilterModule:
    """Filters about parts."""

    def filters(self) -> dict[str, Any]:
        """Names in templates."""
        return {"part_problems": part_problems, "environment_without": environment_without}
