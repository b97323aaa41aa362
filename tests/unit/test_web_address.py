"""Whoever asks a web instance on its host asks at the address that it is published at, which is loopback only where nginx is on the same host."""

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from controller import ROOT

try:
    from ansible.template import trust_as_template
except ImportError:  # before ansible-core 2.19 every text was a template

    def trust_as_template(text):
        return text


PRIVATE = "10.0.0.7"
APART = {"web": ["a", "b"], "nginx": ["a"]}


def told(groups, host, expression, **given):
    """A template of a role, with the defaults of the shared variables."""
    names = {"senex_web_address", "senex_web_base_port", "senex_private_address"}
    defaults = yaml.safe_load((ROOT / "roles/senex/defaults/main.yml").read_text())
    known = {name: trust_as_template(value) if isinstance(value, str) else value for name, value in defaults.items() if name in names}
    templar = Templar(loader=DataLoader(), variables={**known, "groups": groups, "inventory_hostname": host, "senex_private_address": PRIVATE, **given})
    return templar.template(trust_as_template(expression))


def asked_after_a_restore():
    tasks = yaml.safe_load((ROOT / "roles/backup/tasks/application_start.yml").read_text())
    return tasks[0]["senex.trader.application"]["target"]


def default(role, name):
    return yaml.safe_load((ROOT / f"roles/{role}/defaults/main.yml").read_text())[name]


PLACES = {
    "published at": lambda: default("django", "django_bind_address"),
    "watched at": lambda: default("watchdog", "watchdog_web_address"),
    "asked at after a restore or an upgrade": lambda: asked_after_a_restore()["address"],
}


@pytest.mark.parametrize("place", PLACES)
def test_the_address_of_web_instances(place):
    expression = PLACES[place]()
    assert told({"web": ["a"], "nginx": ["a"]}, "a", expression) == "127.0.0.1"
    assert told(APART, "b", expression) == PRIVATE
    assert told({"web": ["a", "b"], "nginx": ["a", "b"]}, "a", expression) == PRIVATE, "each nginx sends to both"
    assert told(APART, "b", expression, senex_web_address="10.0.0.9") == "10.0.0.9"


def test_an_address_or_a_port_that_the_inventory_gives_counts():
    target = asked_after_a_restore()
    assert told(APART, "b", target["address"], django_bind_address="10.0.0.8") == "10.0.0.8"
    assert int(told(APART, "b", target["port"])) == 8001 and int(told(APART, "b", target["port"], django_base_port=9001)) == 9001
