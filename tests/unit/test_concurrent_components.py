"""What goes on at the same time: units of one part, and another part that was handed over with it."""
# ruff: noqa: F811 - a fixture that comes from another file is named like what is imported

import base64
import json
import os
import sys
import threading
from pathlib import Path

import pytest
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_restart import batches
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_transaction import Transaction
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_work import ApplyError
from ansible_collections.senex.trader.plugins.module_utils.host import fileset
from ansible_collections.senex.trader.plugins.module_utils.release import component_apply
from ansible_collections.senex.trader.plugins.modules import apply_quadlet
from test_engine_transaction import live, quiet_host  # noqa: F401 - fixtures

ROOT = Path(__file__).resolve().parents[2]


class Other:
    """In the place of the processes beside: writes into the host's log when it begins and when it is waited for."""

    def __init__(self, log, trouble=""):
        self.log, self.trouble = log, trouble
        self.changed, self.plan = False, []

    def begin(self):
        self.log.append("begin")

    def wait(self):
        self.log.append("wait")
        return self.trouble


@pytest.fixture
def both(live):
    """A part whose two units have changed; the second may come up with the first."""
    live.units[1]["parallel_with_previous"] = True
    for name in ("db.container", "web.container"):
        live.texts[name] += "Exec=new\n"
    return live


def steps(live):
    return [line for line in live.host.log if line.startswith(("restart", "begin", "wait", "daemon-reload"))]


def test_units_stay_in_order_in_their_batches():
    units = [
        {"name": "a", "parallel_with_previous": True},
        {"name": "b"},
        {"name": "c", "parallel_with_previous": True},
        {"name": "d", "parallel_with_previous": False},
    ]
    assert [[unit["name"] for unit in batch] for batch in batches(units)] == [["a"], ["b", "c"], ["d"]]


def test_units_of_a_batch_come_up_at_the_same_time(both, monkeypatch):
    together = threading.Barrier(2, timeout=10)
    usual = both.host.systemctl

    def systemctl(verb, *rest, **options):
        if verb == "restart":
            together.wait()  # broken, and with it the test, where one waits for the end of the other
        return usual(verb, *rest, **options)

    monkeypatch.setattr(both.host, "systemctl", systemctl)
    both.run()
    monkeypatch.undo()
    assert not both.run()["changed"], "what each was started with is known"


def test_the_one_of_a_batch_that_fails_is_named_and_both_run_as_before(both):
    both.texts["web.container"] += "Exec=broken\n"
    both.host.refuse = {"Exec=broken"}
    with pytest.raises(ApplyError, match="web.service did not come up(.|\n)*running again: db.service, web.service"):
        both.run()
    assert "Exec=new" not in "".join(both.host.texts().values())


def begun(live, other):
    live.host.log.clear()
    return Transaction(live.component(), live.host, True, type(live.transaction().work.manifest)("component", live.state), concurrent=other).run(check=False)


@pytest.fixture
def turning(live, tmp_path):
    """A part of two instances in nginx's rotation, both changed."""
    for unit in live.units:
        unit["load_balancer"] = {"contract": str(tmp_path / "none"), "server": ""}
    for name in ("db.container", "web.container"):
        live.texts[name] += "Exec=new\n"
    return live


def test_another_part_begins_when_the_first_instance_serves(turning):
    begun(turning, Other(turning.host.log))
    assert [line for line in steps(turning) if line != "daemon-reload"] == ["restart db.service", "begin", "restart web.service", "begin"]


def test_another_part_is_left_alone_where_the_first_instance_fails(turning):
    turning.texts["db.container"] += "Exec=broken\n"
    turning.host.refuse = {"Exec=broken"}
    with pytest.raises(ApplyError, match="db.service did not come up"):
        begun(turning, Other(turning.host.log))
    assert "begin" not in turning.host.log


def test_another_part_begins_at_once_where_nothing_has_to_be_proven(tmp_path, monkeypatch):
    log = []
    monkeypatch.setattr(apply_quadlet, "lock", lambda: fileset.lock(str(tmp_path)))
    monkeypatch.setattr(component_apply, "ConcurrentApply", lambda payloads, descriptor: Other(log))
    monkeypatch.setattr(component_apply, "apply_or_error", lambda data, concurrent: log.append("this part") or {"changed": False, "plan": []})
    apply_quadlet.apply_concurrently({}, ["rendered"], "immediate")
    assert log == ["begin", "this part", "begin", "wait"]
    log.clear()
    apply_quadlet.apply_concurrently({}, ["rendered"], "after_first_ready")
    assert log == ["this part", "begin", "wait"]


def test_files_go_back_when_the_other_part_has_ended(turning):
    turning.texts["web.container"] += "Exec=broken\n"
    turning.host.refuse = {"Exec=broken"}
    with pytest.raises(ApplyError, match="web.service did not come up .and the other failed."):
        begun(turning, Other(turning.host.log, "the other failed"))
    log = steps(turning)
    assert log.index("begin") < log.index("wait") < len(log) - 1 - log[::-1].index("daemon-reload")


def test_a_process_beside_tells_what_it_refuses_and_holds_the_lock(tmp_path, monkeypatch):
    """A real process, stopped by a part whose user there is not."""
    # As on a host: the collection first, and no package of Ansible's that hides it
    monkeypatch.setattr(sys, "path", [str(ROOT), *(path for path in sys.path if "site-packages" not in path)])
    payload = base64.b64encode(json.dumps({"component": "celery", "user": "nobody.here", "home": "/nowhere", "deploy_lock": {}}).encode()).decode()
    with fileset.lock(str(tmp_path)) as descriptor:
        other = component_apply.ConcurrentApply([payload], descriptor)
        other.begin()
        assert payload not in open(f"/proc/{other.running[0].pid}/cmdline").read()  # noqa: SIM115
        assert os.readlink(f"/proc/{other.running[0].pid}/fd/{descriptor}") == str(tmp_path / "lock")
        trouble = other.wait()
    assert trouble == "celery: senex_user: there is no user 'nobody.here' on this host; the common role creates it"
