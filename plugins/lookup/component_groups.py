# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""In which groups a host has a component."""

from __future__ import annotations

DOCUMENTATION = """
name: component_groups
short_description: Say in which groups a host has a component
version_added: 0.1.0
author: [senex.trader maintainers (@senex-trader)]
description:
  - Returns a dictionary from each component of the registry to the groups whose hosts have it, in the order in which components are put in place.
  - What every host has is not in it.
"""
EXAMPLES = """
- name: Show the groups of Redis
  ansible.builtin.debug:
    msg: "{{ lookup('senex.trader.component_groups').redis }}"
"""
RETURN = """
_raw:
  description: One dictionary.
  type: list
  elements: dict
"""

from typing import Any

from ansible.plugins.lookup import LookupBase
from ansible_collections.senex.trader.plugins.plugin_utils.components import component_groups


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **_: Any) -> list[dict[str, list[str]]]:
        return [component_groups(inventory=(variables or {}).get("groups"))]
