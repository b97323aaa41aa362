"""site.yml and its like beside releases, restores, upgrades and rotations: whoever comes second is told before anything is changed."""

import base64
import contextlib
import json
import os
import time
from pathlib import Path

import patterns
import pytest
import yaml
from ansible_collections.senex.trader.plugins.action import facts as facts_action
from ansible_collections.senex.trader.plugins.module_utils.engine import payload, system_transaction, unchanged
from ansible_collections.senex.trader.plugins.module_utils.host import fileset, release_record
from ansible_collections.senex.trader.plugins.module_utils.host.release_record import Ledger, LockHeld
from ansible_collections.senex.trader.plugins.modules import apply_quadlet, apply_system_files, facts
from ansible_collections.senex.trader.plugins.plugin_utils import controller
from ansible_collections.senex.trader.plugins.plugin_utils.components import hosts_pattern
from ansible_collections.senex.trader.plugins.plugin_utils.rendering import RenderingAction
from rendered import ROLES, action, loaded, value

PLAYBOOKS = Path(__file__).parents[2] / "playbooks"
EVERYBODY = hosts_pattern()
THEIRS = {"who": "anna@desk", "machine": "another", "pid": 7, "started": "1"}
MINE = {"who": "me@here", "machine": "this", "pid": 8, "started": "2"}
SITE = {**MINE, "id": "run-8-2", "what": "site.yml", "takes": True}


def operation(identity=THEIRS, name="restore-1", what="restore"):
    return {**identity, "id": name, "what": what}


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    monkeypatch.setattr(release_record, "BOOT", str(tmp_path / "run/boot"))
    (tmp_path / "run").mkdir()
    return Ledger(str(tmp_path / "state"))


def after(monkeypatch, seconds):
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    monkeypatch.setattr(release_record.time, "clock_gettime", lambda _clock: now + seconds)


def change(ledger, run=SITE, changed=True):
    with ledger.working(run) as done:
        done["changed"] = changed
    return done.get("run_lock")


@pytest.mark.parametrize("what", ["restore", "deploy of 2", "rotation of secret_key", "upgrade of PostgreSQL 15 to 18"])
@pytest.mark.parametrize("takes", [True, False], ids=["site.yml", "a role in another playbook"])
def test_nothing_is_changed_while_an_operation_holds_the_lock(ledger, what, takes):
    ledger.begin(operation(what=what))
    before = ledger.holder()
    began = []
    with pytest.raises(LockHeld, match=rf"{what} by anna@desk since .* UTC .* ago.*Wait for its end"), ledger.working({**SITE, "takes": takes}):
        began.append(1)
    assert not began and ledger.holder() == before


def test_an_operation_does_not_begin_while_site_changes_the_host(ledger):
    assert change(ledger) == SITE["id"]
    with pytest.raises(LockHeld, match="site.yml by me@here since"):
        ledger.begin(operation())
    with pytest.raises(LockHeld, match="site.yml by me@here"), ledger.working({**SITE, **THEIRS, "id": "run-7-1"}):
        pass
    assert change(ledger, changed=False) == SITE["id"], "what a later part does not change does not end it"
    ledger.finish(SITE["id"], None)
    ledger.begin(operation())
    assert ledger.records() == [], "a run is no release"


def test_a_run_that_changes_nothing_holds_nothing(ledger):
    assert change(ledger, changed=False) is None and ledger.holder() is None
    assert change(ledger, {**SITE, "takes": False}) is None and os.listdir(ledger.directory) in ([], ["release.flock"])


def test_a_run_that_fails_gives_the_lock_up(ledger):
    change(ledger)
    with pytest.raises(OSError, match="no room"), ledger.working(SITE):
        raise OSError("no room")
    assert ledger.holder() is None
    with ledger.working(SITE) as done:
        done["failed"] = True
    assert ledger.holder() is None


def test_what_an_operation_includes_works_under_its_lock(ledger, monkeypatch):
    """By the same ansible-playbook, whatever the lock is called; and keeps it alive on hosts where no step of its own does."""
    ledger.begin({**operation(MINE), "lease": 21600})
    now = time.time()
    monkeypatch.setattr(release_record.time, "time", lambda: now + 3600)
    for takes in (True, False):
        assert change(ledger, {**SITE, "takes": takes}) is None
    assert ledger.holder()["id"] == "restore-1" and ledger.holder()["renewed"] == now + 3600 and ledger.holder()["step"] == "begin"
    ledger.finish("restore-1", None)
    change(ledger)
    ledger.begin(operation(MINE, "deploy-1", "deploy of 2"))
    assert ledger.holder()["id"] == "deploy-1", "a release in the same run as site.yml, whose lock was not given up"


