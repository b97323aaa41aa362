"""A role knows one component. What several do together is in playbooks."""

from pathlib import Path

import pytest
import yaml
from test_outside_words import tasks_of

ROOT = Path(__file__).parents[2]
HELPERS = {"certificate"}
# The library that their programs import, and the command whose files were the watchdog's
BEFORE = {"backup": {"senex"}, "pitr": {"senex"}, "operator_cli": {"senex"}, "watchdog": {"operator_cli"}}
KINDS = ("include_role", "import_role")


def included(path):
    for task in tasks_of(yaml.safe_load(path.read_text(encoding="utf-8")) or []):
        for kind in KINDS:
            if found := task.get(f"ansible.builtin.{kind}"):
                yield found["name"].removeprefix("senex.trader.")


@pytest.mark.parametrize("role", sorted(path.name for path in (ROOT / "roles").iterdir()))
def test_no_role_includes_another(role):
    found = {name for path in (ROOT / "roles" / role).glob("tasks/**/*.yml") for name in included(path)}
    assert found <= HELPERS | {role} | BEFORE.get(role, set())


@pytest.mark.parametrize("role", ["django", "celery"])
def test_what_operations_hand_to_a_role_is_no_input(role):
    """An operator who sets the lock of a release in the inventory would have each run of site.yml refused."""
    options = yaml.safe_load((ROOT / "roles" / role / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    own = yaml.safe_load((ROOT / "roles" / role / "vars/main.yml").read_text())
    files = [*(ROOT / "playbooks").glob("release/*.yml"), ROOT / "playbooks/tasks/rotate_components.yml"]
    handed = set()
    for task in (task for path in files for task in tasks_of(yaml.safe_load(path.read_text(encoding="utf-8")) or [])):
        handed |= {name for name in task.get("vars") or {} if name.strip("_").startswith(f"{role}_")}
    assert handed and not handed & set(options) and all(name.startswith("__") and name in own for name in handed)
