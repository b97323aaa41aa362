"""An older version of the collection does not change a host that a newer one has changed, unless it is told to."""

import json
import os
from pathlib import Path

import pytest
import yaml
from ansible_collections.senex.trader.plugins.action import release as release_action
from ansible_collections.senex.trader.plugins.module_utils.host.collection_mark import NAME, Older, order
from ansible_collections.senex.trader.plugins.plugin_utils import controller
from rendered import action, trusted
from test_lock_of_runs import PLAYBOOKS, SITE, Rendering, change, ledger, looked, operation  # noqa: F401  (a fixture)

ROOT = PLAYBOOKS.parent


def of(version, downgrade=False):
    return {**SITE, "collection": {"version": version, "downgrade": downgrade}}


def test_versions_are_in_the_order_of_semver():
    listed = ["0.1.0", "0.9.0", "0.10.0", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1"]
    assert sorted(reversed(listed), key=order) == listed
    assert order("1.2.3+build") == order("1.2.3")
    for word in ("", "1.2", "v1.2.3", "1.2.3\n1.2.4"):
        with pytest.raises(ValueError, match="is no version"):
            order(word)


def test_a_change_leaves_its_version_behind(ledger):  # noqa: F811
    mark = Path(ledger.directory, NAME)
    change(ledger, of("0.2.0"), changed=False)
    assert not mark.exists(), "nothing was changed"
    change(ledger, of("0.2.0"))
    assert mark.read_text() == "0.2.0\n" and mark.stat().st_mode & 0o777 == 0o644
    change(ledger, of("0.10.0"), changed=False)
    assert ledger.mark.read() == "0.2.0"
    with pytest.raises(OSError, match="no room"), ledger.working(of("0.10.0")):
        raise OSError("no room")
    assert ledger.mark.read() == "0.10.0", "what failed may have left something behind"
    change(ledger, {**of("0.11.0"), "takes": False})
    assert ledger.mark.read() == "0.11.0", "a role in another playbook"


@pytest.mark.parametrize("takes", [True, False], ids=["site.yml", "a role in another playbook"])
def test_an_older_version_changes_nothing(ledger, takes):  # noqa: F811
    ledger.finish(change(ledger, of("0.10.0")), None)
    began = []
    says = "version 0.10.0 of the collection senex.trader changed this host, and this run is of 0.9.1"
    with pytest.raises(Older, match=says) as error, ledger.working({**of("0.9.1"), "takes": takes}):
        began.append(1)
    assert not began and ledger.holder() is None and "-e senex_allow_downgrade=true" in str(error.value)
    for version in ("0.10.0", "0.10.1", "1.0.0"):
        change(ledger, of(version), changed=False)


def test_what_was_told_to_goes_back(ledger):  # noqa: F811
    change(ledger, of("0.10.0"))
    change(ledger, of("0.9.0", downgrade=True))
    assert ledger.mark.read() == "0.9.0", "the host is the older one's from here on"
    change(ledger, of("0.9.0"))


def test_an_operation_asks_before_it_takes_the_lock(ledger):  # noqa: F811
    ledger.begin(operation(), collection={"version": "0.10.0"})
    assert ledger.mark.read() == "0.10.0" and "collection" not in ledger.holder()
    ledger.finish("restore-1", None)
    with pytest.raises(Older, match="this run is of 0.9.0"):
        ledger.begin(operation(), collection={"version": "0.9.0"})
    assert ledger.holder() is None
    ledger.begin(operation(), collection={"version": "0.9.0", "downgrade": True})
    assert ledger.mark.read() == "0.10.0", "a release does not make all of the host an older one's"


def test_a_damaged_mark_is_not_passed_by(ledger):  # noqa: F811
    os.makedirs(ledger.directory)
    Path(ledger.mark.path).write_bytes(b"\xff\x00")
    with pytest.raises(Older, match=f"{ledger.mark.path} does not name the version"):
        change(ledger, of("0.1.0"))
    change(ledger, of("0.1.0", downgrade=True))
    assert ledger.mark.read() == "0.1.0"


def test_a_full_disk_hides_no_error(ledger, monkeypatch):  # noqa: F811
    def full(*_given, **_named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ledger.mark, "note", full)
    for run in (of("0.2.0"), {**of("0.2.0"), "takes": False}):
        with pytest.raises(ValueError, match="mine"), ledger.working(run):
            raise ValueError("mine")
        with pytest.raises(OSError, match="No space left"), ledger.working(run) as done:
            done["changed"] = True
        assert ledger.holder() is None


@pytest.mark.parametrize("check_mode", [False, True])
def test_the_look_before_the_first_change_asks_for_it(monkeypatch, ledger, check_mode):  # noqa: F811
    assert "failed" not in looked(monkeypatch, ledger, check_mode, downgrade=False), "a host without the mark is an older one's"
    ledger.mark.note({"version": "99.0.0"}, lower=False)
    found = looked(monkeypatch, ledger, check_mode, downgrade=False)
    assert found["failed"] and found["msg"].startswith("one: version 99.0.0 of the collection") and found["msg"].endswith("Nothing was changed.")
    assert "failed" not in looked(monkeypatch, ledger, check_mode, downgrade=True)
    assert "failed" not in looked(monkeypatch, ledger, check_mode), "a host that is only asked"


def test_every_look_of_a_playbook_asks_for_it():
    """Each playbook that changes hosts imports validate.yml (tests/unit/test_lock_of_runs.py)."""
    (look,) = yaml.safe_load((PLAYBOOKS / "validate.yml").read_text())
    tasks = [task["senex.trader.facts"] for task in look["tasks"] if "senex.trader.facts" in task]
    assert [task["downgrade"] for task in tasks] == ["{{ senex_allow_downgrade | bool }}"] and look["any_errors_fatal"] is True
    names = [task["name"] for task in look["tasks"]]
    first = ["Check the inventory and its secrets", "Make the host with the primary of PostgreSQL a group of its own"]
    assert names[:3] == [*first, "Read the facts of the host, and which components are unchanged"], "the inventory alone is checked before"


# They ask hosts, or write on the controller alone; the rest are parts of others
ASKING = {
    "check_image.yml",
    "golive.yml",
    "new_environment.yml",
    "validate.yml",
    "preflight.yml",
    "release.yml",
    "releases.yml",
    "rotate_stage.yml",
    "secrets.yml",
    "status.yml",
    "require_hosts.yml",
}


@pytest.mark.parametrize("name", sorted({path.name for path in PLAYBOOKS.glob("*.yml")} - ASKING))
def test_every_playbook_that_changes_hosts_looks_first(name):
    plays = yaml.safe_load((PLAYBOOKS / name).read_text())
    imported = [play.get("ansible.builtin.import_playbook") for play in plays]
    before = plays[: imported.index("validate.yml")]
    assert [play["name"] for play in before if play.get("roles") or "include_role" in str(play) or "import_role" in str(play)] == []
    assert all(set(play.get("vars", {})) & {"validate_downgrade", "senex_allow_downgrade"} == set() for play in plays)


@pytest.mark.parametrize("given", [False, "true", "{{ 1 == 1 }}"])
def test_the_controller_says_its_version_with_each_change(given):
    wanted = {"version": controller.version(), "downgrade": given is not False}
    values = trusted({"inventory_hostname": "one", "senex_allow_downgrade": given})
    plugin, asked = action(Rendering, {}, values, Path()), []
    plugin._execute_module = lambda module_name, module_args, task_vars: asked.append(module_args["run"]) or {"changed": False}
    plugin.call("apply_quadlet", {"component": "web", "state": "present", "deploy_lock": {}}, values)
    assert asked[0]["collection"] == wanted
    plugin = action(release_action.ActionModule, {"step": "begin", "id": "x", "what": "y"}, values, Path())
    plugin.task_vars = values
    plugin._execute_module = lambda module_name, module_args, task_vars: asked.append(module_args) or {"changed": False}
    plugin._begin(dict(plugin._task.args), 0)
    assert asked[1]["collection"] == wanted


def test_the_version_is_that_of_galaxy_yml_or_of_the_archive(tmp_path, monkeypatch):
    assert controller.version() == yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]
    monkeypatch.setattr(controller, "COLLECTION", tmp_path)
    (tmp_path / "MANIFEST.json").write_text(json.dumps({"collection_info": {"version": "3.2.1"}}))
    assert controller.version.__wrapped__() == "3.2.1"
    assert [path for path in ROOT.glob("p*/**/*.py") if f'"{controller.version()}"' in path.read_text()] == [], "it has one owner"