def test_a_dead_holder_is_no_obstacle(ledger, monkeypatch):
    ledger.begin(operation())
    with pytest.raises(LockHeld):
        change(ledger, {**SITE, "take_over": "another"})
    change(ledger, {**SITE, "take_over": "restore-1"})
    assert ledger.holder()["id"] == SITE["id"] and [one["result"] for one in ledger.records()] == ["interrupted"]
    after(monkeypatch, release_record.PASSING_LEASE + 1)
    ledger.begin(operation())
    assert len(ledger.records()) == 1, "of a run that was killed there is no record"


def test_an_operation_between_the_look_and_the_first_change_is_not_undone(ledger):
    """The vault was read before a rotation, say, which has come to its end since: the old key would be put back."""
    after = ledger.last().get("id", "")
    ledger.begin(operation(what="rotation of field_encryption_key"))
    ledger.finish("restore-1", None)
    with pytest.raises(LockHeld, match="rotation of field_encryption_key by anna@desk came between .* Run it again"):
        change(ledger, {**SITE, "after": after})
    assert ledger.holder() is None
    run = {**SITE, "after": ledger.last()["id"]}
    assert change(ledger, run) and change(ledger, run), "its own first change is none"
    ledger.begin(operation(MINE, "deploy-1", "deploy of 2"))
    ledger.finish("deploy-1", None)
    assert change(ledger, run), "nor is what the very run has done"


def test_a_lease_of_hours_holds_where_no_step_renews_it(ledger, monkeypatch):
    ledger.begin({**operation(), "lease": 21600})
    with monkeypatch.context() as patch, pytest.raises(LockHeld):
        after(patch, 21000)
        change(ledger)
    after(monkeypatch, 21700)
    change(ledger)


class Ended(Exception):
    """What a module answered."""


class Module:
    """In the place of AnsibleModule."""

    check_mode, _diff = False, False

    def __init__(self, params, check_mode=False):
        self.params, self.check_mode = params, check_mode

    def __call__(self, arguments, **_options):
        self.params = {name: self.params.get(name, spec.get("default")) for name, spec in arguments.items()}
        return self

    def exit_json(self, **result):
        raise Ended(result)

    fail_json = exit_json


def answer(module, monkeypatch, ledger, check_mode=False, **params):
    monkeypatch.setattr(module, "AnsibleModule", Module(params, check_mode))
    monkeypatch.setattr(module, "Ledger", lambda: ledger)
    with pytest.raises(Ended) as ended:
        module.main()
    return ended.value.args[0]


def handed(path):
    content = base64.b64encode(b"new").decode()
    item = {"path": str(path), "content": content, "mode": "0644", "secret": False, "notify": [], "owner": str(os.geteuid()), "group": str(os.getegid())}
    data = {
        "component": "p",
        "state": "present",
        "files": [item],
        "directories": [],
        "absent": [],
        "checks": [],
        "handlers": {},
        "units": [],
        "deploy_lock": {},
    }
    return base64.b64encode(json.dumps(data).encode()).decode()


def test_system_files_are_as_they_were_while_a_restore_is_at_work(ledger, monkeypatch, tmp_path):
    ledger.begin(operation())
    found = answer(apply_system_files, monkeypatch, ledger, payload=handed(tmp_path / "x"), run=SITE)
    assert found["busy"]["what"] == "restore" and found["changed"] is False and not (tmp_path / "x").exists()


def test_a_part_is_as_it_was_while_a_restore_is_at_work(ledger, monkeypatch):
    monkeypatch.setattr(apply_quadlet, "apply_concurrently", lambda *_: pytest.fail("it was applied"))
    ledger.begin(operation())
    found = answer(apply_quadlet, monkeypatch, ledger, payload=handed("/x"), run=SITE)
    assert found["busy"]["what"] == "restore" and found["changed"] is False


def test_a_part_that_changes_holds_the_lock_until_the_end_of_the_run(ledger, monkeypatch):
    for result, holds in (({"changed": True}, SITE["id"]), ({"changed": False, "msg": "no"}, None)):
        monkeypatch.setattr(apply_quadlet, "apply_concurrently", lambda *_, result=result: {"plan": [], **result})
        found = answer(apply_quadlet, monkeypatch, ledger, payload=handed("/x"), run=SITE)
        assert (ledger.holder() or {}).get("id") == holds and (found.get("run_lock") or None) == holds


