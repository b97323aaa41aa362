# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""What of the components of this host is looked after."""

from __future__ import annotations

DOCUMENTATION = """
name: component_watch
short_description: Say what of the components of this host is looked after
version_added: 0.1.0
author: [senex.trader maintainers (@senex-trader)]
description:
  - Returns what the registry of components says for the watchdog and for C(senex status) on this host.
"""
EXAMPLES = """
- name: Show what has to run here
  ansible.builtin.debug:
    msg: "{{ lookup('senex.trader.component_watch').units }}"
"""
RETURN = """
_raw:
  description: >-
    The C(components) of this host, the C(units) of the service user and the C(system_units) that have to run, the C(jobs) that save data of any component
    on any host, and the C(jobs_of_others), which save data of components that this host does not have.
  type: dict
"""

from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.lookup import LookupBase
from ansible_collections.senex.trader.plugins.plugin_utils.components import every_job, here, jobs_of_others, watched_system_units, watched_units


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **_: Any) -> list[dict[str, Any]]:
        variables = variables or {}
        host, groups = variables.get("inventory_hostname"), variables.get("groups", {})
        mine = [name for name, hosts in groups.items() if host in hosts]
        units = [one.unit for one in watched_units(mine) if not one.only or boolean(self._templar.template(variables[one.only]), strict=False)]
        return [{
            "components": here(mine, inventory=groups), "units": units, "system_units": watched_system_units(mine, inventory=groups),
            "jobs": every_job(), "jobs_of_others": jobs_of_others(mine),
        }]  # fmt: skip
