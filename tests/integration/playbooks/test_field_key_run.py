"""A vault that is not the host's is refused by validate.yml. How a key is known: tests/unit/test_field_key.py."""

import json
import re
import sys

import pytest
import yaml
from controller import NO_CLIENTS, ROOT
from controller import run as ansible

# What a run is given, and whether it is refused
CASES = [
    ({"senex_field_encryption_key": "the-old-key"}, False),
    ({"senex_field_encryption_key": "the-new-key"}, True),
    ({"senex_field_encryption_key": "the-new-key", "senex_field_encryption_key_replaced": True}, False),
    ({"senex_field_encryption_key": "the-old-key", "senex_alternate_secrets": {"field_encryption_key": "the-new-key"}}, False),
    ({"senex_field_encryption_key": "the-new-key", "senex_alternate_secrets": {"field_encryption_key": "the-old-key"}}, True),
    ({}, True),
]


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What validate.yml says up to its last look at the vault, each case on a host of its own whose application has the key `old`."""
    place = tmp_path_factory.mktemp("hosts")
    (play,) = yaml.safe_load((ROOT / "playbooks/validate.yml").read_text())
    names = [task["name"] for task in play["tasks"]]
    first, last = names.index("Read the facts of the host, and which components are unchanged"), names.index("Check that the vault belongs to this host")
    assert last < names.index("Check the inputs of each component"), "what a part has to say comes later, and what it changes much later"
    hosts = {}
    for number, (given, _) in enumerate(CASES):
        home = place / f"home-{number}"
        environment = home / ".config/containers/systemd/.env"
        environment.parent.mkdir(parents=True)
        environment.write_text("A=1\nFIELD_ENCRYPTION_KEY=the-old-key\n")
        hosts[f"case-{number}"] = {
            "ansible_connection": "local", "ansible_python_interpreter": sys.executable, "senex_home": str(home), "validate_exclusive": False,
            "validate_snapshot": False, **given,
        }  # fmt: skip
    (place / "hosts.json").write_text(json.dumps({"redis": {"hosts": hosts}}))
    shown = {"hosts": "redis", "gather_facts": False, "roles": play["roles"], "tasks": play["tasks"][first : last + 1]}
    (place / "play.yml").write_text(json.dumps([shown]))
    command = ["ansible-playbook", "-vvv", "-i", place / "hosts.json", place / "play.yml", "--forks", "4"]
    done = ansible(*command, ANSIBLE_LOCALHOST_WARNING="false", **NO_CLIENTS)
    return done.stdout + done.stderr


@pytest.mark.parametrize(("number", "refused"), [(number, refused) for number, (_, refused) in enumerate(CASES)])
def test_another_vault_ends_the_run_before_its_first_change(said, number, refused):
    found = "".join(part for part in said.split("fatal: [") if part.startswith(f"case-{number}]"))
    assert bool(found) is refused and ("senex_field_encryption_key: is none or another key" in found) is refused, said
    assert re.search(rf"case-{number} +: ok=.* failed={int(refused)} ", said), said


def test_keys_are_told_to_nobody(said):
    assert "the-old-key" not in said and "the-new-key" not in said
