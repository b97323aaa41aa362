# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""What is wrong with the groups of an inventory, and with how its hosts reach each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.senex.trader.plugins.filter.checking import PLACEHOLDER
from ansible_collections.senex.trader.plugins.plugin_utils.components import AT_MOST_ONE, EXACTLY_ONE, ONE_OR_MORE, elsewhere_of, every_group
from ansible_collections.senex.trader.plugins.plugin_utils.topology import private_address


def _served_elsewhere(name: str, groups: Mapping[str, Sequence[str]], variables: Any) -> tuple[bool, str]:
    """Whether each host that needs what a group without hosts would have is told of a server by its variables; and what to say where one is not."""
    told, clients = elsewhere_of(name)
    hosts = list(dict.fromkeys(host for group in clients for host in groups.get(group) or []))
    left = [host for host in hosts if variables is None or not any(variables[host].get(one) for one in told)]
    return bool(told and hosts and not left), f"; where it is somebody else's server, say {' or '.join(told)} of {', '.join(left)}" if told and hosts else ""


def group_problems(groups: Mapping[str, Sequence[str]], rules: Mapping[str, str] | None = None, variables: Any = None) -> list[str]:
    """One line for each inventory group that has too few hosts or too many; without rules, by the registry of components. By their variables (hostvars)
    hosts may be told of a server that is none of them."""
    known = every_group() if rules is None else rules
    problems = []
    for name in (name for name, count in known.items() if count == EXACTLY_ONE):
        hosts = list(groups.get(name, []))
        served, hint = _served_elsewhere(name, groups, variables) if rules is None and not hosts else (False, "")
        if len(hosts) != 1 and not served:
            problems.append(f"group {name}: needs exactly one host and has {', '.join(hosts) or 'none'}{hint}")
    problems += [f"group {name}: needs a host and has none" for name, count in known.items() if count == ONE_OR_MORE and not groups.get(name)]
    problems += [f"group {name}: has {', '.join(groups[name])}; one host at most" for name, count in known.items()
                 if count == AT_MOST_ONE and len(groups.get(name) or []) > 1]  # fmt: skip
    if {"celery", "celery_beat"} <= set(known) and groups.get("celery_beat") and not groups.get("celery"):
        problems.append("group celery_beat: has a host and the group celery has none, so nobody would do what Beat sends; give celery a host, or empty both")
    return problems


def address_problems(groups: Mapping[str, Sequence[str]], variables: Any) -> list[str]:
    """One line for each address that several hosts have: who asks one of them gets the other, and to take one out of service takes both."""
    found: dict[str, list[str]] = {}
    for host in dict.fromkeys(host for name in every_group() for host in groups.get(name) or []):
        address = private_address(variables, host)  # none where it is made of facts that nobody has read yet
        if address and not PLACEHOLDER.search(address):
            found.setdefault(address, []).append(host)
    said = "each host is known by its own, so write theirs, or one name in all groups for a host that is one"
    return [f"senex_private_address, ansible_host: {', '.join(hosts)} have the same, {address}; {said}" for address, hosts in found.items() if len(hosts) > 1]


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "address_problems": address_problems,
            "group_problems": group_problems,
        }
