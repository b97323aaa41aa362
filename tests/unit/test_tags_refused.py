"""Every playbook but site.yml refuses tags first, and an operation with a plan refuses check mode (runs: tests/integration/playbooks/test_misspelt.py)."""

import re

import pytest
import yaml
from controller import ROOT
from patterns import WHOLE, whole

# What may come first: it changes nothing, and says what is wrong with the run as a whole
BEFORE = {"Check that Ansible finds the collection", "Name what is left to fill in"}


@pytest.mark.parametrize("name", WHOLE)
def test_a_playbook_without_tags_begins_by_refusing_them(name):
    first = whole(name)[0]
    while "ansible.builtin.import_playbook" in first:
        first = whole(first["ansible.builtin.import_playbook"].removesuffix(".yml"))[0]
    names = [task["name"] for task in first["tasks"]]
    number = names.index("Check that no tag is given")
    assert set(names[:number]) <= BEFORE and "pre_tasks" not in first and not first["gather_facts"]
    assert first["tasks"][number] == {"name": names[number], "ansible.builtin.import_tasks": "tasks/no_tags.yml", "tags": ["always"]}


def test_each_operation_with_a_plan_and_a_confirmation_says_so():
    shown = {}
    for path in (ROOT / "playbooks").glob("*.yml"):
        for one in yaml.safe_load(path.read_text()):
            if one.get("ansible.builtin.import_playbook") == "require_hosts.yml":
                shown[path.stem] = one.get("vars", {}).get("required_confirmation")
    asks = {path.stem: rf"{path.stem.split('_')[0]}\w*_confirm" for path in (ROOT / "playbooks").glob("*.yml")}
    confirmed = {name for name, words in asks.items() if name in shown and re.search(words, (ROOT / f"playbooks/{name}.yml").read_text())}
    assert (
        {name for name, variable in shown.items() if variable} == confirmed == {"restore", "upgrade_postgresql", "checksums", "update_images", "remove", "move"}
    )
