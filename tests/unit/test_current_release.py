"""Which release an environment runs, when its hosts do not say the same."""

import json
import pathlib
import sys

import forked
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


@pytest.fixture
def limited(tmp_path):
    """Runs what validate.yml asks on one web host of two, of which the other does not answer."""
    tasks = (ROOT / "playbooks/tasks/current_release.yml").read_text()
    assert "timeout: 10" in tasks
    (tmp_path / "tasks.yml").write_text(tasks.replace("timeout: 10", "timeout: 1"))
    hosts = {"one": {"ansible_connection": "local"}, "two": {"ansible_host": "127.0.0.1", "ansible_port": 1}}
    variables = {"ansible_python_interpreter": sys.executable, "senex_image_tag": "1", "senex_registry": "r", "senex_image": "app"}
    (tmp_path / "hosts.json").write_text(json.dumps({"web": {"hosts": hosts, "vars": variables}}))
    play = {"hosts": "web", "gather_facts": False, "any_errors_fatal": True, "roles": ["senex.trader.senex"]}
    tasks = [{"include_tasks": str(tmp_path / "tasks.yml")}, {"debug": {"msg": "it runs {{ senex_image_reference }}"}}]
    (tmp_path / "play.yml").write_text(json.dumps([{**play, "tasks": tasks}]))

    def run(*words, **known):
        command = ["ansible-playbook", "-i", str(tmp_path / "hosts.json"), *words, "-e", json.dumps(known), str(tmp_path / "play.yml")]
        environment = {"PATH": f"{pathlib.Path(sys.executable).parent}:/usr/bin:/bin", "ANSIBLE_COLLECTIONS_PATH": str(ROOT), "HOME": str(tmp_path),
                       "LC_ALL": "C.UTF-8", "ANSIBLE_CONFIG": str(tmp_path / "none"), "COLUMNS": "400"}  # fmt: skip
        return forked.run(command, tmp_path, environment)

    return run


def test_a_host_that_is_left_out_and_does_not_answer_may_be_the_only_one_that_knows(limited):
    refused = limited("--limit", "one")
    assert refused.returncode and "two cannot be asked, so nobody knows whether 1 is what runs" in refused.stdout, refused.stdout + refused.stderr
    known = limited("--limit", "one", senex_release=record("2", 20))
    assert "two did not answer: where a later release than 2 (20261120-120000-beef)" in " ".join(known.stdout.split()), known.stdout
    assert known.returncode == 0 and "it runs r/app:2" in known.stdout, known.stdout + known.stderr
