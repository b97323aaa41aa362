"""No host is changed without its lock: not by one that has lost it, and not by one that never had it while another one does."""

import base64
import json
import re
import time

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible_collections.senex.trader.plugins.action import (
    application,
    nginx_upstream,
    postgresql_checksums,
    postgresql_upgrade,
    quadlet,
    release,
    system_files,
    traffic_probe,
)
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_transaction import Transaction
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_work import ApplyError
from ansible_collections.senex.trader.plugins.module_utils.host import fileset, release_record
from ansible_collections.senex.trader.plugins.module_utils.host.release_record import Ledger, LockHeld, LockLost
from ansible_collections.senex.trader.plugins.module_utils.release import application_units, component_apply
from ansible_collections.senex.trader.plugins.plugin_utils import controller
from ansible_collections.senex.trader.plugins.plugin_utils.answering import AnsweringAction
from controller import ROOT
from test_engine_transaction import live, quiet_host  # noqa: F401  (fixtures)

MINE, THEIRS = {"id": "mine", "what": "deploy of 2", "who": "anna@desk"}, {"id": "theirs", "what": "deploy of 3", "who": "ben@desk"}


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    monkeypatch.setattr(release_record, "BOOT", str(tmp_path / "boot"))
    return Ledger(str(tmp_path))


def changed(ledger, deploy_lock):
    with ledger.changing(deploy_lock) as still:
        still()
        return True


def test_while_nobody_has_the_lock_anybody_may_change_the_host_but_one_that_lost_it(ledger):
    assert changed(ledger, {})
    with pytest.raises(LockLost, match="given up or taken over"):
        changed(ledger, {"id": "mine"})


def test_while_somebody_has_it_nobody_else_may(ledger):
    ledger.begin(THEIRS)
    with pytest.raises(LockHeld, match="deploy of 3 by ben@desk"):
        changed(ledger, {})
    with pytest.raises(LockLost, match="deploy of 3 by ben@desk"):
        changed(ledger, {"id": "mine"})
    assert changed(ledger, {"id": "theirs", "stage": "web"}) and ledger.holder()["step"] == "web"
    assert changed(ledger, {"id": "theirs"}) and ledger.holder()["step"] == "web", "a change that is no stage says nothing of stages"


def test_a_dead_holder_keeps_nobody_from_the_host_and_its_lock_stays_for_the_next_release(ledger, monkeypatch):
    ledger.begin(THEIRS)
    later = time.clock_gettime(time.CLOCK_BOOTTIME) + release_record.LEASE + 1
    monkeypatch.setattr(release_record.time, "clock_gettime", lambda _clock: later)
    assert changed(ledger, {}) and ledger.holder()["id"] == "theirs"


def test_a_change_that_takes_longer_than_the_lease_keeps_it(ledger, monkeypatch):
    """A migration, an image that is pulled: the lock used to be renewed once, before it."""
    monkeypatch.setattr(release_record, "LEASE", 0.5)
    monkeypatch.setattr(release_record, "RENEWAL", 0.05)
    ledger.begin(MINE)
    with ledger.changing({"id": "mine", "stage": "web"}) as still:
        time.sleep(0.8)
        still()
        with pytest.raises(LockHeld):
            ledger.begin(THEIRS)
        ledger.begin(THEIRS, take_over="any")
        time.sleep(0.3)
        with pytest.raises(LockLost, match="deploy of 3"):
            still()


def test_a_part_whose_lock_is_lost_meanwhile_goes_on_with_no_further_unit_and_is_put_back(live):  # noqa: F811
    before = live.seen()
    live.configuration.update({"config/env": b"A=2", "config/db.conf": b"e"})
    live.texts["db.container"] += "Environment=A=2\n"
    live.texts["web.container"] += "Environment=A=2\n"
    asked = []

    def still():
        asked.append(list(live.host.log))
        if len(asked) == 3:  # before the files, before the first unit, before the second
            raise LockLost("the lock of this release is gone: deploy of 3")

    transaction = Transaction(live.component(), live.host, True, live.transaction().work.manifest, still=still)
    live.host.log.clear()
    with pytest.raises(ApplyError, match=r"could not be installed: the lock of this release is gone: deploy of 3[\s\S]*The files from before are back"):
        transaction.run(False)
    assert "restart db.service" in asked[2] and "restart web.service" not in live.host.log
    assert live.seen() == before


