# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""What the firewall of a host has to let in for its components."""

from __future__ import annotations

DOCUMENTATION = """
name: component_ports
short_description: Say which ports of this host others need, and from where
version_added: 0.1.0
author: [senex.trader maintainers (@senex-trader)]
description:
  - Returns the rules for the ports of the components on this host, as the registry of components has them. Each port is open to the hosts whose components
    use it, by their C(senex_private_address), and to no others. A port that is not published, or at loopback alone, needs no rule.
  - A client that the inventory sends to another server needs none either. Where the address of one is made of facts that this run has not asked for,
    C(from) is empty, and rules for that port stay as they are.
options:
  _terms:
    description: C(world) for the ports that everybody may reach, C(hosts) for those that hosts of the environment need of this one.
    required: true
"""
EXAMPLES = """
- name: Show what hosts need of this one
  ansible.builtin.debug:
    msg: "{{ query('senex.trader.component_ports', 'hosts') }}"
"""
RETURN = """
_raw:
  description: Rules with C(port), and with C(from) and C(host) where they are for a host.
  type: list
  elements: dict
"""

from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible_collections.senex.trader.plugins.plugin_utils.components import WORLD, Port, groups_of, registry
from ansible_collections.senex.trader.plugins.plugin_utils.topology import loopback, other_hosts, private_address, publish_address, sent_elsewhere

TRUE = ("true", "yes", "on", "1")


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **_: Any) -> list[dict[str, str]]:
        self._variables = variables or {}
        (which,) = terms
        if which not in (WORLD, "hosts"):
            raise AnsibleError(f"component_ports: there is no {which}; there are {WORLD} and hosts")
        mine = set(self._variables.get("group_names", []))
        here = [one for name, one in registry().items() if mine & set(groups_of(name))]
        ports = [port for one in here for port in one.reached_ports if (WORLD in port.clients) == (which == WORLD)]
        if which == WORLD:
            return [{"port": self._range(port)} for port in ports if self._listens(port)]
        return [rule for port in ports for rule in self._rules(port)]

    def _value(self, name: str) -> str:
        """Inputs of roles that are not loaded yet have the value that they have by default: none."""
        value = self._variables.get(name)
        return "" if value is None else str(self._templar.template(value))

    def _number(self, given: int | str) -> int:
        return given if isinstance(given, int) else int(self._value(given))

    def _range(self, port: Port) -> str:
        first, count = self._number(port.port), self._number(port.count)
        return str(first) if count == 1 else f"{first}:{first + count - 1}"

    def _listens(self, port: Port) -> bool:
        if port.only and self._value(port.only).lower() not in TRUE:
            return False
        return not port.address or bool(address := self._address(port)) and not loopback(address)

    def _address(self, port: Port) -> str:
        """Where it listens, as the role has it by default too, which is not loaded yet."""
        if port.private and port.address not in self._variables:
            return publish_address(port.address, *(self._variables[word] for word in ("groups", "hostvars", "inventory_hostname")))
        return self._value(port.address)

    def _rules(self, port: Port) -> list[dict[str, str]]:
        hostvars, groups, me = (self._variables[name] for name in ("hostvars", "groups", "inventory_hostname"))
        others = other_hosts(port, groups, me)
        # Asked last: each template costs as much as all of the rest, and a host of its own has no others
        if not others or not self._listens(port):
            return []
        here = {me, self._address(port), private_address(hostvars, me)}
        return [
            {"port": self._range(port), "from": private_address(hostvars, host), "host": host}
            for host in others
            if not sent_elsewhere(hostvars[host], port, here)
        ]
