"""A task that registers its answer under the name of a variable of its role hides that variable from then on."""

import re
from pathlib import Path

import pytest
import yaml

ROLES = sorted(path for path in (Path(__file__).parents[2] / "roles").iterdir() if (path / "tasks").is_dir())


@pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)
def test_no_answer_hides_a_variable(role):
    known = {name for kind in ("defaults", "vars") for path in role.glob(f"{kind}/*.yml") for name in yaml.safe_load(path.read_text(encoding="utf-8")) or {}}
    text = "\n".join(path.read_text(encoding="utf-8") for path in role.glob("tasks/*.yml"))
    assert known & set(re.findall(r"^\s*register: (\w+)", text, re.MULTILINE)) == set()