def quadlet_data(**more):
    return {"component": "django", "state": "present", "user": "senex", "home": "/h", "files": [], "directories": [], "secrets": [], "units": [],
            "preconditions": [], "image_input": "", "deploy_lock": {}, **more}  # fmt: skip


class Changes:
    """In the place of a transaction: that it was begun is a change."""

    begun = 0

    def __init__(self, *_given, **_named):
        pass

    def run(self, check):
        Changes.begun += not check
        return {"changed": True, "plan": [], "diff": []}


@pytest.fixture
def host(ledger, monkeypatch):
    Changes.begun = 0
    monkeypatch.setattr(fileset, "MANIFESTS", ledger.directory)
    monkeypatch.setattr(component_apply, "Ledger", lambda: ledger)
    monkeypatch.setattr(component_apply, "Transaction", Changes)
    monkeypatch.setattr(component_apply, "save_applied", lambda data: None)
    monkeypatch.setattr(component_apply, "ServiceUser", lambda *_: type("User", (), {"uid": 0, "gid": 0})())
    return ledger


@pytest.mark.parametrize("deploy_lock", [{}, {"id": "mine", "stage": "web"}], ids=["without a lock", "with one that was lost"])
def test_a_part_is_left_alone_under_the_lock_of_another_one(host, deploy_lock):
    """A release that slept, and site.yml beside a release."""
    host.begin(THEIRS)
    answer = component_apply.apply_or_error(quadlet_data(deploy_lock=deploy_lock))
    assert "deploy of 3 by ben@desk" in answer["msg"] and Changes.begun == 0
    assert answer.get("busy", {}).get("id") == (None if deploy_lock else "theirs")
    assert component_apply.apply_or_error(quadlet_data(deploy_lock=deploy_lock), check=True)["changed"], "a look changes nothing"
    assert component_apply.apply_or_error(quadlet_data(deploy_lock={"id": "theirs", "stage": "web"}))["changed"] and Changes.begun == 1


def plugin_of(module):
    """What runs on the controller for a module; without it, a host that does not answer is unreachable."""
    path = ROOT / f"plugins/action/{module}.py"
    return path.read_text() if path.exists() else ""


def test_every_module_that_changes_a_host_asks_for_the_lock():
    """One that does not is named here with its reason."""
    apart = {"facts": "reads", "check_image": "containers of its own alone",
             "in_force": "reads", "bounded_command": "by the test below", "nginx_sites": "reads", "preflight": "reads",
             "fail_on_problems": "asks no host",
             "vault": "a file of the controller", "quadlet": "apply_quadlet", "system_files": "apply_system_files"}  # fmt: skip
    through = {"apply_quadlet": "component_apply", "postgresql_upgrade": "leased(", "postgresql_checksums": "checksums"}
    for path in ROOT.glob("plugins/modules/*.py"):
        if path.stem not in apart:
            text = path.read_text()
            assert "Ledger()" in text or through.get(path.stem, "Ledger()") in text, path.stem
            answers = any(f"{kind}Action" in plugin_of(path.stem) for kind in ("Answering", "Locked", "Rendering"))
            assert path.stem.startswith("apply_") or answers, f"{path.stem}, unreachable"
    assert "Ledger().changing(" in (ROOT / "plugins/module_utils/release/component_apply.py").read_text()
    assert "leased(" in (ROOT / "plugins/module_utils/postgresql/checksums.py").read_text()


def test_no_task_of_an_operation_stops_or_exchanges_anything_by_a_bare_command():
    """systemctl and the commands of backup and pitr that change something run under the lock, by senex.trader.release or senex.trader.application."""
    files = [*ROOT.glob("roles/backup/tasks/application_*.yml"), *ROOT.glob("roles/backup/tasks/restore_*.yml"), *ROOT.glob("roles/pitr/tasks/restore_*.yml"),
             ROOT / "roles/pitr/tasks/base.yml"]  # fmt: skip
    assert len(files) > 8
    for path in files:
        for task in re.split(r"\n(?= *- name:)", path.read_text()):
            if "ansible.builtin.command" in task or "senex.trader.bounded_command" in task:
                assert re.search(r"'(plan|list|fetch|loaded|where)'", task) and not re.search(r"'(stop|start|restart|swap|load|exchange|base)'", task), task


