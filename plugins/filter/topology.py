# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""Where components listen for other hosts, and what keeps hosts from reaching each other."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.senex.trader.plugins.filter.checking import PLACEHOLDER
from ansible_collections.senex.trader.plugins.filter.firewall import firewall_admitted
from ansible_collections.senex.trader.plugins.plugin_utils.components import hosts_of, registry
from ansible_collections.senex.trader.plugins.plugin_utils.topology import (
    client_addresses,
    private_address,
    publish_address,
    reached,
    shares_network,
    told,
)


def _wrong(hostvars: Mapping[str, Any], host: str) -> str:
    """What is wrong with the address that the inventory gives a host in the private network; empty where nothing is, or where it cannot be known yet."""
    if "senex_private_address" not in hostvars[host]:
        return "is not in the inventory"
    address = private_address(hostvars, host)
    if not address or PLACEHOLDER.search(address):
        return ""
    try:
        return "is loopback" if ipaddress.IPv4Address(address).is_loopback else ""
    except ValueError:
        return f"'{address}' is no IPv4 address"


def reach_problems(groups: Mapping[str, Sequence[str]], variables: Mapping[str, Any]) -> list[str]:
    """One line for each host without an address at which others reach its components, or from which it reaches theirs."""
    needs: dict[str, list[str]] = {}
    for name, host, clients in reached(groups, variables):
        needs.setdefault(host, []).append(f"{', '.join(clients)} reach {name} here")
        for client in clients:
            needs.setdefault(client, []).append(f"it reaches {name} of {host}")
    found = {host: (_wrong(variables, host), says) for host, says in needs.items()}
    return [
        f"senex_private_address: of {host} {wrong}, and {', '.join(says)}; write its address in the network that the hosts share, such as 10.0.0.5"
        for host, (wrong, says) in found.items()
        if wrong
    ]


def component_address(name: str, groups: Mapping[str, Sequence[str]], variables: Mapping[str, Any], host: str) -> str:
    """Where a component listens for other hosts, if the inventory does not say."""
    variable = next(port.address for port in registry()[name].reached_ports if port.private)
    return publish_address(variable, groups, variables, host)


def component_addresses(name: str, groups: Mapping[str, Sequence[str]], variables: Mapping[str, Any]) -> dict[str, str]:
    """Where each host with a component listens for others: what the inventory says, or its address in the private network. Empty where that cannot be
    known now."""
    variable = next(port.address for port in registry()[name].reached_ports if port.private)
    hosts = hosts_of([name], groups)
    return {host: told(variables[host], variable) or private_address(variables, host) for host in hosts}


def component_alone(name: str, groups: Mapping[str, Sequence[str]], host: str, installed: Sequence[str] | None = None) -> bool:
    """Whether no container of its host has to find a component in their common network."""
    return not shares_network(name, groups, host, installed or ())


def component_clients(
    name: str, groups: Mapping[str, Sequence[str]], variables: Mapping[str, Any], host: str, rules: Sequence[str] = (), wanted: Sequence[Mapping] = ()
) -> list[str]:
    """The addresses and networks that a component is reached from: other hosts of the environment, and whom the operator's rules of the firewall let in,
    those of the host and those that it is to have. Nothing where that is everybody, or cannot be known now."""
    found = client_addresses(name, groups, variables, host)
    written = [f"{one.get('action', 'allow')} {one.get('protocol', 'tcp')} {one['port']} {one.get('from') or 'any'}" for one in wanted]
    ports = [port.port for port in registry()[name].ports if port.private and isinstance(port.port, int)]
    others = [source for port in ports for source in firewall_admitted([*rules, *written], port)]
    return [] if not found or "any" in others else list(dict.fromkeys([*found, *sorted(others)]))


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "component_address": component_address,
            "component_addresses": component_addresses,
            "component_alone": component_alone,
            "component_clients": component_clients,
            "reach_problems": reach_problems,
        }
