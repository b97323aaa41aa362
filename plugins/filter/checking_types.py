# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""Whether a value is of the type and shape that is asked for."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.senex.trader.plugins.filter.sizing import to_megabytes
from ansible_collections.senex.trader.plugins.plugin_utils.yaml_source import misread


def found_kind(value: Any) -> str:
    """What a value is, in the words of whoever writes an inventory."""
    kinds = ((bool, "true or false"), (str, "a text"), (int, "a number"), (float, "a decimal"), (Mapping, "a dictionary"), (Sequence, "a list"),
             (datetime.date, "a date"))  # fmt: skip
    return next((name for kind, name in kinds if isinstance(value, kind)), "nothing")


MOST = 4294967295  # the largest id of the kernel's; what is more overflows somewhere: a server does not start, or takes another number


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return re.fullmatch("0|[1-9][0-9]{0,9}", value) is not None and int(value) <= MOST
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST


def _is_port(value: Any) -> bool:
    return _is_number(value) and int(value) <= 65535


def _is_decimal(value: Any) -> bool:
    decimal = isinstance(value, float) or isinstance(value, str) and re.fullmatch(r"[0-9]{1,10}\.[0-9]{1,20}", value) is not None
    return _is_number(value) or decimal and 0 <= float(value) <= MOST


# What the filter `bool` knows; it takes all else for no
FLAGS = ("true", "false", "yes", "no", "on", "off", "y", "n", "t", "f", "1", "0")
CONTROL = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029]")


def _is_line(value: Any) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool) and str(value).strip() != "" and CONTROL.search(str(value)) is None


def _is_size(value: Any) -> bool:
    try:
        to_megabytes(value)
    except AnsibleFilterError:
        return False
    return True


# Name of a type: how it is said, and what passes. -e NAME=VALUE gives texts, so a number may be one
TYPES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "text": ("a text", lambda value: value is None or isinstance(value, (str, int)) and not isinstance(value, bool)),
    "number": (f"a whole number, 0 to {MOST}", _is_number),
    "port": ("a port, 65535 at most", _is_port),
    "line": ("a text in one line, not empty", _is_line),
    "decimal": (f"a number, 0 to {MOST}", _is_decimal),
    "flag": ("true or false", lambda value: isinstance(value, (bool, int, str)) and str(value).lower() in FLAGS),
    "bool": ("true or false, without quotes", lambda value: isinstance(value, bool)),
    "path": ("a path", lambda value: isinstance(value, str) and _is_line(value)),
    "list": ("a list", lambda value: isinstance(value, Sequence) and not isinstance(value, (str, bytes))),
    "dict": ("a dictionary", lambda value: isinstance(value, Mapping)),
    "size": ("a size, such as 512M or 2G, or a number of MB", _is_size),
    "any": ("anything", lambda value: True),
}
WORDS = {"type": "list", "of": "text"}  # a command line


def _shape(name: str, value: Any, shape: Mapping[str, Any]) -> list[str]:
    said, passes = TYPES[shape["type"]]
    each = shape.get("of")
    if value == "" and shape.get("or_empty"):
        return []
    if not passes(value):
        inside = f" ({TYPES[each][0]} each)" if each else f" ({', '.join(shape['keys'])})" if shape.get("keys") else ""
        quotes = "; put it in quotes" if shape["type"] in ("text", "line") and isinstance(value, (bool, float, datetime.date)) else ""
        return [f"{name}: is {found_kind(value)}, and must be {said}{inside}{quotes}"]
    if shape["type"] in ("number", "port", "line", "text", "any") and misread(value):
        return [f"{name}: {misread(value)}"]
    if shape["type"] == "list" and each:
        return [line for number, item in enumerate(value, 1) for line in _shape(f"{name}, number {number}", item, {"type": each})]
    if shape["type"] != "dict":
        return []
    keys = shape.get("keys")
    if keys is None:
        return [line for key, item in value.items() for line in _shape(f"{name}.{key}", item, {"type": each or "any"})]
    lines = [f"{name}.{key}: there is no such key; there are {', '.join(keys)}" for key in value if key not in keys]
    absent = [key for key in keys if key not in value]
    if absent and not (shape.get("or_empty") and not value) and not shape.get("partial"):
        lines.append(f"{name}: has no {', '.join(absent)}; it takes the place of the whole default, so give every key ({', '.join(keys)})")
    return lines + [
        line for key, kind in keys.items() if key in value for line in _shape(f"{name}.{key}", value[key], WORDS if kind == "words" else {"type": kind})
    ]