class Connection:
    _shell = type("Shell", (), {"tmpdir": None})()


def action_of(module, monkeypatch, raises=None, **arguments):
    """An action plugin whose host answers, or does not."""
    asked = []

    def execute(self, module_name=None, module_args=None, task_vars=None):
        asked.append(module_args)
        if raises:
            raise raises
        return {"changed": False}

    monkeypatch.setattr(AnsweringAction.__mro__[1], "_execute_module", execute)
    monkeypatch.setattr(AnsweringAction.__mro__[1], "run", lambda *_: {})
    action = module.ActionModule.__new__(module.ActionModule)
    action._task = type("Task", (), {"args": arguments, "delegate_to": None, "check_mode": False})()
    action._connection = Connection
    return action, asked


@pytest.mark.parametrize(("module", "arguments"), [
    (application, {"state": "stopped"}),
    (traffic_probe, {"state": "stopped"}),
    (nginx_upstream, {"state": "drained", "servers": []}),
    (postgresql_upgrade, {"step": "undo"}),
    (postgresql_checksums, {"step": "enable"}),
    (release, {"step": "run"}),
    (release, {"step": "begin"}),
    (quadlet, {"component": "django", "user": "senex", "home": "/h"}),
    (system_files, {"component": "common"}),
])  # fmt: skip
def test_a_host_that_does_not_answer_is_a_failure(module, arguments, monkeypatch):
    """Ansible's own word for it passes by every rescue: nothing was taken back, nothing was recorded."""
    action, _ = action_of(module, monkeypatch, AnsibleConnectionFailure("no route to host"), **arguments)
    result = action.run(task_vars={"inventory_hostname": "two"})
    assert result["failed"] and "unreachable" not in result and result["msg"] == "two does not answer: no route to host"
    assert result["rc"] and result["stderr"]


def test_what_is_left_on_a_host_that_is_gone_ends_nothing(monkeypatch):
    action, _ = action_of(traffic_probe, monkeypatch)

    def gone(*_):
        raise AnsibleConnectionFailure("no route to host")

    monkeypatch.setattr(AnsweringAction.__mro__[1], "_remove_tmp_path", gone)
    action._remove_tmp_path("/tmp/x")


def knows(identifier, run=None):
    return {"inventory_hostname": "one", "ansible_facts": {"senex_operation": {"id": identifier, "run": run or controller.run_name()}}}


@pytest.mark.parametrize("module", [application, traffic_probe, nginx_upstream])
def test_what_a_run_changes_goes_with_the_lock_that_it_has(module, monkeypatch):
    for variables, deploy_lock in ((knows("mine"), {"id": "mine"}), ({}, {}), (knows("mine", "an earlier run's, from a cache of facts"), {})):
        action, (*_,) = action_of(module, monkeypatch, state="x")
        asked = []
        monkeypatch.setattr(action, "_execute_module", lambda asked=asked, **given: asked.append(given["module_args"]) or {})
        action.run(task_vars=variables)
        assert asked[0]["deploy_lock"] == deploy_lock


@pytest.mark.parametrize("module", [quadlet, system_files])
def test_a_part_too_whoever_asks(module, monkeypatch):
    """Roles give none of their own where they are applied by a way back, an upgrade or a rotation."""
    given = {"component": "django", "user": "senex", "home": "/h"} if module is quadlet else {"component": "common"}
    for variables, deploy_lock in ((knows("mine"), {"id": "mine"}), ({}, {})):
        action, asked = action_of(module, monkeypatch, **given)
        action.run(task_vars={"inventory_hostname": "one", **variables})
        assert json.loads(base64.b64decode(asked[0]["payload"]))["deploy_lock"] == deploy_lock


@pytest.mark.parametrize(("alive", "asked_for", "times"), [(True, "", 1), (False, "", 2), (True, "true", 2), (True, "false", 1)])
def test_site_does_not_wait_for_a_release_that_is_dead(alive, asked_for, times, monkeypatch):
    action, asked = action_of(system_files, monkeypatch, component="common")
    holder = {**THEIRS, **controller.identity(), **({} if alive else {"pid": 2**30})}
    answers = [{"failed": True, "msg": "busy", "busy": holder}, {"changed": True}]
    monkeypatch.setattr(action, "_execute_module", lambda module_args, **_: asked.append(module_args) or answers[len(asked) - 1])
    variables = {"inventory_hostname": "one", **({"release_take_over": asked_for} if asked_for else {})}
    result = action.run(task_vars=variables)
    assert len(asked) == times and bool(result.get("changed")) == (times == 2)
    assert asked[-1]["run"].get("take_over") == ("theirs" if times == 2 else None)


