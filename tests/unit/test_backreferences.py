"""What a backslash is in YAML: a group of a regular expression, or the end of a line, is written in one way in double quotes and in another without."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


class Loader(yaml.SafeLoader):
    """Takes tags such as !vault for text."""


Loader.add_multi_constructor("!", lambda loader, _tag, node: loader.construct_scalar(node))


# A regular expression knows what is meant by itself
PATTERN = re.compile(r"""(?:(?:search|match|regex_\w+)\(|'(?:search|match|regex_\w+)', )'[^']*'""")


def texts(value):
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    return [value] if isinstance(value, str) else [text for item in value for text in texts(item)] if isinstance(value, list) else []


@pytest.mark.parametrize("path", [path for part in ("playbooks", "roles") for path in sorted((ROOT / part).rglob("*.yml"))], ids=str)
def test_no_message_names_a_group_instead_of_what_it_holds(path):
    """`-e \\1=true` told nobody which variable it was."""
    for text in texts(list(yaml.load_all(path.read_text(encoding="utf-8"), Loader))):  # noqa: S506 (of our own files, as data)
        assert not [line for line in text.splitlines() if "regex_" in text and re.search(r"\\\\\d", line)], text


@pytest.mark.parametrize("path", [path for part in ("playbooks", "roles") for path in sorted((ROOT / part).rglob("*.yml"))], ids=str)
def test_no_text_is_split_or_joined_at_a_backslash_and_an_n(path):
    """Outside of double quotes Ansible keeps the backslash of a Jinja text: two values of a file were one, and a message had it in its middle."""
    for text in texts(list(yaml.load_all(path.read_text(encoding="utf-8"), Loader))):  # noqa: S506 (of our own files, as data)
        assert not re.search(r"\\[nrt]", PATTERN.sub("", text)), text
