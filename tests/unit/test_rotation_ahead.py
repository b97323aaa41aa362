"""The vault is written before any host knows: until its servers take a new password, nothing else has the application present it."""

import pytest
import yaml
from ansible_collections.senex.trader.plugins.filter.rotation import SERVERS, rotation_ahead
from ansible_collections.senex.trader.plugins.plugin_utils.components import component_groups
from controller import ROOT

PARTS = list(component_groups())
CATALOGUE = yaml.safe_load((ROOT / "playbooks/vars/rotation.yml").read_text())["rotation_catalogue_of_collection"]
GROUPS = {"postgresql": ["data"], "redis": ["data"], "web": ["one", "two"]}
ALL = ["data", "one", "two"]


def under_way(stage, *names):
    return {name: {"stage": stage, "other": "x"} for name in names}


def asked_by(playbook):
    """The parts that a playbook has looked at, as it says."""
    plays = yaml.safe_load((ROOT / f"playbooks/{playbook}.yml").read_text())
    return next(play["vars"]["validate_components"] for play in plays if play.get("ansible.builtin.import_playbook") == "validate.yml")


@pytest.mark.parametrize("playbook", ["deploy", "rollback", "scale"])
@pytest.mark.parametrize("stage", ["accept", "use"])
def test_what_has_the_application_present_it_waits(playbook, stage):
    assert rotation_ahead(under_way(stage, *SERVERS), asked_by(playbook), GROUPS, ALL) == list(SERVERS)


def test_the_rotation_itself_and_a_whole_run_come_to_the_servers_first():
    for parts in (asked_by("rotate"), PARTS):
        assert rotation_ahead(under_way("accept", *SERVERS), parts, GROUPS, ALL) == []
    assert rotation_ahead(under_way("accept", "redis_password"), PARTS, GROUPS, ["one", "two"]) == ["redis_password"], "--limit leaves out the server"
    assert rotation_ahead(under_way("accept", *SERVERS), ["postgresql", "django"], GROUPS, ALL) == ["redis_password"]


def test_what_no_server_has_to_take_or_takes_already_keeps_nobody():
    """The old SECRET_KEY is accepted for weeks, by variable."""
    alone = under_way("use", *[name for name in CATALOGUE if name not in SERVERS])
    assert rotation_ahead(alone, asked_by("deploy"), GROUPS, ALL) == []
    assert rotation_ahead(under_way("refuse", *SERVERS), asked_by("deploy"), GROUPS, ALL) == []
    assert rotation_ahead(under_way("accept", *SERVERS), ["backup"], GROUPS, ALL) == []
    assert rotation_ahead(under_way("accept", *SERVERS), asked_by("deploy"), {"web": ["one"]}, ALL) == [], "somebody else's servers"
    assert rotation_ahead({}, asked_by("deploy"), GROUPS, ALL) == []


def test_each_secret_whose_server_has_to_take_it_is_known():
    """By the catalogue: whose first stage is that of a server and of the application."""
    found = {
        name for name, one in CATALOGUE.items() if {"django"} < set(one["stages"].get("accept", [])) and set(one["stages"]["accept"]) & set(SERVERS.values())
    }
    assert found == set(SERVERS)


def test_every_playbook_looks():
    look = yaml.safe_load((ROOT / "playbooks/validate.yml").read_text())
    assert "rotation_ahead" in str(look[0]["tasks"])