# -- the application at rest


class Units:
    """Of a user's manager."""

    def __init__(self, running, there=None, stuck=()):
        self.running, self.there, self.stuck, self.log = list(running), there or list(running), stuck, []

    def systemctl(self, verb, *words, check=True, timeout=0):
        units = [word for word in words if not word.startswith("-") and "*" not in word]
        failed = [unit for unit in units if unit in self.stuck]
        if verb in ("start", "stop"):
            self.log.append(f"{verb} {' '.join(units)}")
            self.running = [unit for unit in self.running if unit not in units] + ([unit for unit in units if unit not in failed] if verb == "start" else [])
        listed = self.running if verb == "list-units" else self.there
        return type("Result", (), {"returncode": int(bool(failed)), "stderr": f"{failed} failed", "stdout": "".join(f"{unit} loaded\n" for unit in listed)})()


@pytest.fixture
def answers(monkeypatch):
    found = []
    monkeypatch.setattr(application_units.traffic_probe, "ask", lambda target, path: found.pop(0) if found else "")
    monkeypatch.setattr(application_units.time, "sleep", lambda _: None)
    return found


ASKED = {"paths": ["/health/"]}


def test_what_stopped_is_known_to_its_host_until_it_serves(tmp_path, answers):
    place = str(tmp_path / "rests")
    user = Units(["web-1.service", "celery-worker.service", "web-shell.timer"], ["web-1.service", "celery-worker.service", "celery-beat.service"])
    assert application_units.stop_units(user, ["celery-beat.service", "ssh.service"], place=place) == [
        "web-1.service",
        "celery-worker.service",
        "celery-beat.service",
    ]
    assert user.log == ["stop web-1.service celery-worker.service celery-beat.service"]
    assert application_units.stop_units(user, [], place=place) == application_units.remembered(place), "a second run, after one that was killed"
    answers += ["503"] * 3
    assert application_units.start_units(user, ASKED, True, place=place) == (["web-1.service", "celery-worker.service", "celery-beat.service"], [])
    assert user.log[-2:] == ["start release.service", "start web-1.service celery-worker.service celery-beat.service"]
    assert application_units.remembered(place) == [] and application_units.start_units(user, ASKED, True, place=place) == ([], [])


def test_what_a_release_in_maintenance_stopped_is_marked_and_a_surge_worker_does_not_come_back(tmp_path, answers):
    place = tmp_path / "rests"
    user = Units(["web-1.service", "celery-worker.service", "celery-worker-next.service"])
    units = application_units.stop_units(user, [], place=str(place), maintenance=True)
    assert units == ["web-1.service", "celery-worker.service"] == application_units.remembered(str(place)) and user.running == []
    assert place.read_text().split() == ["maintenance", *units]
    assert application_units.start_units(user, ASKED, False, place=str(place)) == (units, []) and user.running == units


def test_what_does_not_serve_stays_known(tmp_path, answers):
    place = str(tmp_path / "rests")
    user = Units(["web-1.service"], stuck=["release.service"])
    application_units.stop_units(user, [], place=place)
    assert application_units.start_units(user, ASKED, True, place=place)[1] == ["['release.service'] failed"] and application_units.remembered(place) == [
        "web-1.service"
    ]
    answers += ["/health/: 503"] * application_units.ROUNDS
    assert application_units.start_units(user, ASKED, False, place=place)[1] == ["/health/: 503"] and application_units.remembered(place) == ["web-1.service"]
    with pytest.raises(LockLost):
        application_units.start_units(user, ASKED, False, place=place, still=lambda: (_ for _ in ()).throw(LockLost("gone")))
    assert application_units.start_units(user, ASKED, False, place=place)[1] == []


def test_what_is_to_be_started_later_is_not_stopped(tmp_path):
    user = Units(["web-1.service"])
    assert application_units.stop_units(user, [], stop=False, place=str(tmp_path / "rests")) == ["web-1.service"] and user.log == []
