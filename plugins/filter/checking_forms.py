# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""What is wrong with numbers and texts that have to be of some form."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from ansible_collections.senex.trader.plugins.filter.checking_types import _is_decimal
from ansible_collections.senex.trader.plugins.plugin_utils.components import component_groups


def minimum_problems(values: Mapping[str, Any], least: int) -> list[str]:
    """One line for each number that is smaller; what is no number was refused before."""
    return [f"{name}: {value} is too small; write {least} or more" for name, value in values.items() if _is_decimal(value) and float(value) < least]


def above(values: Mapping[str, Any], most: int) -> list[str]:
    """One line for each number that is larger."""
    return [f"{name}: {value} is too large; write {most} or less" for name, value in values.items() if _is_decimal(value) and float(value) > most]


def longer(values: Mapping[str, Any], most: int) -> list[str]:
    """One line for each text that is longer."""
    return [f"{name}: has {len(str(value))} characters; write {most} or less" for name, value in values.items() if len(str(value)) > most]


def no_patterns(values: Mapping[str, Any]) -> list[str]:
    """One line for each value that is no regular expression. PCRE's are more, and what is none here is none there, save what is exotic."""

    def wrong(value: str) -> str | None:
        try:
            re.compile(value)
        except re.error as problem:
            return str(problem)
        return None

    found = ((name, wrong(str(value))) for name, value in values.items())
    return [f"{name}: is no regular expression ({problem})" for name, problem in found if problem]


def no_words(values: Mapping[str, Any]) -> list[str]:
    """One line for each value that a shell cannot take apart into words."""
    lines = []
    for name, value in values.items():
        try:
            shlex.split(str(value))
        except ValueError as problem:
            lines.append(f"{name}: {str(problem).lower()}; close the quotation, as for a shell")
    return lines


PEM_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\r?\n.+\n-----END CERTIFICATE-----", re.DOTALL)


def no_certificates(values: Mapping[str, Any]) -> list[str]:
    """One line for each value that is neither empty nor holds a PEM certificate: a path, for instance, where the text is meant."""
    said = "is no PEM certificate; give its text, such as lookup('ansible.builtin.file', 'ca.pem')"
    return [f"{name}: {said}" for name, value in values.items() if value and not PEM_CERTIFICATE.search(str(value))]


# As Podman has it: what follows the registry is in small letters
IMAGE = re.compile(r"(?P<registry>[A-Za-z0-9.-]+(:[0-9]+)?)(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)+(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?")


def no_images(values: Mapping[str, Any], from_afar: bool = True) -> list[str]:
    """One line for each value that is no whole name of an image. A short one is looked up in registries, of which Debian and Ubuntu name none."""
    said = "is no image; write its whole name in small letters, with the registry and without https://, such as docker.io/library/postgres:17-alpine"

    def good(value: str) -> bool:
        found = IMAGE.fullmatch(value)
        return found is not None and (not from_afar or found["registry"] == "localhost" or any(sign in found["registry"] for sign in ".:"))

    return [f"{name}: '{value}' {said}" for name, value in values.items() if not good(str(value))]


def form_problems(forms: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One line for each value that is not of its form."""
    return [f"{name}: '{form['value']}' is {form['says']}" for name, form in forms.items() if not re.search(form["form"], str(form["value"]))]


# What the variables of operations begin with, beside inputs of roles
OPERATIONS = ("senex", "common", "release", "certificate", "restore", "rotate", "upgrade", "update_images", "checksums", "remove", "vault")


def valueless(words: Any) -> list[str]:
    """One line for each word of -e that has no value. Ansible keeps it where nobody looks, and an operation would go the other way than was meant.

    A word that is no name of ours may be the end of a password with a blank in it, and is not shown.
    """
    begins = tuple(f"{name}_" for name in (*component_groups(), *OPERATIONS))
    found = str(words or "").split()
    names = [word for word in dict.fromkeys(found) if word.startswith(begins) and re.fullmatch("[a-z0-9_]+", word)]
    lines = [f"{name}: has no value, and would be as if it was not there; write -e {name}=true, or another value" for name in names]
    if set(found) - set(names):
        lines.append("-e: a word of it is no NAME=VALUE, and would be left out; a value with blanks is put in quotes once more, as in -e \"NAME='a b'\"")
    return lines


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "minimum_problems": minimum_problems,
            "above": above,
            "longer": longer,
            "no_patterns": no_patterns,
            "no_words": no_words,
            "no_certificates": no_certificates,
            "form_problems": form_problems,
            "no_images": no_images,
            "valueless": valueless,
        }
