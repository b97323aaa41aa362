"""One unit after the other without anybody noticing: stand-ins, and who is in nginx's rotation when."""
# ruff: noqa: F811 - a fixture that comes from another file is named like what is imported

import contextlib
import json
import pathlib
import sys

import pytest
from ansible_collections.senex.trader.plugins.module_utils.engine import quadlet_plan, quadlet_restart
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_work import ApplyError
from ansible_collections.senex.trader.plugins.module_utils.nginx import nginx_upstream
from ansible_collections.senex.trader.plugins.module_utils.release import traffic_gate
from test_engine_transaction import live, quiet_host  # noqa: F401 - fixtures

TURN = {"server": "127.0.0.1:1"}
DEAD: set[str] = set()  # servers that do not answer
STAND_IN = "[Container]\nImage=registry/app:1\nContainerName=web-next\n"


@pytest.fixture
def relieved(live):
    """A part whose web.service has a stand-in, in place."""
    live.texts["web-next.container"] = STAND_IN
    live.units[1] = {"name": "web.service", "surge_unit": "web-next.service"}
    live.host.states["web-next.service"] = {"ActiveState": "inactive"}
    live.run()
    assert not any(line.endswith("web-next.service") for line in live.host.log), "installed, and left alone"
    return live


def steps(live):
    return [line for line in live.host.log if line.startswith(("start", "restart", "stop", "reset-failed web-next"))]


def test_a_stand_in_is_up_before_its_unit_stops_and_gone_after(relieved):
    assert not relieved.run()["changed"]
    relieved.texts["web.container"] += "Exec=new\n"
    told = relieved.run()
    assert steps(relieved) == ["restart web-next.service", "restart web.service", "stop web-next.service"]
    assert not any("next" in line for line in told["plan"]) and not relieved.run()["changed"]


def test_a_unit_that_does_not_run_needs_no_stand_in(relieved):
    relieved.host.states["web.service"] = {"ActiveState": "failed"}
    relieved.run()
    assert "start web.service" in relieved.host.log and "restart web-next.service" not in relieved.host.log


def test_a_stand_in_that_does_not_start_stops_nothing(relieved):
    before = relieved.seen()
    for name in ("web.container", "web-next.container"):
        relieved.texts[name] += "Exec=broken\n"
    relieved.host.refuse = {"Exec=broken"}
    with pytest.raises(ApplyError, match="web-next.service did not come up(.|\n)*journal of web-next.service"):
        relieved.run()
    assert relieved.seen() == before
    assert not any(line.endswith(" web.service") for line in steps(relieved)) and "stop web-next.service" in relieved.host.log


def test_a_unit_that_fails_is_relieved_only_when_the_old_one_is_back(relieved):
    before = relieved.seen()
    relieved.texts["web.container"] += "Exec=broken\n"
    relieved.host.refuse = {"Exec=broken"}
    with pytest.raises(ApplyError, match="web.service did not come up"):
        relieved.run()
    assert relieved.seen() == before
    assert steps(relieved) == [
        "restart web-next.service", "restart web.service", "stop web.service", "restart web.service",
        "stop web-next.service", "reset-failed web-next.service",
    ]  # fmt: skip


def test_a_stand_in_that_still_finishes_its_task_is_no_difference(relieved):
    relieved.host.states["web-next.service"] = {"ActiveState": "deactivating"}
    assert not relieved.run()["changed"] and not steps(relieved)


def test_a_stand_in_that_a_killed_run_left_is_stopped_by_the_next(relieved):
    relieved.host.states["web-next.service"] = {"ActiveState": "active"}
    assert relieved.run()["plan"] == ["stop web-next.service"] and "stop web-next.service" in relieved.host.log
    relieved.texts["web.container"] += "Exec=new\n"
    relieved.run()
    assert [line for line in steps(relieved) if "reset" not in line][:3] == ["restart web-next.service", "restart web.service", "stop web-next.service"]
    relieved.run(present=False)
    assert "stop web-next.service" in relieved.host.log


@pytest.fixture
def upstream(tmp_path, monkeypatch):
    """Writes what role nginx says of its servers; a flag a server lies in `out`."""
    monkeypatch.setattr(nginx_upstream, "POLL", 0)
    monkeypatch.setattr(nginx_upstream, "serves", lambda server, ask: server not in DEAD)

    def write(*servers):
        (tmp_path / "upstream.json").write_text(json.dumps({"version": 1, "servers": servers, "hosts": [], "flags": str(tmp_path / "out")}))
        return str(tmp_path / "upstream.json")

    return write


