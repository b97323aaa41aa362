"""Which package of module_utils may import which: each knows only what lies below it, so that none can be changed by a room above it."""

import ast
from pathlib import Path

import pytest

UTILS = Path(__file__).parents[2] / "plugins/module_utils"
PREFIX = "ansible_collections.senex.trader.plugins.module_utils."
# From the ground up. The docstring of each package says the same in words
MAY_IMPORT = {
    "host": set(),
    "checks": {"host"},
    "nginx": {"host"},
    "engine": {"host", "nginx"},
    "postgresql": {"host"},
    "redis": {"host", "nginx"},
    "contract": {"host", "engine"},
    "release": {"host", "nginx", "engine", "postgresql"},
}


def imported(source):
    """The packages that a module's source imports from, wherever in it that is."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and f"{node.module}.".startswith(PREFIX):
            rest = node.module.removeprefix(PREFIX.rstrip(".")).strip(".")
            found |= {rest.split(".")[0]} if rest else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix(PREFIX).split(".")[0] for alias in node.names if alias.name.startswith(PREFIX)}
    return found


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_lies_below_it(package):
    wrong = {path.name: sorted(imported(path.read_text(encoding="utf-8")) - MAY_IMPORT[package] - {package}) for path in (UTILS / package).glob("*.py")}
    assert {name: packages for name, packages in wrong.items() if packages} == {}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_says_what_it_is_for_and_what_it_may_import(package):
    text = ast.get_docstring(ast.parse((UTILS / package / "__init__.py").read_text(encoding="utf-8")))
    said = text.partition("May import: ")[2].partition(".")[0]
    assert text.splitlines()[0].endswith(".") and {word for word in said.split(", ") if word != "nothing of the others"} == MAY_IMPORT[package]


def test_every_module_lies_in_a_package():
    assert {path.name for path in UTILS.iterdir() if path.name != "__pycache__"} - {"__init__.py"} == set(MAY_IMPORT)


def test_an_import_is_found_in_each_of_its_forms():
    text = f"from {PREFIX}release.release_record import Ledger\nfrom {PREFIX}nginx import request_hold\n"
    text += f"from {PREFIX.rstrip('.')} import engine\ndef later():\n    import {PREFIX}checks.preflight\n"
    assert imported(text) == {"release", "nginx", "engine", "checks"}
