# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""Where components keep their data, and what lets one begin without."""

from __future__ import annotations

DOCUMENTATION = """
name: component_data
short_description: Say where components keep their data
version_added: 0.1.0
author: [senex.trader maintainers (@senex-trader)]
description:
  - Returns an entry for each component that has data, as the registry of components has it. A directory that the inventory does not give is the role's default.
"""
EXAMPLES = """
- name: Show them
  ansible.builtin.debug:
    msg: "{{ query('senex.trader.component_data') }}"
"""
RETURN = """
_raw:
  description: The C(component), the variable C(begin) that lets it begin with nothing, and its C(directories).
  type: list
  elements: dict
"""

from typing import Any

from ansible.plugins.lookup import LookupBase
from ansible_collections.senex.trader.plugins.lookup.unfit_inputs import beneath
from ansible_collections.senex.trader.plugins.plugin_utils.components import Data, registry


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **_: Any) -> list[dict[str, Any]]:
        return [
            {"component": name, "begin": one.data.begin, "directories": self._directories(name, one.data, variables or {})}
            for name, one in registry().items()
            if one.data
        ]

    def _directories(self, name: str, data: Data, variables: dict[str, Any]) -> list[str]:
        known = {**beneath((name,)), **variables}
        templar = self._templar.copy_with_new_env(available_variables=known)
        below = [str(templar.template(known[variable])) for variable in data.variables] + list(data.paths)
        return [f"{templar.template(known['senex_home'])}/{path}" for path in below]
