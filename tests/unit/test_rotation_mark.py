"""A vault from before a rotation is refused before its first change, whichever secret was rotated: its values would be in force again."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from ansible_collections.senex.trader.plugins.filter.rotation import rotation_step
from ansible_collections.senex.trader.plugins.module_utils.engine import everything
from ansible_collections.senex.trader.plugins.module_utils.host.rotation_mark import OlderVault
from ansible_collections.senex.trader.plugins.modules import release
from ansible_collections.senex.trader.plugins.plugin_utils import controller
from ansible_collections.senex.trader.plugins.plugin_utils.rotations import states
from rendered import action, trusted, value
from test_lock_of_runs import MINE, PLAYBOOKS, SITE, Rendering, change, ledger, looked, operation  # noqa: F401  (a fixture)
from test_rotation import CATALOGUE

STAGES = ("accept", "use", "refuse", "done")


def told(vault, older=False):
    return {"rotations": states(vault.get("vault_rotation"), vault.get("vault_rotated")), "older": older}


def of(vault, **more):
    return {**SITE, "collection": {"version": "1.0.0", "vault": told(vault, **more)}}


def vaults(name, vault=None, day=1):
    """The vault before a rotation of a secret, and after each of its stages."""
    found = [vault or {one["vault"]: "a-former-value" for one in CATALOGUE.values()}]
    for number, stage in enumerate(STAGES):
        edits = rotation_step(found[-1], CATALOGUE, [name], stage, f"2026-03-{day:02}T10:0{number}:00Z", {name: f"new-{day}"})
        if edits:
            found.append({key: one for key, one in {**found[-1], **edits}.items() if one is not None})
    return found


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_no_older_vault_of_any_secret_comes_after_a_newer_one(ledger, name):  # noqa: F811
    every = vaults(name)
    every += vaults(name, every[-1], 2)[1:]
    assert len(every) == 1 + 2 * (len(CATALOGUE[name]["stages"]) + 1)
    for number, vault in enumerate(every):
        change(ledger, of(vault))
        change(ledger, of(vault), changed=False)
        for older in every[:number]:
            with pytest.raises(
                OlderVault, match=rf"older than the one that changed this host last, in {name} \(here of 2026-03-0.*\)\. Bring the newest vault"
            ):
                change(ledger, of(older))
    text = Path(ledger.rotations.path).read_text()
    assert "a-former-value" not in text and "new-" not in text and Path(ledger.rotations.path).stat().st_mode & 0o777 == 0o600


def test_a_host_of_an_earlier_version_refuses_nothing(ledger):  # noqa: F811
    before, *_, after = vaults("redis_password")
    assert change(ledger, of(before)) and not Path(ledger.rotations.path).exists(), "nothing was rotated"
    change(ledger, of(after), changed=False)
    assert not Path(ledger.rotations.path).exists(), "a run that changes nothing writes nothing"
    change(ledger, {**SITE, "collection": {"version": "1.0.0"}})
    change(ledger, of(after))
    change(ledger, {**SITE, "collection": {"version": "1.0.0"}})
    assert list(ledger.rotations.read()) == ["redis_password"], "who does not say how old the vault is"


def test_a_vault_that_is_rolled_back_on_purpose_is_the_newest_from_then_on(ledger):  # noqa: F811
    before, *_, after = vaults("database_password")
    change(ledger, of(after))
    ledger.finish(SITE["id"], None)
    ledger.begin(operation(MINE, "deploy-1", "deploy"), collection=of(before, older=True)["collection"])
    ledger.finish("deploy-1", None)
    with pytest.raises(OlderVault, match="-e senex_allow_older_vault=true"):
        change(ledger, of(before))
    change(ledger, of(before, older=True))
    change(ledger, of(before))


def test_what_is_read_again_is_the_same_vault_and_a_step_back_a_newer_one(ledger):  # noqa: F811
    def step(vault, stage, now, **more):
        edits = rotation_step(vault, CATALOGUE, ["field_encryption_key"], stage, now, {}, **more)
        return {key: one for key, one in {**vault, **edits}.items() if one is not None}

    *_, refuse, done = vaults("field_encryption_key")
    again = step(done, "accept", "2026-03-05T10:00:00Z", retired=True)
    assert told(again) == told(done)
    change(ledger, of(again))
    change(ledger, of(step(step(again, "refuse", "2026-03-05T11:00:00Z"), "done", "2026-03-05T12:00:00Z")))
    Path(ledger.rotations.path).unlink()
    change(ledger, of(refuse))
    back = step(refuse, "accept", "2026-03-01T11:00:00Z", retired=True)
    change(ledger, of(back))
    with pytest.raises(OlderVault):
        change(ledger, of(refuse))
    change(ledger, of(step(step(back, "refuse", "2026-03-01T12:00:00Z"), "done", "2026-03-01T09:00:00Z")))


def test_a_controller_whose_clock_is_behind_makes_no_older_vault(ledger):  # noqa: F811
    *_, first = vaults("redis_password", day=20)
    change(ledger, of(first))
    for vault in vaults("redis_password", first, day=19):
        change(ledger, of(vault))


@pytest.mark.parametrize("text", ["", "[]", '{"redis_password": 1}', '{"redis_password": ["2026", "2"]}', "\xff", "[" * 100000])
def test_a_damaged_mark_is_not_passed_by(ledger, text):  # noqa: F811
    before, *_, after = vaults("redis_password")
    change(ledger, of(after))
    Path(ledger.rotations.path).write_text(text, encoding="latin-1")
    with pytest.raises(OlderVault, match=f"{ledger.rotations.path} does not say which rotations"):
        change(ledger, of(after))
    change(ledger, of(before, older=True))
    assert ledger.rotations.read() == {}


@pytest.mark.parametrize("check_mode", [False, True])
def test_the_look_before_the_first_change_asks_for_it(monkeypatch, ledger, check_mode):  # noqa: F811
    before, *_, after = vaults("backup_passphrase")
    assert "failed" not in looked(monkeypatch, ledger, check_mode, downgrade=False, vault=told(before))
    ledger.rotations.note(told(after), lower=False)
    found = looked(monkeypatch, ledger, check_mode, downgrade=False, vault=told(before))
    assert found["failed"] and found["msg"].startswith("one: the vault of this run is older") and found["msg"].endswith("Nothing was changed.")
    assert "failed" not in looked(monkeypatch, ledger, check_mode, downgrade=False, vault=told(before, older=True))
    assert "failed" not in looked(monkeypatch, ledger, check_mode, downgrade=False, vault=told(after))


def test_a_removal_takes_it_along(ledger, monkeypatch):  # noqa: F811
    """What comes next may be a new environment, whose secrets were never rotated."""
    monkeypatch.setattr(everything, "command", lambda *_: subprocess.CompletedProcess([], 0, "", ""))
    for name in ("restore_originals", "remove_made"):
        monkeypatch.setattr(everything, name, list)
    before, *_, after = vaults("redis_password")
    host = everything.Host("nobody-of-this-name", "/nowhere", ledger.directory)
    ledger.rotations.note(told(after), lower=False)
    for _twice in (1, 2):
        host.remove_system()
    change(ledger, of(before))


def test_every_look_of_a_playbook_and_each_change_say_it():
    """Each playbook that changes hosts imports validate.yml (tests/unit/test_collection_mark.py)."""
    (play,) = yaml.safe_load((PLAYBOOKS / "validate.yml").read_text())
    assert [task["senex.trader.facts"]["vault"] for task in play["tasks"] if "senex.trader.facts" in task] == ["{{ __senex_vault_here }}"]
    *_, vault = vaults("redis_password")
    here = value("redis", "__senex_vault_here", **vault)
    assert here == told(vault) and value("redis", "__senex_vault_here") == {"rotations": {}, "older": False}
    values = trusted({"inventory_hostname": "one", "__senex_vault_here": here})
    plugin, asked = action(Rendering, {}, values, Path()), []
    plugin._execute_module = lambda module_name, module_args, task_vars: asked.append(module_args["run"]) or {"changed": False}
    plugin.call("apply_quadlet", {"component": "web", "state": "present", "deploy_lock": {}}, values)
    assert asked[0]["collection"] == controller.collection(False, told(vault))


def test_a_rotation_says_it_to_each_host_before_the_values_are_there(ledger, monkeypatch):  # noqa: F811
    (block,) = yaml.safe_load((PLAYBOOKS / "tasks/rotate_components.yml").read_text())
    names = [next(iter(set(task) & {"senex.trader.release", "ansible.builtin.include_vars", "ansible.builtin.include_role"}), "") for task in block["block"]]
    assert names[:3] == ["ansible.builtin.include_vars", "senex.trader.release", "ansible.builtin.include_role"]
    monkeypatch.setattr(release, "Ledger", lambda: ledger)
    ledger.begin(operation(MINE, "rotation-1", "rotation"))
    _before, accept, *_ = vaults("redis_password")
    given = {"step": "vault", "id": "rotation-1", "what": "accept", "rotations": told(accept)["rotations"]}
    assert release.ledger_step(given) == {"changed": False} and ledger.rotations.read() == json.loads(json.dumps(given["rotations"]))
