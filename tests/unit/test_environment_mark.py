"""A run of another environment changes no host: its inventory has an address that is not its own."""

import re

import pytest
import yaml
from ansible_collections.senex.trader.plugins.module_utils.host import environment_mark
from test_lock_of_runs import PLAYBOOKS, ledger, looked  # noqa: F401  (a fixture)

ROOT = PLAYBOOKS.parent


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where the host has its name."""
    found = tmp_path / "environment"
    monkeypatch.setattr(environment_mark, "PLACE", str(found))
    return found


def test_the_environment_of_a_host(place):
    assert environment_mark.refusal("staging") == "", "a new host, or one of an earlier version"
    place.write_text("production\n")
    assert environment_mark.refusal("production") == ""
    assert environment_mark.refusal("") == "", "what asks nothing"
    said = environment_mark.refusal("staging")
    assert said.startswith("this host belongs to the environment production: senex_environment of this run is staging and not production (")
    assert "playbooks/remove.yml with its inventory" in said and "a host of its own" in said and "first line" not in said
    place.write_text("")
    assert environment_mark.refusal("staging") == ""


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ("production\nsenex\n/opt/a", ""),
        ("production\nsecond\n/opt/a", "senex_user of this run is second and not senex."),
        ("production\nsecond\n/opt/b", "senex_user of this run is second and not senex, senex_home of this run is /opt/b and not /opt/a."),
    ],
)
def test_a_second_one_of_the_same_name_is_another(place, run, said):
    place.write_text("production\nsenex\n/opt/a\n")
    told = environment_mark.refusal(run)
    assert said.rstrip(".") in told and bool(told) is bool(said)


def test_a_home_that_is_not_the_hosts_is_put_back(place):
    """It advised to remove the file: the next run began with an empty database beside the one that served."""
    place.write_text("production\nsenex\n/opt/a\n")
    told = environment_mark.refusal("production\nsenex\n/opt/b")
    assert "senex_home of this run is /opt/b and not /opt/a" in told and "Write senex_home: /opt/a into the inventory again" in told
    assert not re.search(r"\bremove|\brm\b", told)
    assert "Write senex_user: senex and senex_home: /opt/a into" in environment_mark.refusal("production\nother\n/opt/b")


def test_one_that_has_another_name_is_named_anew(place):
    place.write_text("production\nsenex\n/opt/a\n")
    assert environment_mark.refusal("live\nsenex\n/opt/a").endswith(f"write that name into the first line of {place}")
    assert "first line" not in environment_mark.refusal("staging\nsenex\n/opt/b")


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_run_of_another_one_ends_before_its_first_change(ledger, monkeypatch, place, check_mode):  # noqa: F811
    place.write_text("production\n")
    found = looked(monkeypatch, ledger, check_mode, environment="staging")
    assert found["failed"] and found["msg"].startswith("one: this host belongs to the environment production") and found["msg"].endswith("Nothing was changed.")
    assert "failed" not in looked(monkeypatch, ledger, check_mode, environment="production")


def test_whoever_changes_hosts_asks_and_role_common_writes_it():
    """Each playbook that changes hosts imports validate.yml (tests/unit/test_collection_mark.py)."""
    (look,) = yaml.safe_load((PLAYBOOKS / "validate.yml").read_text())
    assert [task["senex.trader.facts"]["environment"] for task in look["tasks"] if "senex.trader.facts" in task] == ["{{ __senex_environment_here }}"]
    files = yaml.safe_load((ROOT / "roles/common/vars/main.yml").read_text())["__common_files_always"]
    assert {"content": "{{ __senex_environment_here }}\n", "dest": environment_mark.PLACE} in files
