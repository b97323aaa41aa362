# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""Which jobs of role backup copy data of components, and where."""

from __future__ import annotations

DOCUMENTATION = """
name: component_backups
short_description: Say which jobs copy data of components, and where
version_added: 0.1.0
author: [senex.trader maintainers (@senex-trader)]
description:
  - Returns the jobs of role backup that copy the data of a component, as the registry of components has them.
"""
EXAMPLES = """
- name: Show what is copied on this host
  ansible.builtin.debug:
    msg: "{{ query('senex.trader.component_backups') | selectattr('here') | map(attribute='job') }}"
"""
RETURN = """
_raw:
  description: >-
    For each its C(job), whether it runs on this host (C(here)) and on which C(hosts) of the inventory, the unit C(after) which it starts, and, if its role
    has no inputs for these, C(what), C(schedule), C(days) and C(max_age).
  type: list
  elements: dict
"""

from dataclasses import asdict
from typing import Any

from ansible.plugins.lookup import LookupBase
from ansible_collections.senex.trader.plugins.plugin_utils.components import copying_jobs, hosts_of, registry


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **_: Any) -> list[dict[str, Any]]:
        variables, known = variables or {}, registry()
        host, groups, found = variables.get("inventory_hostname"), variables.get("groups", {}), []
        for name, job in copying_jobs("backup"):
            hosts = hosts_of([name], groups)
            found.append({**asdict(job), "here": host in hosts, "hosts": hosts, "after": next(iter(known[name].user_units), "")})
        return found
