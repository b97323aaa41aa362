# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""Inputs of roles that are not of their type, before any role begins."""

from __future__ import annotations

DOCUMENTATION = """
name: unfit_inputs
short_description: Say which inputs of roles are not of their type
version_added: 0.1.0
author: [senex.trader maintainers (@senex-trader)]
description:
  - Returns one line for each variable that an inventory or C(-e) gives a role of this collection, and that is not of the type in the role's
    argument specification. A line names the variable, what was found and what is wanted, and never the value.
  - A value of the right type is checked by Ansible's own validator too, which knows choices and the keys of dictionaries.
    It is asked here once, of what is given alone, and not by a task of each role.
  - A variable of the inventory or C(-e) that begins as the inputs of a role do and is none has a line too. It names the input that took its place, or the
    one that is called nearly so. C(senex_foreign_variables) has the names that others read, as patterns.
  - An input may be made of others and of what roles have by default. One that is made of a name which nobody has is told, for most are not used
    before a template in the middle of a run.
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

import difflib
import fnmatch
import functools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleError, AnsibleUndefinedVariable
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.lookup import LookupBase
from ansible_collections.senex.trader.plugins.filter.checking_types import unfit

ROOT = Path(__file__).parents[2]
ROLES = ROOT / "roles"
NEAR = 0.75
FOREIGN = "; a name that is not this collection's goes into senex_foreign_variables"


def _read(path: Path) -> Any:
    return yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  (a safe loader)


@functools.cache
def options(role: str) -> dict[str, Any]:
    return _read(ROLES / role / "meta/argument_specs.yml")["argument_specs"]["main"].get("options", {})


@functools.cache
def shared() -> list[str]:
    return list(_read(ROLES / "senex/defaults/main.yml"))


@functools.cache
def former() -> dict[str, str | None]:
    return _read(ROOT / "plugins/plugin_utils/former_inputs.yml")


@functools.cache
def own_words() -> set[str]:
    """What the collection's own tasks name, such as what they register: an earlier play of the run may have left it. Read where something is unknown."""
    places = (("playbooks", "*.yml"), ("roles", "*.yml"), ("plugins/action", "*.py"), ("plugins/plugin_utils", "*.py"))
    texts = [path.read_text(encoding="utf-8") for folder, form in places for path in (ROOT / folder).rglob(form)]
    return {word for text in texts for word in re.findall(r"[a-z][a-z0-9]*_[a-z0-9_]+", text)}


def given(variables: Mapping[str, Any]) -> Mapping[str, Any]:
    """What inventory, -e and earlier plays say, without what roles and plays have by themselves."""
    hostvars, host = variables.get("hostvars"), variables.get("inventory_hostname")
    return hostvars.raw_get(host) if hasattr(hostvars, "raw_get") else variables


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


def unknown(names: Iterable[str], roles: Iterable[str], foreign: Iterable[Any] = ()) -> list[str]:
    """One line for each name that is no input and looks like one: it would be taken, and change nothing."""
    inputs = [name for role in roles for name in options(role)] + shared()
    known, begins = set(inputs), tuple(f"{role}_" for role in (*roles, "senex"))
    found = [name for name in names if name.startswith(begins) and name not in known]
    found = sorted(name for name in found if not any(fnmatch.fnmatchcase(name, str(pattern)) for pattern in foreign))
    lines = [f"{name}: is no input any more; {f'{now} took its place' if now else 'nothing took its place'}, so remove it"
             for name in found if name in former() for now in [former()[name]]]  # fmt: skip
    for name in found:
        if name not in former() and name not in own_words():
            near = difflib.get_close_matches(name, inputs, 1, NEAR)
            lines.append(f"{name}: no role has an input of this name{f', and {near[0]} is one' if near else ''}{FOREIGN}")
    return lines


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **_: Any) -> list[str]:
        variables = variables or {}
        lines = []
        for role in terms:
            for name, option in options(role).items():
                if name not in variables:
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
        foreign = self._templar.template(variables.get("senex_foreign_variables", []))
        return lines + unknown(given(variables), terms, foreign)

    def _made(self, variables: dict[str, Any], name: str, roles: tuple[str, ...]) -> Any:
        try:
            return self._templar.template(variables[name])
        except AnsibleError:  # made of what a role has not said yet
            return self._templar.copy_with_new_env(available_variables={**beneath(roles), **variables}).template(variables[name])
