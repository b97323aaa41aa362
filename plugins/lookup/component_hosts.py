# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""Which hosts a play about components is for."""

from __future__ import annotations

DOCUMENTATION = """
name: component_hosts
short_description: Return the pattern for the hosts of components
version_added: 0.1.0
author: [senex.trader maintainers (@senex-trader)]
description:
  - Returns a pattern for C(hosts) of a play, made of the groups that the registry of components has.
  - Fails where the inventory has no host at all. Ansible would skip every play and report success.
options:
  _terms:
    description: Names of components; without one, the pattern for all hosts that have any.
"""
EXAMPLES = """
- name: Work on every host
  hosts: "{{ lookup('senex.trader.component_hosts') }}"
  tasks: []

- name: Work where the application runs
  hosts: "{{ lookup('senex.trader.component_hosts', 'django', 'celery') }}"
  tasks: []
"""
RETURN = """
_raw:
  description: One pattern, such as C(web:celery:celery_beat).
  type: list
  elements: str
"""

from typing import Any

from ansible import context
from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible_collections.senex.trader.plugins.plugin_utils.components import RegistryError, hosts_pattern

# Options of ansible-playbook that run nothing, for which a checker needs no inventory
READING = ("syntax", "listtasks", "listtags", "listhosts")


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **_: Any) -> list[str]:
        groups = (variables or {}).get("groups")
        hosts = (groups or {}).get("all")
        if hosts == [] and not any((context.CLIARGS or {}).get(name) for name in READING):
            raise AnsibleError(
                "the inventory has no host: -i is missing, or what it names is not there or is empty. Give -i inventory/NAME. Nothing was changed"
            )
        try:
            return [hosts_pattern(*terms, inventory=groups)]
        except RegistryError as problem:
            raise AnsibleError(f"component_hosts: {problem}") from problem
