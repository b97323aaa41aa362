# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""What of an environment has metrics, and where."""

from __future__ import annotations

DOCUMENTATION = """
name: component_metrics
short_description: Say where the metrics of an environment are
version_added: 0.1.0
author: [senex.trader maintainers (@senex-trader)]
description:
  - Returns an entry for each component of the registry that has an exporter, on each host that has the component.
  - Nothing of another host is asked but its C(exporters_address) and its C(senex_private_address).
"""
EXAMPLES = """
- name: Show them
  ansible.builtin.debug:
    msg: "{{ query('senex.trader.component_metrics') }}"
"""
RETURN = """
_raw:
  description: >-
    Entries with C(component), C(host), C(address), C(port) and C(scheme). The C(address) of this host is the loopback; everywhere else metrics are read by TLS.
  type: list
  elements: dict
"""

from collections.abc import Mapping
from typing import Any

from ansible.plugins.lookup import LookupBase
from ansible_collections.senex.trader.plugins.plugin_utils.components import EXPORTERS_ADDRESS, metrics_targets
from ansible_collections.senex.trader.plugins.plugin_utils.topology import loopback, private_address, told

LOOPBACK = "127.0.0.1"


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **_: Any) -> list[dict[str, Any]]:
        variables = variables or {}
        me = variables.get("inventory_hostname")
        found = [(*one, self._address(variables["hostvars"], one[1], me)) for one in metrics_targets(variables.get("groups", {}))]
        return [
            {"component": name, "host": host, "port": port, "address": address, "scheme": "http" if loopback(address) else "https"}
            for name, host, port, address in found
        ]

    @staticmethod
    def _address(hostvars: Mapping[str, Any], host: str, me: str | None) -> str:
        return LOOPBACK if host == me else told(hostvars[host], EXPORTERS_ADDRESS) or private_address(hostvars, host)
