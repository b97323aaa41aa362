"""An environment without Redis, Celery or Beat."""

import pytest
import yaml
from ansible_collections.senex.trader.plugins.filter import checking_groups, parts, rotation, sizing
from ansible_collections.senex.trader.plugins.plugin_utils import components
from controller import ROOT
from rendered import ROLES, component, value
from rendered import variables as rendered_variables
from test_input_checks import GIVEN, message_of

NEEDED = {name: ["one"] for name in ("postgresql", "web", "nginx")}
WHOLE = {**NEEDED, **{name: ["one"] for name in ("redis", "celery", "celery_beat")}}
CATALOGUE = yaml.safe_load((ROOT / "playbooks/vars/rotation.yml").read_text())["rotation_catalogue_of_collection"]
OF_REDIS = {"REDIS_URL", "CHANNELS_REDIS_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "CELERY_VISIBILITY_TIMEOUT"}
HOST = {**GIVEN, "senex_secret_key": "k", "senex_field_encryption_key": "f", "senex_ca_certificate": "c", "inventory_hostname": "one"}
EMPTY = [{}, {"redis": [], "celery": [], "celery_beat": []}]


@pytest.mark.parametrize("empty", EMPTY, ids=["missing", "empty"])
def test_groups_that_may_be_empty_or_missing(empty):
    assert checking_groups.group_problems({**NEEDED, **empty}) == []
    assert parts.part_problems({**NEEDED, **empty}, redis=False) == []


@pytest.mark.parametrize(
    ("groups", "redis", "cache", "begins"),
    [
        ({"celery": ["two"]}, False, False, ["group celery: has two, and its queue lies in Redis"]),
        ({"celery": ["two"]}, True, False, []),  # elsewhere
        ({"celery": ["two"], "celery_beat": ["one"]}, False, True, ["group celery: has two", "senex_redis_cache_instance: asks for a second Redis"]),
        ({"redis": ["one"]}, True, True, []),
        ({}, True, True, ["senex_redis_cache_instance: asks for a second Redis, and the group redis has no host"]),
        ({"celery_beat": ["one"]}, True, False, ["group celery_beat: has a host and the group celery has none"]),
        ({"redis": ["one", "two"]}, True, False, ["group redis: has one, two; one host at most"]),
        ({"celery": ["one"], "celery_beat": ["one", "two"]}, True, False, ["group celery_beat: has one, two; one host at most"]),
    ],
)
def test_what_cannot_work_is_refused_by_the_name_of_its_group(groups, redis, cache, begins):
    found = checking_groups.group_problems({**NEEDED, **groups}) + parts.part_problems({**NEEDED, **groups}, redis, cache)
    assert [line[: len(text)] for line, text in zip(found, begins, strict=True)] == begins


def checked(**inputs):
    """What the task of check_inventory.yml says that checks the shared inputs."""
    tasks = yaml.safe_load((ROOT / "playbooks/tasks/check_inventory.yml").read_text())
    (task,) = [task for task in tasks if "__check_shapes" in task.get("vars", {})]
    given = {**HOST, "senex_private_address": "10.0.0.5", **inputs}
    return message_of(task, rendered_variables("senex", **given))


def test_the_playbooks_ask_before_the_first_change():
    one = {"inventory_hostname": "one", "group_names": ["web"]}
    assert checked(groups=NEEDED, **one) == checked(groups=WHOLE, **one) == ""
    assert "group celery: has one, and its queue" in checked(groups={**NEEDED, "celery": ["one"]}, **one)
    assert "senex_redis_cache_instance: asks for" in checked(groups=NEEDED, senex_redis_cache_instance="yes", **one)
    assert checked(groups={**NEEDED, "celery": ["one"]}, senex_redis_host="10.0.0.9", **one) == ""


def missing_inputs(groups, **inputs):
    """What the task of check_inventory.yml says that asks for secrets, of an inventory that has none of Redis."""
    tasks = yaml.safe_load((ROOT / "playbooks/tasks/check_inventory.yml").read_text())
    (task,) = [task for task in tasks if "__check_inputs" in task.get("vars", {})]
    given = {name: one for name, one in GIVEN.items() if name != "senex_redis_password"}
    return message_of(task, rendered_variables("senex", **{**given, "groups": groups, "inventory_hostname": "one", **inputs}))


def test_no_password_is_asked_for_where_nobody_would_take_it():
    assert "senex_redis_password: is missing" in missing_inputs(WHOLE)
    assert "senex_redis_password" not in missing_inputs(NEEDED)


def test_the_password_of_somebody_elses_server_is_a_text_too():
    """1.10 without quotes is 1.1, and a list is written with commas."""
    theirs = {"senex_database_host": "db.senex.test", "senex_redis_host": "mq.senex.test"}
    said = missing_inputs({**NEEDED, "postgresql": []}, **theirs, senex_database_password=1.1, senex_redis_password=["x"])
    assert "senex_database_password: must be a string; put it in quotes" in said and "senex_redis_password: must be a string" in said
    said = missing_inputs({**NEEDED, "postgresql": []}, **theirs, senex_database_password="short", senex_redis_password="short")
    assert "senex_database_password" not in said and "senex_redis_password" not in said


def environment(**inputs):
    return value("senex", "senex_application_environment", **{**HOST, **inputs})


def test_the_application_is_told_of_redis_where_there_is_one():
    """Also of one elsewhere; the rest is the same, in the same order, so that no host writes its file anew."""
    whole, without = environment(groups=WHOLE), environment(groups=NEEDED)
    assert list(whole) == list(environment()) and set(whole) >= OF_REDIS
    assert without == {name: one for name, one in whole.items() if name not in OF_REDIS}
    assert not any("redis" in str(one).lower() for one in without.values())
    elsewhere = environment(groups=NEEDED, senex_redis_host="10.0.0.9")
    assert list(elsewhere) == list(whole) and "@10.0.0.9:6379" in elsewhere["REDIS_URL"]
    assert environment(groups=NEEDED, senex_redis_url="rediss://theirs:6380")["REDIS_URL"] == "rediss://theirs:6380/0"


def test_the_file_of_a_host_has_it_so():
    """And no unit waits for a Redis that will not come."""
    files, _ = component("django", **{**HOST, "groups": NEEDED, "group_names": list(NEEDED)})
    (told,) = [text for text, _ in files.values() if "DB_HOST=" in text]
    assert not [name for name in OF_REDIS if f"{name}=" in told]
    assert not [dest for dest, (text, _) in files.items() if dest.endswith(".container") and "redis.service" in text]


def test_the_share_of_what_is_not_there_goes_to_the_others():
    """Also on hosts that never had it, as they leave room for it where the environment has it."""
    whole = sizing.memory_plan(8192)
    assert sizing.memory_plan(8192, groups=["web"], inventory=WHOLE) == whole == sizing.memory_plan(8192, inventory={})
    less = sizing.memory_plan(8192, groups=["web"], inventory=NEEDED)
    assert set(less) == {"postgresql", "web", "system"}
    assert less["postgresql"] + less["web"] > 0.74 * 8192 and less["postgresql"] == 2 * less["web"]
    assert "redis_maxmemory" not in less and "redis_cache" not in sizing.memory_plan(8192, redis_cache=True, inventory=NEEDED)
    no_beat = sizing.memory_plan(8192, inventory={**WHOLE, "celery_beat": []})
    assert "beat" not in no_beat and no_beat["worker"] > whole["worker"]
    assert value("senex", "senex_memory", **{**HOST, "senex_memory_mb": 8192, "groups": NEEDED, "group_names": ["web"]}) == less


def test_secrets_of_what_is_not_there_are_neither_made_nor_rotated():
    vault = {"vault_redis_password": "x", "vault_flower_password": "y", "vault_database_password": "z"}
    assert rotation.rotation_names("database_password", CATALOGUE, vault, NEEDED) == ["database_password"]
    assert [line.split(" ")[0] for line in rotation.rotation_lines(CATALOGUE, vault, NEEDED)] == ["database_password"]
    assert len(rotation.rotation_lines(CATALOGUE, vault, WHOLE)) == len(rotation.rotation_lines(CATALOGUE, vault)) == 3
    with pytest.raises(Exception, match="redis_password cannot be rotated here, for no host of this environment has its server"):
        rotation.rotation_names("redis_password", CATALOGUE, vault, NEEDED)
    # One that was begun has to come to its end
    begun = {**vault, "vault_rotation": {"redis_password": {"stage": "use", "other": "w", "since": "2026-11-29"}}}
    assert rotation.rotation_names("redis_password", CATALOGUE, begun, NEEDED) == ["redis_password"]
    made = value("senex", "lookup('senex.trader.new_secrets')", groups=NEEDED)
    assert "vault_database_password" in made and not {"vault_redis_password", "vault_flower_password"} & set(made)
    assert {"vault_redis_password", "vault_flower_password"} <= set(value("senex", "lookup('senex.trader.new_secrets')", groups=WHOLE))


def test_what_stays_on_a_host_is_said():
    installed = ["common", "django", "redis", "celery", "network", "certificate-x"]
    assert components.left_behind(installed, ["web", "redis", "celery_beat"]) == ""
    text = components.left_behind(installed, ["web"])
    assert text.startswith("still has redis, celery (redis.service, redis-cache.service, celery-worker*.service") and "and no data" in text
    assert "put the host into redis, celery once more, run playbooks/site.yml --tags redis,celery -e redis_state=absent -e celery_state=absent" in text
    assert components.left_behind(["watchdog"], ["web"]).startswith("still has watchdog (senex-watchdog.service)")


@pytest.mark.parametrize(("name", "group"), [(name, next(iter(one.groups))) for name, one in components.registry().items() if one.groups and one.memory])
def test_what_stays_keeps_its_share_of_the_memory(name, group):
    """Its units run on with the limit that they had; nobody else may be given that."""
    whole = {**WHOLE, "monitoring": ["one"]}
    inventory = {**whole, group: [], **({"celery_beat": []} if group == "celery" else {})}
    here = [one for one in whole if inventory[one]]
    host = {**HOST, "senex_memory_mb": 8192, "groups": inventory, "group_names": here}
    before = value("senex", "senex_memory", **{**host, "groups": whole, "group_names": list(whole)})
    snapshot = {"senex_host_snapshot": {"installed": ["common", *components.registry()]}}
    assert value("senex", "senex_memory", **host, **snapshot) == before
    assert value("senex", "senex_memory", **host) != before, "its share is given out when it is gone"
    gone = {"installed": [one for one in components.registry() if one != name]}
    assert value("senex", "senex_memory", **host, senex_host_snapshot=gone) == value("senex", "senex_memory", **host)


def test_what_it_says_to_type_exists():
    """A tag and an input of each component that has groups."""
    tags = {tag for play in yaml.safe_load((ROOT / "playbooks/site.yml").read_text()) for tag in play.get("tags", [])}
    for name in [name for name, one in components.registry().items() if one.groups]:
        assert name in tags and f"{name}_state" in yaml.safe_load((ROLES / name / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]


def test_nothing_is_watched_that_is_not_there():
    found = value("watchdog", "__watchdog_configuration", **{**HOST, "groups": NEEDED, "group_names": list(NEEDED)})
    assert found["broker"] is None and found["beat"] == ""
    assert found["user_units"] == ["postgres.service", "web-1.service", "web-2.service"]


def test_a_schedule_in_a_file_is_not_looked_for_in_the_database():
    """Tables of django-celery-beat that nobody uses any more would make Beat look silent for ever."""
    told = {**HOST, "groups": WHOLE, "group_names": list(WHOLE)}
    for scheduler, asked in (({}, "celery-beat.service"), ({"celery_beat_scheduler": "file"}, ""), ({"celery_beat_scheduler": "other"}, "")):
        found = value("watchdog", "__watchdog_configuration", **told, **scheduler)
        assert found["beat"] == asked and "celery-beat.service" in found["user_units"]
