# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""How the hosts of an environment reach each other's components: by the groups of the inventory, and by the addresses of its hosts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleUndefinedVariable
from ansible_collections.senex.trader.plugins.plugin_utils.components import EXPORTERS_ADDRESS, Component, Port, groups_of, hosts_of, registry
from jinja2 import Undefined


def loopback(address: str) -> bool:
    return address.startswith("127.") or address in ("::1", "localhost")


def told(known: Mapping[str, Any], name: str) -> str:
    """What the inventory says of a host; nothing where that is made of what nobody has asked it, such as facts of a host that --limit leaves out."""
    try:
        value = known.get(name)
    except AnsibleUndefinedVariable:
        return ""
    return "" if value is None or isinstance(value, Undefined) else str(value)


def private_address(hostvars: Mapping[str, Any], host: str) -> str:
    """As other hosts know it, which do not have the defaults of its roles; empty where that cannot be known now."""
    known = hostvars[host]
    if "senex_private_address" in known:
        return told(known, "senex_private_address")
    return told(known, "ansible_host") or host


def sent_elsewhere(known: Mapping[str, Any], port: Port, here: set[str]) -> bool:
    """Whether the inventory sends a client to another server: each variable that it gives names none of this host's addresses."""
    servers = [server for name in port.elsewhere if (server := told(known, name))]
    return bool(servers) and not any(_names(server, address) for server in servers for address in here if address)


def _names(server: str, address: str) -> bool:
    """Whether a URL or an address is of this host, and not of one whose name or address begins or ends the same, as 10.0.0.55 does."""
    return re.search(rf"(?<![\w.-]){re.escape(address)}(?![\w.-])", server) is not None


def other_hosts(port: Port, groups: Mapping[str, Sequence[str]], me: str) -> list[str]:
    return [host for host in hosts_of(port.clients, groups) if host != me]


def clients_of(port: Port, groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Any], me: str) -> list[str]:
    """The hosts that reach this port of a host over the network."""
    others = other_hosts(port, groups, me)
    here = {me, private_address(hostvars, me)} if others else set()
    return [host for host in others if not sent_elsewhere(hostvars[host], port, here)]


def publish_address(
    variable: str, groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Any], me: str, known: Mapping[str, Component] | None = None
) -> str:
    """Where what this variable has the address of listens for other hosts, if the inventory does not say: nowhere, unless a client is on another host."""
    components = (registry() if known is None else known).values()
    ports = {port for one in components for port in one.reached_ports if port.private and port.address == variable}
    return private_address(hostvars, me) if any(clients_of(port, groups, hostvars, me) for port in ports) else ""


def shares_network(name: str, groups: Mapping[str, Sequence[str]], me: str, installed: Sequence[str] = ()) -> bool:
    """Whether a container of the same host is a client of a component, and so finds it in their common network. What a host has from before counts: it
    goes on after its host has left the groups. It is none of its own, as a standby would be."""
    clients = {client for port in registry()[name].ports for client in port.clients} - {name}
    return me in hosts_of(clients, groups) or bool(clients & set(installed))


def client_addresses(name: str, groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Any], me: str) -> list[str]:
    """Where the clients of a component come from over the network; none where one of them cannot be known now."""
    clients = dict.fromkeys(host for port in registry()[name].ports if port.private for host in clients_of(port, groups, hostvars, me))  # in their order
    found = [private_address(hostvars, host) for host in clients]
    return found if all(found) else []


def reached(groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Any]) -> list[tuple[str, str, list[str]]]:
    """(component, host, clients on other hosts) where the address of the component follows from the inventory, and is not written in it."""
    found = []
    for component, one in registry().items():
        for port in (port for port in one.reached_ports if port.private):
            name = "exporters" if port.address == EXPORTERS_ADDRESS else component
            hosts = dict.fromkeys(host for group in groups_of(component) for host in groups.get(group) or [])
            served = {host: clients_of(port, groups, hostvars, host) for host in hosts if port.address not in hostvars[host]}
            found += [(name, host, clients) for host, clients in served.items() if clients and (name, host, clients) not in found]
    return found
