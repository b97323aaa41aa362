# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""What an inventory still has to be given, by file and name, with the command for it."""

from __future__ import annotations

DOCUMENTATION = """
name: placeholders
short_description: Name the placeholders that are left in an inventory
version_added: 0.1.0
author: [senex.trader maintainers (@senex-trader)]
description:
  - Returns one line for each value that still holds C(CHANGE_ME) or C(your-domain.com), with its file and the command that opens it there. No value is shown.
  - Reads the files of the inventory; of those that are encrypted as a whole, the variables that begin with C(vault_).
options:
  _terms:
    description: Nothing.
"""
EXAMPLES = """
- name: Name what is left to fill in
  senex.trader.fail_on_problems:
    problems: "{{ query('senex.trader.placeholders') }}"
"""
RETURN = """
_raw:
  description: Lines; none where nothing is left.
  type: list
  elements: str
"""

import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.plugins.lookup import LookupBase
from ansible_collections.senex.trader.plugins.filter.checking import PLACEHOLDER

FOLDERS = ("group_vars", "host_vars")
ENCRYPTED = b"$ANSIBLE_VAULT;"
STRUCTURE = ("all", "children", "hosts", "vars")  # of an inventory: its names are not the value's


def inventory_files(sources: list[str]) -> list[Path]:
    """The files in YAML that Ansible reads for these sources."""
    found: list[Path] = []
    for source in [Path(one) for one in sources if os.path.exists(one)]:
        folder = source if source.is_dir() else source.parent
        found += [source] if source.is_file() else folder.glob("*")
        found += [path for name in FOLDERS for path in (folder / name).rglob("*")]
    return list(dict.fromkeys(path for path in sorted(found) if path.is_file() and path.suffix in ("", ".yml", ".yaml")))


def scalars(node: yaml.Node | None, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], int, str]]:
    """Each value of a file with the names that lead to it and its line."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from scalars(value, (*above, str(key.value)))
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value, 1):
            yield from scalars(value, (*above, str(number)))
    elif isinstance(node, yaml.ScalarNode):
        yield above, node.start_mark.line + 1, node.value


def near(path: Path) -> str:
    """As somebody in this directory would write it."""
    full = os.path.abspath(path)
    return os.path.relpath(full) if full.startswith(os.getcwd() + os.sep) else full


def in_plain(path: Path, text: bytes) -> list[str]:
    try:
        found = list(scalars(yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))))
    except yaml.YAMLError:
        return []  # Ansible says what it is
    place = near(path)
    lines = []
    for names, line, value in found:
        if held := PLACEHOLDER.search(value):
            name = ".".join(part for part in names if part not in STRUCTURE)
            command = f"${{EDITOR:-vi}} +{line} {shlex.quote(place)}"
            lines.append(f"{name}: is still a placeholder ({held[0]}) in {place}, line {line}; write its value: {command}")
    return lines


def in_vaults(paths: list[Path], variables: Mapping[str, Any]) -> list[str]:
    """The names alone: which of several vaults has one, is not known without opening them once more."""
    left = [name for name, value in variables.items() if name.startswith("vault_") and isinstance(value, str) and PLACEHOLDER.search(value)]
    places = [near(path) for path in paths]
    commands = " or ".join(f"ansible-vault edit {shlex.quote(place)}" for place in places)
    return [f'{name}: is still a placeholder in {" or ".join(places)}; write its value, or "" where it is not used: {commands}' for name in left]


def left_in(sources: list[str], variables: Mapping[str, Any]) -> list[str]:
    """One line for each placeholder."""
    texts = {path: path.read_bytes() for path in inventory_files(sources) if os.access(path, os.R_OK)}
    plain = [line for path, text in texts.items() if not text.startswith(ENCRYPTED) for line in in_plain(path, text)]
    vaults = [path for path, text in texts.items() if text.startswith(ENCRYPTED)]
    return plain + (in_vaults(vaults, variables) if vaults else [])


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **_: Any) -> list[str]:
        variables = variables or {}
        return left_in([str(one) for one in variables.get("ansible_inventory_sources") or []], variables)
