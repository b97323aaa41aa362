# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""How the memory of a host is shared out, and what PostgreSQL makes of it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.senex.trader.plugins.plugin_utils.components import Memory, memory_entries, memory_groups, planned_memory

UNITS = {"": 1, "k": 1 / 1024, "m": 1, "g": 1024, "t": 1024 * 1024}
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)

LARGEST_NUMBER = 1e9
# A bare number this large was meant as bytes.
LARGEST_BARE_NUMBER = 4 * 1024 * 1024

GIVEN_OUT = 0.75
MINIMUM_RAM_MB = 1792

# An archive that stands still keeps this much WAL at most from being recycled: the database's disk outlives it
WAL = {"wal_buffers": "16MB", "min_wal_size": "1GB", "max_wal_size": "4GB", "max_slot_wal_keep_size": "8GB"}
USUAL_CONNECTIONS = 200
# PostgreSQL's own defaults of what decides how much memory a parallel query shares
PARALLEL = {"work_mem": "4MB", "maintenance_work_mem": "64MB", "hash_mem_multiplier": 2, "max_parallel_workers_per_gather": 2,
            "max_parallel_maintenance_workers": 2}  # fmt: skip
SETTING = re.compile(r"(\d+(?:\.\d+)?)\s*(B|kB|MB|GB|TB|)", re.IGNORECASE)
UNITS_OF_SETTINGS = {"kb": 1 / 1024, "mb": 1, "gb": 1024, "tb": 1024 * 1024}
# Two segments of each size, then two twice as large: what is allocated exceeds what is used by half at most
GROWTH_OF_SEGMENTS = 1.5
SMALLEST_SHARED = 64  # MB, what Podman gives a container by itself


def to_megabytes(value: Any) -> int:
    """'512M', '2G', '512mb' or 512 in megabytes (1024 * 1024 bytes), rounded up."""
    match = SIZE.fullmatch(str(value).strip()) if not isinstance(value, bool) else None
    if match is None:
        raise AnsibleFilterError(f"{value!r} is not a size; write a number with K, M, G or T, such as 512M or 2G")
    number, unit = float(match[1]), match[2].lower()
    if number > LARGEST_NUMBER:
        raise AnsibleFilterError(f"{match[1][:20]}… is not a size that a host has; write such as 512M or 2G")
    if not unit and (number > LARGEST_BARE_NUMBER or str(value).strip()[-1] in "bB"):
        raise AnsibleFilterError(f"{value!r} needs a unit; a number alone is taken as megabytes: write 512M or 2G")
    return math.ceil(number * UNITS[unit])


BODY = re.compile(r"([0-9]{1,15})([kmg]?)", re.IGNORECASE)


def upload_room(body: Any, times: int, least: int = 0) -> int:
    """MB that so many bodies of requests take, or the least of them. A number alone is bytes to nginx; what is no size is refused where nginx gets it."""
    found = BODY.fullmatch(str(body))
    size = int(found[1]) * (UNITS[found[2].lower()] if found[2] else 1 / 1024 / 1024) if found else 0
    return min(max(math.ceil(size * times), least), LARGEST_BARE_NUMBER)


def nominal_ram(ram_mb: Any) -> int:
    """The size a host was sold with: kernel and firmware keep some of it, so 7940 MB is 8 GB."""
    reported = to_megabytes(ram_mb)
    whole = math.ceil(reported / 1024) * 1024
    return whole if reported >= whole * 0.92 else reported // 64 * 64


def memory_enough(ram_mb: Any) -> bool:
    """Whether a host can have the stack at all."""
    return nominal_ram(ram_mb) >= MINIMUM_RAM_MB


