"""What tasks give the collection's modules are arguments of these: where a failure of a task is ignored, nobody hears of one that is none."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILES = sorted(path for part in ("playbooks", "roles", "molecule", "tests/integration", "tests/lab") for path in (ROOT / part).rglob("*.yml"))


class Loader(yaml.SafeLoader):
    """Takes tags such as !vault for text."""


Loader.add_multi_constructor("!", lambda loader, _tag, node: loader.construct_scalar(node))


def options(module):
    text = (ROOT / f"plugins/modules/{module}.py").read_text(encoding="utf-8")
    return set(yaml.safe_load(re.search(r'DOCUMENTATION = r?"""\n(.*?)"""', text, re.DOTALL)[1]).get("options", {}))


def tasks(found):
    """(module, arguments) of every task, in blocks too."""
    if isinstance(found, list):
        for one in found:
            yield from tasks(one)
    elif isinstance(found, dict):
        for key, value in found.items():
            if isinstance(key, str) and key.startswith("senex.trader.") and (ROOT / f"plugins/modules/{key.rpartition('.')[2]}.py").exists():
                yield key.rpartition(".")[2], value or {}
            else:
                yield from tasks(value)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_each_argument_is_one_of_its_module(path):
    for module, given in tasks(list(yaml.load_all(path.read_text(encoding="utf-8"), Loader))):  # noqa: S506 (of our own files, as data)
        assert set(given) <= options(module), f"{module}: {sorted(set(given) - options(module))}"
