# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""Inputs of roles that are not of their type, before any role begins."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleError, AnsibleUndefinedVariable
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.lookup import LookupBase
from ansible.utils.display import Display
from ansible_collections.senex.trader.plugins.filter.checking import unfit

DOCUMENTATION = """
name: unfit_inputs
short_description: Say which inputs of roles are not of their type
version_added: 0.1.0
author: senex.trader maintainers
description:
  - Returns one line for each variable that an inventory or C(-e) gives a role of this collection, and that is not of the type in the role's
    argument specification. A line names the variable, what was found and what is wanted, and never the value.
  - A value of the right type is checked by Ansible's own validator too, which knows choices and the keys of dictionaries.
    It is asked here once, of what is given alone, and not by a task of each role.
  - An input may be made of others and of what roles have by default. One that is made of a name which nobody has is told, for most are not used
    before a template in the middle of a run.
  - Warns of a variable that is no input and has almost the name of one; it may be a variable of somebody's own.
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

ALMOST = 0.9
ROLES = Path(__file__).parents[2] / "roles"


@functools.cache
def options(role: str) -> dict[str, Any]:
    text = (ROLES / role / "meta/argument_specs.yml").read_text(encoding="utf-8")
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))["argument_specs"]["main"].get("options", {})  # noqa: S506  (a safe loader)


@functools.cache
def shared() -> list[str]:
    text = (ROLES / "senex/defaults/main.yml").read_text(encoding="utf-8")
    return list(yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))  # noqa: S506  (a safe loader)


@functools.cache
def beneath(roles: tuple[str, ...]) -> dict[str, Any]:
    """What these roles have by default and of their own, which an inventory does not see yet."""
    paths = [ROLES / role / kind / "main.yml" for role in ("senex", *roles) for kind in ("defaults", "vars")]
    found: dict[str, Any] = {}
    for path in paths:
        found |= (DataLoader().load_from_file(str(path), trusted_as_template=True) or {}) if path.exists() else {}
    return found


# What the roles and Ansible have to say later, facts among it
LATER = re.compile(r"'(?!__|ansible_|role_|item')(\w+)' is undefined")


def _given(name: str) -> str:
    return "run playbooks/secrets.yml, which makes secrets that are missing" if name.startswith("vault_") else "give it a value"


def misspelt(names: Iterable[str], roles: Iterable[str]) -> list[str]:
    """One line for each name that is no input and almost one: it would be taken, and change nothing."""
    inputs = [name for role in roles for name in options(role)] + shared()
    known, begins = set(inputs), tuple(f"{role}_" for role in (*roles, "senex"))
    unknown = [name for name in names if name.startswith(begins) and name not in known]
    found = [(name, difflib.get_close_matches(name, inputs, 1, ALMOST)) for name in sorted(unknown)]
    return [f"{name}: no role has an input of this name; {near[0]} is one" for name, near in found if near]


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **_: Any) -> list[str]:
        lines = []
        for role in terms:
            for name, option in options(role).items():
                if name not in (variables or {}):
                    continue
                try:
                    value = self._made(variables, name, tuple(terms))
                except AnsibleUndefinedVariable as problem:
                    absent = LATER.match(str(problem))
                    lines += [f"{name}: is made of {absent[1]}, which is no variable; correct the name, or {_given(absent[1])}"] if absent else []
                    continue
                except AnsibleError:  # its own check judges what comes out
                    continue
                lines += unfit(name, value, option) or ArgumentSpecValidator({name: option}).validate({name: value}).error_messages
        for line in misspelt(variables or {}, terms):
            Display().warning(line)
        return lines

    def _made(self, variables: dict[str, Any], name: str, roles: tuple[str, ...]) -> Any:
        try:
            return self._templar.template(variables[name])
        except AnsibleError:  # made of what a role has not said yet
            return self._templar.copy_with_new_env(available_variables={**beneath(roles), **variables}).template(variables[name])
