# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""A database or a Redis that is somebody else's server: what it needs, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.senex.trader.plugins.filter.checking_forms import no_certificates

VERIFIED = ("verify-ca", "verify-full")
GIVEN = "write the provider's into the vault (ansible-vault edit), as {vault}"


def elsewhere_problems(about: Mapping[str, Any]) -> list[str]:
    """One line for each thing that keeps the application from such a server. `about` has database and redis (whether it is one), and the inputs by name."""
    problems = no_certificates({name: about[name] for name in ("senex_database_ca_certificate", "senex_redis_ca_certificate") if about[name]})
    if about["database"]:
        if about["senex_database_host"] == about["container"]:
            problems.append(f"senex_database_host: {about['container']} is the container of the group postgresql, which has no host; write another server")
        if not about["senex_database_password"]:
            problems.append(f"senex_database_password: is missing; {GIVEN.format(vault='vault_database_password')}")
        if about["senex_database_sslmode"] in VERIFIED and not about["senex_database_ca_certificate"]:
            mode = f"senex_database_sslmode {about['senex_database_sslmode']} verifies the server's certificate with it"
            problems.append(
                f"senex_database_ca_certificate: is missing, and {mode}; write the provider's, or senex_database_sslmode: require, which verifies nothing"
            )
    if about["redis"] and not about["senex_redis_password"]:
        problems.append(f"senex_redis_password: is missing; {GIVEN.format(vault='vault_redis_password')}")
    if about["redis"] and about["senex_redis_tls"] and not about["senex_redis_ca_certificate"]:
        problems.append("senex_redis_ca_certificate: is missing, and senex_redis_tls verifies the server's certificate with it; write the provider's")
    if about["redis"] and about["senex_redis_ca_certificate"] and not about["senex_redis_tls"]:
        problems.append("senex_redis_ca_certificate: is given, and without senex_redis_tls nothing is encrypted or verified; write senex_redis_tls: true")
    if about["redis"] and about["senex_redis_cache_host"] != about["senex_redis_host"] and not about["senex_redis_cache_instance"]:
        one = "is for the second Redis of the group redis (senex_redis_cache_instance), and nothing would ask it"
        problems.append(f"senex_redis_cache_host: {one}; for a cache on another server write senex_redis_cache_url")
    if about["senex_redis_tls"] and not about["redis"] and not about["redis_remote"]:
        problems.append("senex_redis_tls: is for a Redis that is somebody else's server; this one answers in an internal network without, so take the line out")
    if about["redis_remote"] and not about["senex_redis_tls"]:
        problems.append("senex_redis_tls: is false, and Redis answers other hosts by TLS alone; take the line out")
    return problems


def servers_elsewhere(about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each such server: what it is, where, and what that means. `about` has database and redis (whether it is one), and their host and port."""
    found = []
    if about["database"]:
        says = "backups, restores, upgrades and rotation of its password are the provider's, and nothing here makes a copy of it"
        found.append({"what": "database", "host": str(about["database_host"]), "port": int(about["database_port"]), "says": says})
    if about["redis"]:
        says = "copies of it are the provider's, and nothing here makes one"
        found.append({"what": "redis", "host": str(about["redis_host"]), "port": int(about["redis_port"]), "says": says})
    return found


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {"elsewhere_problems": elsewhere_problems, "servers_elsewhere": servers_elsewhere}
