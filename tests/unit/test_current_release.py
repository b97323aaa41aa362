"""Which release an environment runs, when its hosts do not say the same."""

import pathlib

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from rendered import ROLES, loaded, trust_as_template, trusted

ROOT = pathlib.Path(__file__).parents[2]
GROUPS = {"postgresql": ["data"], "web": ["one", "two", "new"], "celery": ["one"], "backup": ["store"], "all": ["data", "one", "two", "new", "store"]}


def record(tag, at, inventory_tag="1"):
    return {"id": f"202611{at}-120000-beef", "tag": tag, "reference": f"r/app:{tag}", "inventory_tag": inventory_tag, "digest": ""}


def reference(host, records, tag="1"):
    """The image that a host gets."""
    facts = {name: {"ansible_facts": {"ansible_local": {"senex": {"release": found}}}} for name, found in records.items()}
    facts |= {name: {"ansible_facts": {}} for name in GROUPS["all"] if name not in facts}
    variables = loaded(ROLES / "senex/defaults/main.yml") | {
        "groups": GROUPS, "hostvars": facts, "inventory_hostname": host, "senex_registry": "r", "senex_image": "app", "senex_image_tag": tag, **facts[host],
    }  # fmt: skip
    return Templar(loader=DataLoader(), variables=trusted(variables)).template(trust_as_template("{{ senex_image_reference }}"))


@pytest.mark.parametrize("host", ["one", "two", "new"])
@pytest.mark.parametrize(
    ("records", "tag", "wanted"),
    [
        ({}, "1", "r/app:1"),
        ({"one": record("2", 20), "two": record("2", 20)}, "1", "r/app:2"),  # new has none
        ({"one": record("2", 20), "two": record("3", 21), "new": None}, "1", "r/app:3"),  # one missed a release
        ({"two": record("1", 22), "one": record("2", 21)}, "1", "r/app:1"),  # the last was a way back
        ({"data": record("2", 20)}, "1", "r/app:2"),  # all web hosts are new
        ({"store": record("9", 29)}, "1", "r/app:1"),  # nothing of the application runs there
        ({"one": record("2", 20), "two": record("2", 20)}, "5", "r/app:5"),  # the inventory was changed since
    ],
)
def test_all_hosts_get_the_newest_that_any_knows(host, records, tag, wanted):
    assert reference(host, records, tag) == wanted
