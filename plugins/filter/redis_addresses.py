# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""Where the application finds Redis: from the groups of the inventory to the whole address for each use.

Each is asked for some dozens of times a run, and Ansible compiles the text of a variable, and of all that it names, each time: so one filter is one text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.senex.trader.plugins.filter.environment import url_host
from ansible_collections.senex.trader.plugins.filter.quoting import quote_url
from ansible_collections.senex.trader.plugins.plugin_utils.topology import told

CONTAINER = "redis"
TLS = "rediss:"


def redis_server(groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Any], me: str) -> str:
    """The environment's Redis as a host of it finds it: the container on the same host, or the address of another one. Empty where there is none.

    A role that is used without the groups of an inventory finds it on the same host.
    """
    servers = list(groups.get("redis") or ([] if groups.get("web") else [me]))
    if not servers or me in servers:
        return CONTAINER if servers else ""
    known = hostvars[servers[0]] if servers[0] in hostvars else {}  # noqa: SIM401  (hostvars answers for a host that it has not)
    return told(known, "senex_private_address") or told(known, "ansible_host") or servers[0]


def redis_remote(host: Any, groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Any], me: str) -> bool:
    """Whether this is the address of the environment's own Redis, on another host."""
    servers = groups.get("redis") or []
    return bool(host and servers) and me not in servers and host == redis_server(groups, hostvars, me)


def redis_url(parts: Mapping[str, Any]) -> str:
    """The address without the number of a database, with every part quoted; empty where there is no server, and then nothing else is asked for."""
    host = parts["host"]
    if not host:
        return ""
    login = f"{quote_url(parts['user'])}:{quote_url(parts['password'])}"
    return f"{'rediss' if parts['tls'] else 'redis'}://{login}@{url_host(host)}:{parts['port']}"


def redis_address(url: Any, number: Any, query: str = "") -> str:
    """The whole address for one use; empty where there is no server. The query is for a server that is reached by TLS."""
    return f"{url}/{number}{query if str(url).startswith(TLS) else ''}" if url else ""


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "redis_address": redis_address,
            "redis_remote": redis_remote,
            "redis_server": redis_server,
            "redis_url": redis_url,
        }