def shape_problems(values: Mapping[str, Any], shapes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One line for each value that is not of its type: variable, found type, wanted type. Never the value."""
    return [line for name, shape in shapes.items() if name in values for line in _shape(name, values[name], shape)]


# Types of an argument specification, and the inputs that may have several lines
SPECIFIED = {"str": "text", "path": "path", "int": "number", "float": "decimal", "bool": "flag", "list": "list", "dict": "dict"}

OF_LINES = ("common_login_banner", "nginx_tls_certificate_content", "nginx_tls_private_key_content", "nginx_acme_ca_certificate",
            "backup_offsite_ca_certificate", "certificate_ca_certificate", "certificate_ca_private_key")  # fmt: skip

# Texts that are sizes, by their names: the filter that reads them knows none
SIZES = re.compile(r"[a-z]+_[a-z_]*(memory|maxmemory|tuning_memory_mb)")
PORTS = re.compile(r"[a-z_]+_port")


def _has_control(value: Any) -> bool:
    """Whether a text anywhere within would be more than one line of a file."""
    if isinstance(value, Mapping):
        return any(_has_control(part) for pair in value.items() for part in pair)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return any(_has_control(item) for item in value)
    return isinstance(value, str) and CONTROL.search(value) is not None


def unfit(name: str, value: Any, option: Mapping[str, Any]) -> list[str]:
    """What is wrong with the input of a role, by its argument specification. Ansible's own check takes a list or false for a text, and a text for a list."""
    kind = SPECIFIED.get(option.get("type", "str"), "any")
    if kind in ("text", "any") and SIZES.fullmatch(name) and value is not None:
        kind = "size"
    if kind == "number" and PORTS.fullmatch(name):
        kind = "port"
    said, passes = TYPES[kind]
    if kind != "any" and (value is None or not passes(value)) and not (kind == "text" and isinstance(value, float)):
        hint = ""
        if value is None:
            hint = "; take the line out for the default" + (', or write ""' if kind == "text" else "")
        elif kind == "text":
            hint = "; put it in quotes" if isinstance(value, (bool, datetime.date)) else ""
        elif kind in ("list", "dict") and isinstance(value, str):
            hint = f"; with -e as JSON, -e '{{\"{name}\": {'[...]' if kind == 'list' else '{...}'}}}'"
        return [f"{name}: is {found_kind(value)}, and must be {said}{hint}"]
    if kind != "decimal" and misread(value):  # 1.50 is as good as 1.5 where a number is meant
        return [f"{name}: {misread(value)}"]
    if kind == "dict":
        lines = [f"{name}: the key {key} is {found_kind(key)}, and must be a text; put it in quotes" for key in value if not isinstance(key, str)]
        lines += [f"{name}.{key}: {misread(item)}" for key, item in value.items() if isinstance(item, int) and misread(item)]
        if lines:
            return lines
    if name not in OF_LINES and _has_control(value):
        return [f"{name}: holds a line break or another control character; remove it"]
    if kind == "list" and option.get("elements"):
        # What a specification cannot say of a list of lists: they are command lines
        each = {"type": option["elements"], "options": option.get("options"), "elements": "str"}
        return [line for number, item in enumerate(value, 1) for line in unfit(f"{name}, number {number}", item, each)]
    return _inside(name, value, option["options"]) if kind == "dict" and option.get("options") else []


def _inside(name: str, value: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    """The same of each key of a dictionary: a text for a list of texts would be taken letter by letter."""
    lines = [f"{name}.{key}: there is no such key; there are {', '.join(options)}" for key in value if key not in options]
    lines += [f"{name}: has no {key}" for key, option in options.items() if option.get("required") and key not in value]
    return lines + [line for key, option in options.items() if key in value for line in unfit(f"{name}.{key}", value[key], option)]


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "shape_problems": shape_problems,
        }