@pytest.fixture
def rotated(live, upstream, monkeypatch):
    """A part with two instances, of which a file says which get requests; leaving and coming back are logged."""
    contract = upstream("127.0.0.1:1", "127.0.0.1:2")
    leave, back = nginx_upstream.UpstreamServers.drain, nginx_upstream.UpstreamServers.restore

    def left(turn, tell=None):
        result = leave(turn, tell)
        live.host.log += [f"out: {','.join(turn.drained())}"] if result else []
        return result

    def came_back(turn):
        result = back(turn)
        live.host.log += [f"in: {','.join(turn.servers)}"] if result else []
        return result

    monkeypatch.setattr(nginx_upstream.UpstreamServers, "drain", left)
    monkeypatch.setattr(nginx_upstream.UpstreamServers, "restore", came_back)
    live.units = [
        {"name": f"{name}.service", "load_balancer": {"contract": contract, "server": f"127.0.0.1:{port}", "drain": 0}}
        for port, name in ((1, "db"), (2, "web"))
    ]
    live.run()
    return live, pathlib.Path(contract).parent / "out"


def test_the_one_out_of_rotation_comes_back_first_so_that_the_other_can_leave(rotated):
    live, flags = rotated
    live.configuration["config/db.conf"] = b"new"
    live.texts["web.container"] += "Exec=broken\n"
    live.host.refuse = {"Exec=broken"}
    with pytest.raises(ApplyError, match="running again: web.service, db.service"):
        live.run()
    seen = [line for line in live.host.log if line.startswith(("restart", "stop", "out:", "in:"))]
    first, second = "127.0.0.1:1", "127.0.0.1:2"
    assert seen == [
        f"out: {first}", "restart db.service", f"in: {first}", f"out: {second}", "restart web.service", "stop web.service",
        f"out: {second}", "restart web.service", f"in: {second}", f"out: {first}", "restart db.service", f"in: {first}",
    ]  # fmt: skip
    assert not list(flags.iterdir())


def test_a_server_that_a_killed_run_left_out_comes_back(rotated):
    live, flags = rotated
    flags.mkdir()
    (flags / "127.0.0.1:1").touch()
    assert live.run(check=True)["plan"] == ["put db.service back in service"] and live.host.log == []
    assert live.run()["changed"] and live.host.log == ["in: 127.0.0.1:1"] and not live.run()["changed"]


@pytest.mark.parametrize(("others", "good"), [(0, True), (1, False)])
def test_what_failed_while_the_only_instance_restarted_does_not_count(live, upstream, monkeypatch, tmp_path, others, good):
    """No other server took the requests, so they had to fail; where there was one, none had to."""
    contract = upstream(*(f"127.0.0.1:{8001 + number}" for number in range(1 + others)))
    (tmp_path / "prober.json").write_text('{"requests": 90, "failed": 40, "failures": ["/: 502"]}')
    monkeypatch.setattr(traffic_gate, "PROBE_SECONDS", 0)
    turn = {"contract": contract, "server": "127.0.0.1:8001", "drain": 0}
    live.units[1] = {"name": "web.service", "load_balancer": turn, "traffic_gate": {"results_file": str(tmp_path / "prober.json"), "max_failed": 3}}
    live.texts["web.container"] += "Exec=new\n"
    if good:
        assert live.run()["changed"]
        (tmp_path / "prober.json").write_text('{"requests": 99, "failed": 44, "failures": ["/: 500"]}')
        assert "4 of 99 requests of the traffic probe failed beside the 40 while" in traffic_gate.traffic_gate_error(live.units[1])
        live.units[1]["traffic_gate"]["evaluate"] = "at_end"
        assert traffic_gate.traffic_gate_error(live.units[1]) == "", "the caller counts them, those that are forgiven apart"
    else:
        with pytest.raises(ApplyError, match="40 of 90 requests of the traffic probe failed, 3 may; the last: /: 502"):
            live.run()


@pytest.mark.parametrize("dead", ["db", "web"])
def test_an_instance_that_serves_nobody_is_replaced_first(rotated, monkeypatch, dead):
    """A release that mends what killed one of them must not begin with the other."""
    live, flags = rotated
    names = {"db": "127.0.0.1:1", "web": "127.0.0.1:2"}
    alive = next(name for name in names if name != dead)
    live.host.states[f"{dead}.service"] = {"ActiveState": "failed"}
    monkeypatch.setattr(sys.modules[__name__], "DEAD", {names[dead]})
    started = nginx_upstream.UpstreamServers.restore
    monkeypatch.setattr(nginx_upstream.UpstreamServers, "restore", lambda turn: (DEAD.difference_update(turn.servers), started(turn))[1])
    for name in ("db.container", "web.container"):
        live.texts[name] += "Exec=new\n"
    live.run()
    assert [line for line in live.host.log if line.startswith(("start", "restart", "out:"))] == [
        f"out: {names[dead]}", f"start {dead}.service", f"out: {names[alive]}", f"restart {alive}.service",
    ]  # fmt: skip


