"""The way of a secret through the vault, and that every secret of a vault has one, or a reason why not."""

import pathlib
import re

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.senex.trader.plugins.filter.keys import restore_keys
from ansible_collections.senex.trader.plugins.filter.rotation import (
    rotation_at,
    rotation_catalogue,
    rotation_lines,
    rotation_names,
    rotation_step,
    vault_edited,
)
from rendered import value

ROOT = pathlib.Path(__file__).parents[2]
CATALOGUE = yaml.safe_load((ROOT / "playbooks/vars/rotation.yml").read_text())["rotation_catalogue_of_collection"]
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
        text = path.read_text()
        own = {f"vault_{name}" for name in yaml.safe_load(text).get("senex_application_secrets", [])}
        mapped |= set(re.findall(r"\{\{ (vault_\w+) \}\}", text)) - own
    page = (ROOT / "docs/operations/rotation.md").read_text()
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
    assert given == tried


def test_a_secret_of_the_application_that_somebody_issues_is_rotated_like_one_of_the_collection():
    """By any name, and it takes the place of none."""
    known = rotation_catalogue(CATALOGUE, ["payments_key", "redis_password"])
    assert known.keys() - CATALOGUE.keys() == {"payments_key"} and known["redis_password"] == CATALOGUE["redis_password"]
    assert rotation_names("vault_payments_key", known, {"vault_payments_key": "old"}) == ["payments_key"]
    step = rotation_step({"vault_payments_key": "old"}, known, ["payments_key"], "use", "T", {"payments_key": "new"})
    assert step["vault_payments_key"] == "new" and step["vault_rotation"]["payments_key"]["stage"] == "use"


FIELDS = ["field_encryption_key"]
KEPT = "---\nvault_field_encryption_key: first\n"
WHOLE = ["accept", "use", "refuse", "done"]
TIMES = {"accept": "2026-03-01T10:00:00Z", "use": "2026-03-01T10:01:00Z", "refuse": "2026-03-01T10:02:00Z", "done": "2026-03-01T10:03:00Z"}


def gone(text, stages, year=2026, retired=False, **values):
    """The text of the vault of FIELDS after some stages."""
    for stage in stages:
        now = TIMES[stage].replace("2026", str(year))
        text = vault_edited(text, rotation_step(yaml.safe_load(text), CATALOGUE, FIELDS, stage, now, values, retired))
    return text


def test_a_key_that_older_copies_need_stays_in_the_vault():
    """Nobody has ever seen it, and for weeks each restore brings rows that it alone reads."""
    vault = yaml.safe_load(gone(KEPT, WHOLE, field_encryption_key="second"))
    assert vault["vault_field_encryption_key"] == "second" and "vault_rotation" not in vault
    assert vault["vault_retired_keys"] == [{"secret": FIELDS[0], "key": "first", "replaced": TIMES["accept"], "until": TIMES["done"]}]
    text = gone(gone(KEPT, WHOLE, field_encryption_key="second"), WHOLE, 2027, field_encryption_key="third")
    older, newer = yaml.safe_load(text)["vault_retired_keys"]
    assert older["key"] == "first" and newer == {"secret": FIELDS[0], "key": "second", "since": TIMES["done"],
                                                 "replaced": "2027-03-01T10:00:00Z", "until": "2027-03-01T10:03:00Z"}  # fmt: skip
    (line,) = rotation_lines(CATALOGUE, yaml.safe_load(text))
    assert line.endswith("kept for older copies: the keys in use until 2026-03-01T10:03:00Z, 2027-03-01T10:03:00Z")
    assert not any(key in line for key in ("first", "second", "third"))
    assert "vault_retired_keys" not in walk(TEXT, ["database_password"], WHOLE, database_password="new"), "nothing at rest needs that one"


def test_former_keys_read_again_until_somebody_says_that_it_ends():
    text = gone(gone(KEPT, WHOLE, field_encryption_key="second"), WHOLE, 2027, field_encryption_key="third")
    before = yaml.safe_load(text)
    again = gone(text, WHOLE, 2028, retired=True)
    assert yaml.safe_load(again)["vault_rotation"] == {FIELDS[0]: {"stage": "use", "other": "first,second", "since": "2028-03-01T10:00:00Z", "again": True}}
    assert gone(again, WHOLE, 2028, retired=True) == again and rotation_at(yaml.safe_load(again), FIELDS, "use") == FIELDS
    assert yaml.safe_load(gone(again, WHOLE, 2029)) == before, "and all is as it was"


