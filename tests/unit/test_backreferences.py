"""A group of a regular expression that is named in a replacement: YAML takes a backslash away in double quotes alone."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


class Loader(yaml.SafeLoader):
    """Takes tags such as !vault for text."""


Loader.add_multi_constructor("!", lambda loader, _tag, node: loader.construct_scalar(node))


def texts(value):
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    return [value] if isinstance(value, str) else [text for item in value for text in texts(item)] if isinstance(value, list) else []


@pytest.mark.parametrize("path", [path for part in ("playbooks", "roles") for path in sorted((ROOT / part).rglob("*.yml"))], ids=str)
def test_no_message_names_a_group_instead_of_what_it_holds(path):
    """`-e \\1=true` told nobody which variable it was."""
    for text in texts(list(yaml.load_all(path.read_text(encoding="utf-8"), Loader))):  # noqa: S506 (of our own files, as data)
        assert not [line for line in text.splitlines() if "regex_" in text and re.search(r"\\\\\d", line)], text
