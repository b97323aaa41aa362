"""The way of a secret through the vault, and that every secret of a vault has one, or a reason why not."""

import pathlib
import re

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.senex.trader.plugins.filter.rotation import rotation_at, rotation_lines, rotation_names, rotation_step, vault_edited

ROOT = pathlib.Path(__file__).parents[2]
CATALOGUE = yaml.safe_load((ROOT / "playbooks/vars/rotation.yml").read_text())["rotation_catalogue"]
TEXT = """---
# kept
vault_database_password: old # kept, too
vault_ca_private_key: |
  -----BEGIN
  abc

  -----END
# of the next
vault_redis_password: 'r: #1'
vault_flower_password: f
"""


def walk(text, names, stages, **values):
    """The vault after some stages."""
    for stage in stages:
        edits = rotation_step(yaml.safe_load(text), CATALOGUE, names, stage, f"at {stage}", values)
        text = vault_edited(text, edits)
    return yaml.safe_load(text)


def test_the_vault_always_knows_both_values():
    names = ["database_password"]
    at_accept = walk(TEXT, names, ["accept"], database_password="new")
    assert at_accept["vault_database_password"] == "old"
    assert at_accept["vault_rotation"] == {"database_password": {"stage": "accept", "other": "new", "since": "at accept"}}
    at_use = walk(TEXT, names, ["accept", "use"], database_password="new")
    assert at_use["vault_database_password"] == "new" and at_use["vault_rotation"]["database_password"]["other"] == "old"
    at_refuse = walk(TEXT, names, ["accept", "use", "refuse"], database_password="new")
    assert at_refuse["vault_rotation"]["database_password"] == {"stage": "refuse", "other": "old", "since": "at accept"}
    done = walk(TEXT, names, ["accept", "use", "refuse", "done"], database_password="new")
    before = yaml.safe_load(TEXT)
    assert done == {**before, "vault_database_password": "new", "vault_rotated": {"database_password": "at done"}}


def test_the_same_stage_again_changes_nothing_and_none_is_left_out():
    names = ["database_password"]
    for stages in (["accept"], ["accept", "use"]):
        vault = walk(TEXT, names, stages, database_password="new")
        for again in stages:
            assert rotation_step(vault, CATALOGUE, names, again, "later", {"database_password": "third"}) == {}
    assert rotation_step(yaml.safe_load(TEXT), CATALOGUE, names, "use", "now", {"database_password": "new"}) == {}
    vault = walk(TEXT, names, ["accept"], database_password="new")
    assert rotation_step(vault, CATALOGUE, names, "refuse", "now", {}) == {}
    assert rotation_at(vault, names, "accept") == names and rotation_at(vault, names, "use") == []


def test_one_reader_alone_needs_no_time_with_both():
    vault = walk(TEXT, ["flower_password"], ["accept", "use"], flower_password="new")
    assert vault["vault_flower_password"] == "new" and vault["vault_rotation"]["flower_password"]["stage"] == "use"
    assert "vault_rotation" not in walk(TEXT, ["flower_password"], ["accept", "use", "refuse", "done"], flower_password="new")


@pytest.mark.parametrize("value", ["", "old"])
def test_a_new_value_is_new(value):
    with pytest.raises(AnsibleFilterError, match="no new value for database_password"):
        rotation_step(yaml.safe_load(TEXT), CATALOGUE, ["database_password"], "accept", "now", {"database_password": value})


def test_editing_leaves_all_else():
    new = """$A "q" 'r' #s %t\\u =v;x&y é: - {"""
    text = vault_edited(TEXT, {"vault_redis_password": new, "vault_ca_private_key": "k", "vault_more": {"a": [1]}})
    assert yaml.safe_load(text) == {**yaml.safe_load(TEXT), "vault_redis_password": new, "vault_ca_private_key": "k", "vault_more": {"a": [1]}}
    assert all(line in text.splitlines() for line in TEXT.splitlines() if "#" in line and "redis" not in line)
    assert yaml.safe_load(vault_edited(text, {"vault_more": None, "vault_ca_private_key": None})).keys() == {
        "vault_database_password", "vault_redis_password", "vault_flower_password",
    }  # fmt: skip
    with pytest.raises(AnsibleFilterError, match="could not be edited"):
        vault_edited("vault_a: 1\nvault_a: 2\n", {"vault_a": "3"})


def test_names():
    vault = yaml.safe_load(TEXT)
    assert rotation_names("vault_redis_password, database_password,redis_password", CATALOGUE, vault) == ["redis_password", "database_password"]
    assert rotation_names("", CATALOGUE, vault) == []
    with pytest.raises(AnsibleFilterError, match="secret_key, x cannot be rotated here; the vault has database_password, flower_password, redis_password"):
        rotation_names("secret_key,x", CATALOGUE, vault)


def test_lines_say_when():
    lines = rotation_lines(CATALOGUE, walk(TEXT, ["database_password"], ["accept"], database_password="new") | {"vault_rotated": {"redis_password": "T"}})
    assert [line.partition(")")[0] for line in lines] == [
        "database_password  (last: under way since at accept, at 'accept'",
        "flower_password  (last: not known",
        "redis_password  (last: T",
    ]
    assert not any("new" in line.partition(")")[0] or "old" in line.partition(")")[0] for line in lines)


def test_every_secret_of_an_environment_has_its_way_and_its_row():
    """A secret that neither the playbook nor the page knows is one that nobody would know how to replace."""
    mapped = set()
    for path in (ROOT / "inventory").glob("*/group_vars/all/main.yml"):
        mapped |= set(re.findall(r"\{\{ (vault_\w+) \}\}", path.read_text()))
    page = (ROOT / "docs/rotation.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `vault_")]
    by_playbook = {name for row in rows for name in re.findall(r"`(vault_\w+)`", row[0]) if "playbooks/rotate.yml" in row[1]}
    named = {name for row in rows for name in re.findall(r"`(vault_\w+)`", row[0])}
    assert by_playbook == {one["vault"] for one in CATALOGUE.values()}
    assert mapped <= named
    assert all(f"vault_{name}" == one["vault"] for name, one in CATALOGUE.items())


def test_what_is_given_is_tried_unless_nobody_can_be_asked():
    """A value that is not tried is found wrong when all of the application has it."""
    given = {one["vault"] for one in CATALOGUE.values() if one.get("given")}
    tried = set(re.findall(r"^ +(vault_\w+): \"", (ROOT / "playbooks/tasks/rotate_try.yml").read_text(), re.MULTILINE))
    assert tried <= given
    assert given - tried == {"vault_tastytrade_client_id", "vault_tastytrade_client_secret"}