def looked(monkeypatch, ledger, check_mode=False, **arguments):
    """senex.trader.facts on one host: the action plugin and the module."""
    monkeypatch.setattr(facts, "script", lambda: None)
    monkeypatch.setattr(facts, "unchanged_components", dict)
    monkeypatch.setattr(facts.in_force, "read", lambda: "")
    monkeypatch.setattr(facts.in_force, "look", lambda *_args, **_kinds: [])
    monkeypatch.setattr(facts_action.ActionBase, "run", lambda *_: {})
    plugin = action(facts_action.ActionModule, arguments, {}, Path())
    plugin._task.check_mode = check_mode
    plugin._execute_module = lambda module_name, module_args, task_vars: answer(facts, monkeypatch, ledger, check_mode, **module_args)
    return plugin.run(task_vars={"inventory_hostname": "one"})


def test_the_look_ends_the_run_and_says_who_since_when_and_what_to_do(monkeypatch, ledger):
    ledger.begin(operation())
    found = looked(monkeypatch, ledger, exclusive=True)
    assert found["failed"] and found["msg"].startswith("one: an operation is under way: restore by anna@desk since ") and "unchanged" not in found
    assert "Wait for its end." in found["msg"] and found["msg"].endswith("release_take_over=true. Nothing was changed.")
    assert ledger.holder()["id"] == "restore-1"


def test_the_look_lets_those_go_on_who_may(monkeypatch, ledger):
    free = looked(monkeypatch, ledger, exclusive=True)
    assert free["run"]["takes"] and "take_over" not in free["run"] and free["holder"] is None and ledger.holder() is None, "nothing is taken by looking"
    ledger.begin(operation())
    assert "run" not in looked(monkeypatch, ledger), "a release, which asks for the lock itself"
    assert free["run"]["after"] == "" and looked(monkeypatch, ledger)["after"] == "restore-1"
    assert looked(monkeypatch, ledger, check_mode=True, exclusive=True)["unchanged"] == {}
    assert looked(monkeypatch, ledger, exclusive=True, take_over=True)["run"]["take_over"] == "restore-1"
    ledger.finish("restore-1", None)
    ledger.begin(operation({**THEIRS, "machine": controller.machine(), "namespace": controller.namespace(), "pid": 2**30}))
    assert looked(monkeypatch, ledger, exclusive=True)["run"]["take_over"] == "restore-1", "its process is dead on this controller"
    ledger.finish("restore-1", None)
    ledger.begin(operation(controller.identity()))
    assert "failed" not in looked(monkeypatch, ledger, exclusive=True), "the very run's"


class Rendering(RenderingAction):
    def run(self, *_given, **_named):
        """Not asked here."""


def applied(answers, **look):
    plugin, asked = action(Rendering, {}, {}, Path()), []

    def execute(module_name, module_args, task_vars):
        asked.append(json.loads(json.dumps(module_args["run"])))
        return answers[min(len(asked), len(answers)) - 1]

    plugin._execute_module = execute
    component, variables = (
        {"component": "web", "state": "present", "deploy_lock": {}},
        {"inventory_hostname": "one", "senex_host_snapshot": {"unchanged": {}, **look}},
    )
    return plugin.call("apply_quadlet", component, variables), asked


def test_the_controller_says_who_it_is_with_each_part():
    result, asked = applied([{"changed": True, "run_lock": "run-1"}], id="l", run={"id": "run-1", "what": "site.yml", "takes": True})
    assert asked[0]["takes"] and asked[0]["pid"] == os.getppid() and result["ansible_facts"] == {"senex_components_changed": "l", "senex_run_lock": "run-1"}
    busy = {"changed": False, "busy": operation(), "message": "an operation is under way: restore"}
    result, asked = applied([busy])
    assert result["failed"] and result["msg"] == "one: web: an operation is under way: restore" and "takes" not in asked[0] and len(asked) == 1
    dead = {**busy, "busy": operation({**THEIRS, "machine": controller.machine(), "namespace": controller.namespace(), "pid": 2**30})}
    result, asked = applied([dead, {"changed": False}])
    assert "failed" not in result and asked[1]["take_over"] == "restore-1"


