# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""Values on their way into files, each in the one spelling that its reader takes back unchanged."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from ansible.errors import AnsibleFilterError

# Podman reads env files line by line into a buffer of this size (bufio.Scanner's default).
ENV_LINE_LIMIT = 65535

ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

SYSTEMD_ESCAPES = {"\\": "\\\\", '"': '\\"', "%": "%%"}


def value_text(name: str, value: Any) -> str:
    """What an application reads for a value: nothing for null, commas between the items of a list."""
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return ",".join(value_text(name, item) for item in value)
    if isinstance(value, Mapping):
        raise AnsibleFilterError(f"{name}: a dictionary has no spelling in an environment file; give a string, number, boolean or list")
    return str(value)


def env_name(name: Any) -> None:
    """Refuses what no environment variable can be called."""
    if name is None or isinstance(name, bool):
        raise AnsibleFilterError(f"{name}: on, off, yes, no and null are no texts where they stand without quotes; put the name in quotes")
    if not ENV_NAME.fullmatch(str(name)):
        raise AnsibleFilterError(f"{name}: not a name for an environment variable; use letters, digits and _, and no digit first")


def env_file(variables: Mapping[str, Any]) -> str:
    """A Podman env file. Podman takes every line literally: no quoting, and none is needed."""
    if not isinstance(variables, Mapping):
        raise AnsibleFilterError(f"env_file takes a dictionary of variables, not {type(variables).__name__}")
    lines = []
    for name, value in variables.items():
        env_name(name)
        text = value_text(name, value)
        for character, title in (("\n", "a newline"), ("\0", "a NUL character")):
            if character in text:
                raise AnsibleFilterError(f"{name}: the value contains {title}, which no environment file can carry; remove it")
        if text.endswith("\r"):
            raise AnsibleFilterError(f"{name}: the value ends with a carriage return, which Podman would drop; remove it")
        line = f"{name}={text}"
        if len(line.encode("utf-8", "surrogateescape")) > ENV_LINE_LIMIT:
            raise AnsibleFilterError(f"{name}: longer than the {ENV_LINE_LIMIT} bytes that Podman reads in a line")
        lines.append(line + "\n")
    return "".join(lines)


def systemd_escape(value: Any, expands: bool = True) -> str:
    """One quoted word of a unit file.

    With ``expands`` a dollar sign is doubled: for Exec= lines, and for all that Quadlet turns
    into one. Environment= in [Service] takes dollar signs as they are.
    """
    out = []
    for character in str(value):
        if character == "$" and expands:
            out.append("$$")
        elif character in SYSTEMD_ESCAPES:
            out.append(SYSTEMD_ESCAPES[character])
        elif character == "\0":
            raise AnsibleFilterError("a unit file cannot carry a NUL character")
        elif ord(character) < 0x20 or ord(character) == 0x7F:
            out.append(f"\\x{ord(character):02x}")
        else:
            out.append(character)
    return '"' + "".join(out) + '"'


def pg_conf_quote(value: Any) -> str:
    """A single-quoted value of postgresql.conf. Its reader knows backslash escapes too."""
    if isinstance(value, bool):
        return "'on'" if value else "'off'"
    text = str(value)
    if "\n" in text or "\0" in text:
        raise AnsibleFilterError("a value of postgresql.conf cannot contain a newline or a NUL character")
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def quote_url(value: Any) -> str:
    """A user name or password inside a URL such as redis://:PASSWORD@host."""
    return quote(str(value), safe="")


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "env_file": env_file,
            "systemd_escape": systemd_escape,
            "pg_conf_quote": pg_conf_quote,
            "quote_url": quote_url,
        }
