# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""Inputs of roles that are not of their type, before any role begins."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible_collections.senex.trader.plugins.filter.checking import unfit

DOCUMENTATION = """
name: unfit_inputs
short_description: Say which inputs of roles are not of their type
version_added: 0.1.0
author: senex.trader maintainers
description:
  - Returns one line for each variable that an inventory or C(-e) gives a role of this collection, and that is not of the type in the role's
    argument specification. A line names the variable, what was found and what is wanted, and never the value.
options:
  _terms:
    description: Names of roles.
    required: true
"""
EXAMPLES = """
- name: Say which inputs are not of their type
  ansible.builtin.debug:
    msg: "{{ query('senex.trader.unfit_inputs', 'nginx', 'redis') }}"
"""
RETURN = """
_raw:
  description: The lines; empty when all is well.
  type: list
  elements: str
"""

ROLES = Path(__file__).parents[2] / "roles"


@functools.cache
def options(role: str) -> dict[str, Any]:
    text = (ROLES / role / "meta/argument_specs.yml").read_text(encoding="utf-8")
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))["argument_specs"]["main"].get("options", {})  # noqa: S506  (a safe loader)


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **_: Any) -> list[str]:
        lines = []
        for role in terms:
            for name, option in options(role).items():
                if name not in (variables or {}):
                    continue
                try:
                    value = self._templar.template(variables[name])
                    lines += unfit(name, value, option)
                except AnsibleError:  # made of what the role has not said yet; its own check judges what comes out
                    continue
        return lines
