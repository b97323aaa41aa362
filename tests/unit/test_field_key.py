"""A vault that is not the host's is refused before any part has one of its passwords, whichever part the run is for."""

import json
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.senex.trader.plugins.module_utils.host import field_key
from controller import run as ansible
from test_misspelt import NO_CLIENTS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("here", "coming", "another"),
    [
        (b"A=1\nK=old\n", ["old"], False),
        (b"K=old,new\n", ["new", "old"], False),
        (b"A=1\nK=old\n", ["new"], True),
        (b"A=1\nK=old\n", ["new", "old"], True),
        # A vault from before a rotation: what was written since is readable with the new one alone
        (b"K=new,old\n", ["old"], True),
        (b"K=new,old\n", ["old", "new"], False),
        (b"K=new,old\n", ["new"], False),
        (b"K=old,new\n", ["old"], False),
        (b"A=1\n", ["new"], False),
        (b"K=\n", ["new"], False),
        (b"K=old\n", [], True),
        (b"A=1\n", [], False),
        (None, ["new"], False),
    ],
)
def test_another_key_is_one_that_the_host_does_not_know(tmp_path, here, coming, another):
    path = tmp_path / "env"
    if here is not None:
        path.write_bytes(here)
    assert field_key.is_another(str(path), "K", coming) is another


def test_who_cannot_read_the_file_says_so(tmp_path):
    (tmp_path / "env").mkdir()
    with pytest.raises(OSError, match="env"):
        field_key.is_another(str(tmp_path / "env"), "K", ["new"])


@pytest.fixture
def look(tmp_path):
    """Runs validate.yml up to its last look at the vault, on a host whose application has the key `old`."""
    (play,) = yaml.safe_load((ROOT / "playbooks/validate.yml").read_text())
    names = [task["name"] for task in play["tasks"]]
    first, last = names.index("Read the facts of the host, and which components are unchanged"), names.index("Check that the vault belongs to this host")
    assert last < names.index("Check the inputs of each component"), "what a part has to say comes later, and what it changes much later"
    variables = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "senex_home": str(tmp_path), "validate_exclusive": False}
    (tmp_path / "hosts.json").write_text(json.dumps({"redis": {"hosts": {"one": variables | {"validate_snapshot": False}}}}))
    shown = {"hosts": "redis", "gather_facts": False, "roles": play["roles"], "tasks": play["tasks"][first : last + 1]}
    (tmp_path / "play.yml").write_text(json.dumps([shown]))
    environment = tmp_path / ".config/containers/systemd/.env"
    environment.parent.mkdir(parents=True)
    environment.write_text("A=1\nFIELD_ENCRYPTION_KEY=the-old-key\n")

    def run(**given):
        command = ["ansible-playbook", "-vvv", "-i", tmp_path / "hosts.json", tmp_path / "play.yml", "-e", json.dumps(given)]
        return ansible(*command, ANSIBLE_LOCALHOST_WARNING="false", **NO_CLIENTS)

    return run


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ({"senex_field_encryption_key": "the-old-key"}, False),
        ({"senex_field_encryption_key": "the-new-key"}, True),
        ({"senex_field_encryption_key": "the-new-key", "senex_field_encryption_key_replaced": True}, False),
        ({"senex_field_encryption_key": "the-old-key", "senex_alternate_secrets": {"field_encryption_key": "the-new-key"}}, False),
        ({"senex_field_encryption_key": "the-new-key", "senex_alternate_secrets": {"field_encryption_key": "the-old-key"}}, True),
        ({}, True),
    ],
)
def test_another_vault_ends_the_run_before_its_first_change(look, given, refused):
    done = look(**given)
    said = done.stdout + done.stderr
    assert (done.returncode != 0) is refused, said
    assert ("senex_field_encryption_key: is none or another key" in said) is refused
    assert "the-old-key" not in said.replace(json.dumps(given), "") and said.count("the-new-key") == 0, "keys are told to nobody"
