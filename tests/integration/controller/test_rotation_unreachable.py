"""A host that does not answer is no failure to Ansible. A rotation goes on only when every host has confirmed its work."""

import pytest
import yaml
from ansible_collections.senex.trader.plugins.filter.rotation import rotation_begins, rotation_unconfirmed, rotation_wanted
from ansible_collections.senex.trader.plugins.plugin_utils.components import component_groups
from controller import ONE, ROOT, Stubbed

CATALOGUE = yaml.safe_load((ROOT / "playbooks/vars/rotation.yml").read_text())["rotation_catalogue_of_collection"]
TWO = {**ONE, "web": ["one", "two"], "celery": ["one", "two"]}
APART = {
    "postgresql": ["data"], "redis": ["cache"], "web": ["web-1", "web-2"], "celery": ["work"], "celery_beat": ["work"], "nginx": ["door"],
    "backup": ["data"], "watchdog": ["data", "cache", "web-1", "web-2", "work", "door"], "monitoring": ["data"],
}  # fmt: skip
PARTS = component_groups(inventory=APART)
SECRETS = {
    "vault_redis_password": "old-redis-password", "vault_database_password": "old-database-password", "vault_flower_password": "old-flower-password",
    "vault_field_encryption_key": "old-field-key", "vault_backup_passphrase": "old-backup-passphrase", "vault_secret_key": "old-secret-key",
}  # fmt: skip


def now(name, stage):
    return {"names": [name], "components": CATALOGUE[name]["stages"].get(stage, [])}


def marks(wanted, *without):
    """All that is wanted, as hosts confirm it, but of some."""
    found = {}
    for one in wanted:
        if (one["host"], one["what"]) not in without:
            found.setdefault(one["host"], []).append(f"{one['stage']} {one['what']}")
    return found


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_stage_waits_for_every_host_that_it_concerns(name):
    for stage in CATALOGUE[name]["stages"]:
        wanted = rotation_wanted(stage, now(name, stage), APART, PARTS)
        concerned = {host for part in CATALOGUE[name]["stages"][stage] for group in PARTS[part] for host in APART.get(group, [])}
        assert concerned <= {one["host"] for one in wanted} and wanted
        assert rotation_unconfirmed(wanted, marks(wanted)) == []
        for one in wanted:
            missing = rotation_unconfirmed(wanted, marks(wanted, (one["host"], one["what"])))
            assert missing == [f"{one['host']}, {stage}: {one['what']} is not confirmed (no answer, or left out of this run)"]


def test_the_mark_of_one_stage_says_nothing_about_the_next():
    wanted = rotation_wanted("use", now("redis_password", "use"), APART, PARTS)
    assert len(rotation_unconfirmed(wanted, {host: ["accept redis", "accept verified"] for host in ("cache", "data")})) == len(wanted)
    assert rotation_wanted("done", {"names": [], "components": []}, APART, PARTS) == []


def test_nothing_begins_without_all_hosts():
    wanted = rotation_begins(APART, PARTS)
    for what in ("answers", "lock"):
        assert {one["host"] for one in wanted if one["what"] == what} == {"data", "cache", "web-1", "web-2", "work", "door"}
    assert rotation_unconfirmed(wanted, marks(wanted, ("cache", "answers")), "accept", "serves") != []


def test_each_play_waits_for_those_before_it():
    wanted = rotation_wanted("accept", now("database_password", "accept"), APART, PARTS)

    def missing(play, host, *without):
        return {line.split(",")[0] for line in rotation_unconfirmed(wanted, marks(wanted, *without), "accept", play, host)}

    assert missing("serves", "data", *[(one["host"], one["what"]) for one in wanted]) == set()
    assert missing("web", "web-1", ("data", "postgresql"), ("web-1", "django")) == {"data"}
    assert missing("web", "web-2", ("web-1", "django")) == {"web-1"}, "a second web host is replaced only when the first one serves"
    assert missing("workers", "work", ("web-2", "django"), ("work", "celery"), ("data", "verified")) == {"web-2"}
    assert missing("verify", "data", ("work", "celery"), ("data", "verified")) == {"work"}


# -- the playbook itself, with roles that change nothing


def stage_of(stack, name):
    return (stack.secrets().get("vault_rotation") or {}).get(name, {}).get("stage")


def test_a_whole_rotation_goes_through(tmp_path):
    stack = Stubbed(tmp_path, TWO, SECRETS)
    assert stack.rotate("redis_password", "backup_passphrase", "flower_password").returncode == 0, stack.said
    after = stack.secrets()
    assert "vault_rotation" not in after and set(after["vault_rotated"]) == {"redis_password", "backup_passphrase", "flower_password"}
    assert [after[name] for name in ("vault_redis_password", "vault_backup_passphrase")] != [SECRETS["vault_redis_password"]]
    assert [line for line in stack.visits() if line.endswith("django")] == ["one accept django", "two accept django"]


def test_a_host_that_never_answers_leaves_the_vault_as_it_was(tmp_path):
    stack = Stubbed(tmp_path, ONE, SECRETS)
    before = stack.vault.read_bytes()
    (tmp_path / "log.lost").touch()
    result = stack.rotate("field_encryption_key", "backup_passphrase", lost="one", words=["-e", "{rotate_reencrypt_command: [reencrypt]}"])
    assert result.returncode != 0
    assert stack.vault.read_bytes() == before and stack.copies() == []
    assert stack.visits() == []


@pytest.mark.parametrize("stage", [pytest.param("accept", marks=pytest.mark.faults), "use", pytest.param("refuse", marks=pytest.mark.faults)])
def test_a_connection_that_drops_keeps_both_values_and_the_same_command_goes_on(tmp_path, stage):
    """The database's password: its own server loses the controller after its work of one stage."""
    stack = Stubbed(tmp_path, ONE, SECRETS)
    result = stack.rotate("database_password", lost=f"one {stage} postgresql")
    assert result.returncode != 0
    held = stack.secrets()
    assert stage_of(stack, "database_password") == stage, stack.said
    values = {held["vault_database_password"], held["vault_rotation"]["database_password"]["other"]}
    assert SECRETS["vault_database_password"] in values and len(values) == 2
    assert "the same command again" in stack.said and "one, " + stage in stack.said
    assert not [line for line in stack.visits() if line.split()[1] not in ("accept", "use", "refuse")[: ("accept", "use", "refuse").index(stage) + 1]]

    (tmp_path / "log.lost").unlink()
    assert stack.rotate("database_password").returncode == 0, stack.said
    after = stack.secrets()
    assert after["vault_database_password"] in values - {SECRETS["vault_database_password"]} and "vault_rotation" not in after


def test_one_of_two_web_hosts_that_drops_stops_the_stage(tmp_path):
    stack = Stubbed(tmp_path, TWO, SECRETS)
    result = stack.rotate("database_password", lost="one use django")
    assert result.returncode != 0 and stage_of(stack, "database_password") == "use"
    assert "two use django" not in stack.visits() and "two use celery" not in stack.visits()
    assert not [line for line in stack.visits() if " refuse " in line]


def test_hosts_that_a_run_leaves_out_have_confirmed_nothing(tmp_path):
    stack = Stubbed(tmp_path, TWO, SECRETS)
    before = stack.vault.read_bytes()
    result = stack.rotate("redis_password", words=["--limit", "one,localhost"])
    assert result.returncode != 0 and "two, begin: lock is not confirmed" in stack.said, stack.said
    assert stack.vault.read_bytes() == before and stack.visits() == []
