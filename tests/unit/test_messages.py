"""What playbooks say to a person."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
SAID = ("msg", "fail_msg", "success_msg", "heading")


class Loader(yaml.SafeLoader):
    """Takes !vault and the like for what they stand on."""


Loader.add_multi_constructor("!", lambda _loader, _suffix, node: node.value)


def said(node):
    if isinstance(node, dict):
        for key, value in node.items():
            yield from [value] if key in SAID and isinstance(value, str) else said(value)
    elif isinstance(node, list):
        for item in node:
            yield from said(item)


FILES = [*ROOT.glob("playbooks/**/*.yml"), *ROOT.glob("roles/*/tasks/**/*.yml")]


def test_a_line_break_is_one():
    """Ansible keeps a backslash that a block scalar has in an expression: a person reads backslash and n."""
    found = [(path.name, text) for path in FILES for text in said(yaml.load(path.read_text(), Loader)) if "\\n" in text]  # noqa: S506
    assert len(FILES) > 50 and found == []


def test_something_is_said_where_nothing_is_wrong():
    """Ansible reads a message of an assertion that holds, too, and takes one that is empty for none at all."""
    wrong = []
    for path in FILES:
        for text in said(yaml.load(path.read_text(), Loader)):  # noqa: S506
            if not re.sub(r"{%-? *(if|for)\b.*{%-? *end\1 *-?%}", "", text, flags=re.DOTALL).strip():
                wrong.append((path.name, text))
    assert wrong == []