def test_the_last_one_that_answers_stays_in_rotation(rotated, monkeypatch):
    live, flags = rotated
    monkeypatch.setattr(sys.modules[__name__], "DEAD", {"127.0.0.1:2"})
    live.configuration["config/db.conf"] = b"new"
    assert live.run()["changed"] and "restart db.service" in live.host.log and not any(line.startswith("out") for line in live.host.log)


def test_the_last_one_that_answers_is_not_taken_away(rotated, monkeypatch):
    """By fewer instances; where none of the others is there, nobody is to answer in its place."""
    live, _flags = rotated
    live.texts["web.container"] += "PublishPort=127.0.0.1:2:8000\n"
    live.run()
    monkeypatch.setattr(sys.modules[__name__], "DEAD", {"127.0.0.1:1"})
    text, unit = live.texts.pop("web.container"), live.units.pop()
    with pytest.raises(ApplyError, match="127.0.0.1:1 answer nothing, so it is needed"):
        live.run()
    assert "restart web.service" in live.host.log and live.texts.get("web.container") is None and text and unit
    monkeypatch.setattr(sys.modules[__name__], "DEAD", set())
    live.run()
    assert "stop web.service" in live.host.log


def test_a_place_keeps_what_it_says_of_the_order():
    act = [
        {"name": "once"},
        {"name": "web-1", "load_balancer": TURN, "parallel_with_previous": True},
        {"name": "other"},
        {"name": "web-2", "load_balancer": TURN},
        {"name": "target"},
    ]
    turned = quadlet_plan.unavailable_first(act, {"web-1": {"ActiveState": "active"}, "web-2": {"ActiveState": "failed"}}, [])
    assert [unit["name"] for unit in turned] == ["once", "web-2", "other", "web-1", "target"]
    assert [bool(unit.get("parallel_with_previous")) for unit in turned] == [False, True, False, False, False]
    assert quadlet_plan.unavailable_first(act, {name: {"ActiveState": "active"} for name in ("web-1", "web-2")}, ["web-1"]) == act


@pytest.fixture
def holding(live, monkeypatch):
    """A part whose db.service is held for, in place; the log says when."""

    @contextlib.contextmanager
    def hold(wanted, _run):
        live.host.log += ["held"] if wanted else []
        yield
        live.host.log += ["goes on"] if wanted else []

    monkeypatch.setattr(quadlet_restart, "RequestHold", hold)
    live.units[0] = {"name": "db.service", "request_hold": {"contract": "/nowhere"}}
    live.run()
    assert live.host.log == [], "nothing restarts, nobody waits"
    return live


def test_requests_wait_while_what_they_ask_restarts(holding):
    holding.configuration["config/db.conf"] = b"e"
    holding.texts["web.container"] += "Exec=new\n"
    holding.run()
    assert [line for line in holding.host.log if not line.startswith("reset-failed")] == [
        "daemon-reload", "held", "restart db.service", "goes on", "restart web.service",
    ]  # fmt: skip


def test_they_wait_for_the_way_back_too(holding):
    holding.texts["db.container"] += "Exec=broken\n"
    holding.host.refuse = {"Exec=broken"}
    with pytest.raises(ApplyError):
        holding.run()
    seen = [line for line in holding.host.log if line in ("held", "restart db.service", "stop db.service", "goes on")]
    assert seen == ["held", "restart db.service", "stop db.service", "restart db.service", "goes on"], "nobody meets the gap between the two"


def test_they_wait_anew_where_the_first_time_is_nearly_over(holding, monkeypatch):
    """Or they would be let go while what ran before starts."""
    monkeypatch.setattr(quadlet_restart, "LONGEST", 0.0)
    holding.texts["db.container"] += "Exec=broken\n"
    holding.host.refuse = {"Exec=broken"}
    with pytest.raises(ApplyError):
        holding.run()
    seen = [line for line in holding.host.log if line in ("held", "restart db.service", "goes on")]
    assert seen == ["held", "restart db.service", "goes on", "held", "restart db.service", "goes on"]


def test_nobody_waits_for_what_did_not_run(holding):
    holding.host.states["db.service"] = {"ActiveState": "failed"}
    holding.run()
    assert "start db.service" in holding.host.log and "held" not in holding.host.log
