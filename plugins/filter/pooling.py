# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""How PostgreSQL's connections are shared out to poolers, and what the release step's environment has that is not the application's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Connections of a pooler's own login, which asks for the secrets of whoever logs in
OWN = 2
# A pool with less makes the application wait for itself
LEAST = 5


def pooler_sizes(about: Mapping[str, Any]) -> dict[str, int]:
    """Server connections of one pooler: all that it may open (`share`), those of a usual pool (`pool`), and those beyond it for waiting clients (`reserve`).

    Poolers share what PostgreSQL takes less what is reserved for those who go past them. A pool has what its host's processes can use at once. A fifth of the
    share at least stays free for another role, as there is one while a password is rotated.
    """
    numbers = {name: int(about[name]) for name in ("max_connections", "reserved", "poolers", "instances", "per_instance", "workers")}
    share = max(0, (numbers["max_connections"] - numbers["reserved"]) // max(1, numbers["poolers"]) - OWN)
    wanted = numbers["instances"] * numbers["per_instance"] + numbers["workers"]
    pool = max(1, min(max(wanted, LEAST), share * 4 // 5))
    return {"share": share, "pool": pool, "reserve": max(0, min(share - pool, pool // 4))}


def pooler_problems(about: Mapping[str, Any]) -> list[str]:
    """What is wrong where the share of each pooler is too little."""
    share = pooler_sizes(about)["share"]
    if share >= LEAST:
        return []
    needed = (LEAST + OWN) * max(1, int(about["poolers"])) + int(about["reserved"])
    return [
        f"postgresql_max_connections: {about['max_connections']}, less pgbouncer_reserved_connections ({about['reserved']}) and shared by {about['poolers']} "
        f"hosts of the group pgbouncer, leaves {share} connections each; it must be {needed} or more"
    ]


def worker_processes(pools: Sequence[Mapping[str, Any]]) -> int:
    """Processes of all workers of a host, each of which has a connection of its own."""
    return sum(int(pool.get("instances", 1)) * int(pool.get("concurrency", 4)) for pool in pools)


def differing_variables(file: str, other: str) -> str:
    """The lines of an environment file that another one has not, or has otherwise: read after that one, they take its place."""
    there = set(other.split("\n"))
    return "".join(f"{line}\n" for line in file.split("\n") if line and not line.startswith("#") and line not in there)


def differing_files(secrets: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> list[str]:
    """Variables that the application gets as files, which have other contents where it goes straight to PostgreSQL."""
    there = {one["name"]: one["value"] for one in others}
    return [one["name"].removeprefix("environment_") for one in secrets if one["value"] != there.get(one["name"])]


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "pooler_sizes": pooler_sizes,
            "pooler_problems": pooler_problems,
            "worker_processes": worker_processes,
            "differing_variables": differing_variables,
            "differing_files": differing_files,
        }