def memory_plan(ram_mb: Any, components: Sequence[str] | None = None, redis_cache: bool = False, groups: Sequence[str] = (),
                inventory: Mapping[str, Sequence[str]] | None = None, processes: int = 0) -> dict[str, int]:  # fmt: skip
    """Limits in MB for the parts on a host; what is left over is the system's and the page cache's. The registry has the shares of an 8 GB host."""
    known = {**planned_memory(groups, inventory=inventory), **({"processes": Memory(384 * processes, 128 * processes)} if processes else {})}
    chosen = list(known) if components is None else list(components)
    unknown = sorted(set(chosen) - set(known))
    if unknown:
        raise AnsibleFilterError(f"memory_plan knows no component {', '.join(unknown)}; components are {', '.join(known)}")
    ram = nominal_ram(ram_mb)
    if not memory_enough(ram_mb):
        raise AnsibleFilterError(f"senex_memory_mb: {ram_mb} MB of memory is too little; the stack needs a host of 2 GB or more")
    total = sum(known[component].share for component in chosen)
    plan = {}
    for component in chosen:
        share = int(ram * GIVEN_OUT * known[component].share / total) // 16 * 16
        plan[component] = min(max(share, known[component].least), known[component].most or ram)
    plan["system"] = ram - sum(plan.values())
    if redis_cache and "redis" in plan:
        # A cache saves nothing, so it needs no room for a fork
        plan["redis_cache"] = plan["redis"] // 2
        plan["redis"] -= plan["redis_cache"]
        plan["redis_cache_maxmemory"] = plan["redis_cache"] * 3 // 4
    if "redis" in plan:
        # While Redis forks to save, every page written meanwhile exists twice.
        plan["redis_maxmemory"] = plan["redis"] // 2
    return plan


def memory_needed(groups: Sequence[str]) -> list[str]:
    """The entries of the plan that a host of these groups uses."""
    return list(memory_entries(groups))


def _size(megabytes: float) -> str:
    whole = int(megabytes)
    return f"{whole // 1024}GB" if whole % 1024 == 0 else f"{whole}MB"


def postgresql_tuning(
    ram_mb: Any,
    max_connections: int = USUAL_CONNECTIONS,
    overrides: Mapping[str, Any] | None = None,
    limit_mb: Any = None,
) -> dict[str, Any]:
    """Settings for a host of this size.

    A unit limited to ``limit_mb`` is tuned like a host of twice that: shared buffers then take
    half of the limit, and the rest is room for connections.
    """
    ram = nominal_ram(ram_mb)
    if limit_mb is not None:
        ram = min(ram, 2 * to_megabytes(limit_mb))
    if int(max_connections) < 1:
        raise AnsibleFilterError(f"max_connections is {max_connections}; it must be 1 or more")
    crowd = max(1.0, int(max_connections) / USUAL_CONNECTIONS)
    settings: dict[str, Any] = {
        "max_connections": int(max_connections),
        "shared_buffers": _size(ram / 4),
        "effective_cache_size": _size(ram * 3 / 4),
        "work_mem": _size(max(4, min(128, ram / 128 / crowd))),
        "maintenance_work_mem": _size(min(2048, ram / 16)),
        "checkpoint_completion_target": 0.9,
        "random_page_cost": 1.1,
        "effective_io_concurrency": 200,
        **WAL,
    }
    for name, value in (overrides or {}).items():
        if value is None:
            settings.pop(name, None)
        else:
            settings[name] = value
    return settings


def _setting_mb(value: Any, otherwise: float) -> float:
    """A size of postgresql.conf in MB, where a bare number is kB; PostgreSQL itself refuses what is none."""
    match = SETTING.fullmatch(str(value).strip())
    if match is None:
        return otherwise
    return float(match[1]) * {"b": 1 / 1048576, "": 1 / 1024, **UNITS_OF_SETTINGS}[match[2].lower()]


def _setting_number(value: Any, otherwise: float) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return otherwise


def postgresql_shared_memory(settings: Mapping[str, Any], queries: Any = 2) -> int:
    """MB of /dev/shm for this many parallel queries that each fill a hash table as large as they may, or for one VACUUM."""
    said = {**PARALLEL, **{str(name).lower(): value for name, value in settings.items()}}
    workers = _setting_number(said["max_parallel_workers_per_gather"], 2)
    multiplier = _setting_number(said["hash_mem_multiplier"], 2)
    # The leader takes part, so a table may have the memory of one process more than there are workers
    table = _setting_mb(said["work_mem"], 4) * multiplier * (workers + 1) if workers else 0
    # Workers of VACUUM read the list of dead rows there; where there are none, the list is private memory
    vacuum = _setting_mb(said["maintenance_work_mem"], 64) if _setting_number(said["max_parallel_maintenance_workers"], 2) else 0
    return max(SMALLEST_SHARED, math.ceil(max(table * int(queries), vacuum) * GROWTH_OF_SEGMENTS))


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "to_megabytes": to_megabytes,
            "upload_room": upload_room,
            "memory_plan": memory_plan,
            "memory_needed": memory_needed,
            "memory_groups": memory_groups,
            "memory_enough": memory_enough,
            "postgresql_tuning": postgresql_tuning,
            "postgresql_shared_memory": postgresql_shared_memory,
        }