def test_a_rotation_steps_back_where_something_was_not_found_to_be_encrypted_anew():
    text = gone(KEPT, ["accept", "use", "refuse"], field_encryption_key="second")
    back = yaml.safe_load(gone(text, WHOLE, retired=True))
    assert back["vault_rotation"][FIELDS[0]] == {"stage": "use", "other": "first", "since": TIMES["accept"], "back": TIMES["accept"]}
    assert yaml.safe_load(gone(gone(text, WHOLE, retired=True), ["refuse", "done"]))["vault_retired_keys"][0]["key"] == "first"


@pytest.mark.parametrize(("text", "names"), [(KEPT, FIELDS), (TEXT, ["database_password"])])
def test_without_a_former_value_there_is_none_to_read_with(text, names):
    with pytest.raises(AnsibleFilterError, match=f"rotate_retired: the vault has no former value of {names[0]}"):
        rotation_step(yaml.safe_load(text), CATALOGUE, names, "accept", "now", {}, True)


TWICE = gone(gone(KEPT, WHOLE, field_encryption_key="second"), WHOLE, 2027, field_encryption_key="third")
EARLIER = "---\nvault_field_encryption_key: second\nvault_rotated: {field_encryption_key: '2026-03-01T10:03:00Z'}\n"


@pytest.mark.parametrize(
    ("text", "moment", "missing", "says"),
    [
        (TWICE, "2028-01-01 00:00:00 UTC", False, ["the key of now"]),
        (TWICE, "2026-06-01 12:00:00+00", True, ["the key in use until 2027-03-01T10:03:00Z, which is not read now", "-e rotate_retired=true"]),
        (TWICE, "2026-01-01 00:00:00 UTC", True, ["the key in use until 2026-03-01T10:03:00Z, which is not read now"]),
        # While one was rotated either may have written
        (TWICE, "2026-03-01T10:01:30Z", True, ["until 2026-03-01T10:03:00Z, which is not", "until 2027-03-01T10:03:00Z, which is not"]),
        (TWICE, "", False, ["until 2026-03-01T10:03:00Z", "until 2027-03-01T10:03:00Z"]),
        (gone(TWICE, WHOLE, 2028, retired=True), "2026-06-01 12:00:00+00", False, ["which is read now too"]),
        (gone(KEPT, ["accept", "use"], field_encryption_key="second"), "2026-01-01 00:00:00 UTC", False, ["the key of now"]),
        (gone(KEPT, ["accept", "use", "refuse"], field_encryption_key="second"), "2026-01-01 00:00:00 UTC", True, ["that a rotation takes away now"]),
        # By a version that forgot them
        (EARLIER, "2026-02-01 00:00:00 UTC", True, ["a key from before 2026-03-01 10:03 UTC, which the vault does not have", "the vault's own history"]),
        (EARLIER, "2026-04-01 00:00:00 UTC", False, ["the key of now"]),
        (gone(EARLIER, WHOLE, 2027, field_encryption_key="third"), "2026-02-01 00:00:00 UTC", True, ["2027-03-01T10:03:00Z", "from before 2026-03-01"]),
        (TEXT, "2026-01-01 00:00:00 UTC", False, []),
    ],
)
def test_a_restore_says_which_keys_its_moment_needs(text, moment, missing, says):
    found = restore_keys(yaml.safe_load(text), CATALOGUE, moment)
    said = "\n".join(found["lines"])
    assert found["missing"] is missing and all(part in said for part in says) and bool(said) is bool(says), said
    assert not any(re.search(rf"\b{key}\b", said) for key in ("first", "second", "third"))


def test_whoever_writes_the_environment_looks_at_the_key_that_is_there():
    """With a vault that is older than the host, the application would write what nobody reads."""
    writers = {path.parents[1].name for path in ROOT.glob("roles/*/vars/main.yml") if 'dest: "{{ senex_environment_file }}"' in path.read_text()}
    assert writers == {"django", "celery"}
    for role in writers:
        assert 'preconditions: "{{ senex_environment_preconditions }}"' in (ROOT / f"roles/{role}/tasks/main.yml").read_text()
    for replaced in (True, False):
        preconditions = value("django", "senex_environment_preconditions", senex_field_encryption_key_replaced=replaced)
        assert [(one["file"], one["keeps"]) for one in preconditions] == (
            [] if replaced else [("/opt/senex-trader/.config/containers/systemd/.env", "FIELD_ENCRYPTION_KEY")]
        )