# What takes the lock for all it does, and what changes nothing that an operation is at
OPERATIONS = {
    "checksums.yml", "deploy.yml", "move.yml", "rollback.yml", "restore.yml", "upgrade_postgresql.yml", "update_images.yml", "remove.yml", "rotate.yml",
}  # fmt: skip
BESIDE = {"backup.yml"}


def plays(name):
    found = []
    for play in patterns.whole(name.removesuffix(".yml")):
        imported = play.get("ansible.builtin.import_playbook")
        found += plays(imported) if imported and imported != "validate.yml" else [play]
    return found


@pytest.mark.parametrize("name", sorted(path.name for path in PLAYBOOKS.glob("*.yml") if "import_playbook: validate.yml" in path.read_text()))
def test_every_playbook_that_changes_hosts_has_the_lock_of_all_of_them(name):
    found = plays(name)
    look = next(play for play in found if play.get("ansible.builtin.import_playbook") == "validate.yml")
    alone = look.get("vars", {}).get("validate_exclusive", True)
    assert alone is (name not in OPERATIONS | BESIDE)
    text = {play["name"]: yaml.safe_dump(play) for play in found if play.get("hosts") == EVERYBODY}
    if name in OPERATIONS:
        assert any("tasks/lock.yml" in one or "step: begin" in one or "release_stage: prepare" in one for one in text.values()), "taken on every host"
        assert any("step: finish" in one or "release/finish.yml" in one for one in text.values()), "and given up there"
    elif alone:
        last = next(play for play in found if "tasks/unlock.yml" in yaml.safe_dump(play))
        assert last["hosts"] == EVERYBODY and (last.get("tags") == ["always"]), "whatever parts a run is told to apply"


def test_whoever_waits_at_a_host_that_is_only_locked_is_heard():
    """A lock that is refused there is a failure of the release."""
    hosts = loaded(ROLES.parent / "playbooks/vars/release.yml")["__release_all_hosts"]
    groups = {group: [f"host-{group}"] for group in EVERYBODY.split(":")}
    assert sorted(value("senex", hosts[2:-2].strip(), groups=groups)) == sorted(host for hosts in groups.values() for host in hosts)


def test_what_the_lock_leaves_is_taken_for_no_part(ledger):
    """Manifests and what was last handed over lie in the same directory."""
    ledger.begin(operation())
    ledger.finish("restore-1", {"result": "succeeded"})
    change(ledger)
    assert len(os.listdir(ledger.directory)) == 4
    assert (
        fileset.components(ledger.directory) == [] and payload.load_applied(ledger.directory) == [] and unchanged.unchanged_components(ledger.directory) == {}
    )


@pytest.mark.parametrize("run", [{**THEIRS, "takes": False}, {**MINE, "take_over": "restore-1"}, {**SITE, "take_over": "any"}, {**MINE}],
                         ids=["the very run", "the dead are passed by", "taken over", "nobody's business"])  # fmt: skip
@pytest.mark.parametrize("kind", ["system_files", "quadlet"])
def test_a_lock_that_keeps_nobody_out_does_so_down_to_the_change(ledger, monkeypatch, tmp_path, run, kind):
    """Without the id of the lock, as a role has it in a playbook of one's own: a run that was let in must not stop at the files."""
    ledger.begin(operation())
    before = ledger.holder()
    goes = run != MINE
    if kind == "system_files":
        monkeypatch.setattr(apply_system_files, "lock", contextlib.nullcontext)
        monkeypatch.setattr(apply_system_files, "save_applied", lambda _data: None)
        monkeypatch.setattr(system_transaction, "Manifest", lambda component: fileset.Manifest(component, str(tmp_path / "state")))
        found = answer(apply_system_files, monkeypatch, ledger, payload=handed(tmp_path / "x"), run=run)
        assert (tmp_path / "x").exists() == goes and bool(found.get("busy")) != goes
    else:

        def applied(data, _payloads, _at_once):
            with ledger.changing(data["deploy_lock"]):
                return {"changed": True, "plan": []}

        monkeypatch.setattr(apply_quadlet, "apply_concurrently", applied)
        found = answer(apply_quadlet, monkeypatch, ledger, payload=handed("/x"), run=run)
        assert found["changed"] == goes
    assert ledger.holder()["id"] == (SITE["id"] if run.get("takes") else before["id"])


def test_the_first_question_of_a_run_is_whether_it_is_root(monkeypatch):
    monkeypatch.setattr(facts.os, "geteuid", lambda: 65534)
    told = answer(facts, monkeypatch, None)
    assert "has to be root" in told["msg"] and "ansible_become: true" in told["msg"]
