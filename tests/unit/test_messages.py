"""What playbooks say to a person."""

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
SAID = ("msg", "fail_msg", "success_msg")


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


def test_a_line_break_is_one():
    """Ansible keeps a backslash that a block scalar has in an expression: a person reads backslash and n."""
    files = [*ROOT.glob("playbooks/**/*.yml"), *ROOT.glob("roles/*/tasks/**/*.yml")]
    found = [(path.name, text) for path in files for text in said(yaml.load(path.read_text(), Loader)) if "\\n" in text]  # noqa: S506
    assert len(files) > 50 and found == []
