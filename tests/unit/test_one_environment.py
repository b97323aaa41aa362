"""A host has one environment: the run of another one is refused before its first change."""

import json

import pytest
import yaml
from ansible_collections.senex.trader.plugins.filter.environments import other_environment
from controller import ROOT
from rendered import value, variables
from test_host_fact import fact, script  # noqa: F401  (fixtures)
from test_input_checks import message_of

SHOP = {"environment": "shop", "user": "senex", "home": "/opt/senex-trader"}


def written(**inputs):
    """What role common writes down on a host."""
    (file,) = [one for one in value("common", "__common_files_always", **inputs) if one["dest"] == "/etc/senex-trader/environment.json"]
    return file["content"]


def refused(fact, here, **inputs):  # noqa: F811
    """What validate.yml says on a host that has this in its file."""
    (play,) = yaml.safe_load((ROOT / "playbooks/validate.yml").read_text())
    (task,) = [task for task in play["tasks"] if task["name"] == "Check that the vault belongs to this host"]
    facts = {"ansible_local": {"senex": {"environment": fact.parse_environment(here)}}}
    return message_of(task, variables("senex", ansible_facts=facts, senex_host_snapshot={"other_key": False}, **inputs))


@pytest.mark.parametrize(
    "inputs",
    [
        {"senex_environment": "staging"},
        {"senex_environment": "shop", "senex_user": "second"},
        {"senex_environment": "shop", "senex_home": "/srv/second"},
        {"senex_environment": 7, "senex_user": "second", "senex_home": "/srv/second"},
    ],
)
def test_another_environment_names_the_one_that_is_there(fact, inputs):  # noqa: F811
    said = refused(fact, written(senex_environment="shop"), **inputs)
    assert "one has the environment shop (user senex, home /opt/senex-trader)" in said and "Nothing was changed" in said
    assert all(str(given) in said for given in inputs.values()) and "/etc/senex-trader/environment.json" in said


@pytest.mark.parametrize("inputs", [{"senex_environment": "shop"}, {"senex_environment": 7, "senex_user": "second"}])
def test_its_own_environment_is_welcome(fact, inputs):  # noqa: F811
    assert refused(fact, written(**inputs), **inputs) == "" == refused(fact, "", **inputs)


def test_a_file_that_says_nothing_refuses_nobody(fact):  # noqa: F811
    for text in ("", "{", "[]", json.dumps("shop")):
        assert fact.parse_environment(text) == {} and other_environment(fact.parse_environment(text), SHOP, "one") == []
