"""The engine brings components to their wanted state, and knows nothing of releases: what they want of it is handed over (component_apply.py)."""

import ast
from pathlib import Path

import pytest
from ansible_collections.senex.trader.plugins.module_utils import quadlet_plan

UTILS = Path(quadlet_plan.__file__).parent
RELEASE = {"release_record", "release_steps", "traffic_probe", "traffic_probe_unit", "traffic_gate", "component_apply"}


def imported(name, seen=()):
    """Module utils that one needs, by way of others too."""
    found = {}
    for node in ast.walk(ast.parse((UTILS / f"{name}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and ".plugins.module_utils" in node.module:
            last = node.module.rpartition(".")[2]
            for other in [last] if last != "module_utils" else [alias.name for alias in node.names]:
                if other not in seen:
                    found |= {other: name} | imported(other, (*seen, name))
    return found


@pytest.mark.parametrize("name", sorted(path.stem for path in UTILS.glob("quadlet_*.py")))
def test_the_engine_imports_nothing_of_a_release(name):
    assert {other: by for other, by in imported(name).items() if other in RELEASE} == {}


def test_the_test_sees_what_is_imported():
    assert {"quadlet_plan", "fileset"} <= set(imported("quadlet_transaction")) and "release_record" in imported("component_apply")
