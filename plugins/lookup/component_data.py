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

import functools
from typing import Any

import yaml
from ansible.plugins.lookup import LookupBase
from ansible.template import trust_as_template
from ansible_collections.senex.trader.plugins.plugin_utils.components import REGISTRY, Data, copying_jobs, registry


@functools.cache
def usual(role: str) -> dict[str, Any]:
    """The defaults of a role, which a play that does not have the role does not see."""
    path = REGISTRY.parents[2] / role / "defaults/main.yml"
    return yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  (a safe loader)


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **_: Any) -> list[dict[str, Any]]:
        self._variables = variables or {}
        return [{"component": name, "begin": one.data.begin, "directories": self._directories(name, one.data)} for name, one in registry().items() if one.data]

    def _directories(self, role: str, data: Data) -> list[str]:
        home, below = self._value(role, "senex_home"), [self._value(role, name) for name in data.variables]
        # Where role backup has copies of components whose jobs have no inputs of their own
        copies = [f"backups/{job.job}" for _, job in copying_jobs(role) if job.schedule]
        return [f"{home}/{path}" for path in (*below, *data.paths, *copies)]

    def _value(self, role: str, name: str) -> str:
        value = self._variables[name] if name in self._variables else trust_as_template(usual(role)[name])
        return str(self._templar.template(value))
