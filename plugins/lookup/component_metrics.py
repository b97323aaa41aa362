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
  - Nothing of another host is asked but its C(senex_private_address).
"""
EXAMPLES = """
- name: Show them
  ansible.builtin.debug:
    msg: "{{ query('senex.trader.component_metrics') }}"
"""
RETURN = """
_raw:
  description: Entries with C(component), C(host), C(address) and C(port). The C(address) of this host is the loopback.
  type: list
  elements: dict
"""

from typing import Any

from ansible.plugins.lookup import LookupBase
from ansible_collections.senex.trader.plugins.lookup.component_ports import private_address
from ansible_collections.senex.trader.plugins.plugin_utils.components import metrics_targets


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **_: Any) -> list[dict[str, Any]]:
        variables = variables or {}
        me = variables.get("inventory_hostname")
        return [
            {"component": name, "host": host, "port": port, "address": "127.0.0.1" if host == me else private_address(variables["hostvars"], host)}
            for name, host, port in metrics_targets(variables.get("groups", {}))
        ]
