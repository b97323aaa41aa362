"""A move of PostgreSQL to another host: what keeps it from beginning, where a run that was cut short goes on, and that never two of them serve."""

import contextlib
import json
import struct
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from ansible_collections.senex.trader.plugins.filter import moving
from ansible_collections.senex.trader.plugins.module_utils.host import closed_component
from ansible_collections.senex.trader.plugins.module_utils.postgresql import move, move_pooler, move_state
from ansible_collections.senex.trader.plugins.module_utils.postgresql.move import Move
from ansible_collections.senex.trader.plugins.module_utils.release import component_apply
from patterns import whole

ROOT = Path(__file__).parents[2]
GROUPS = {"all": ["one", "two"], "postgresql": ["one"], "web": ["one"], "celery": ["one"], "celery_beat": ["one"], "pgbouncer": ["one"]}
GIVEN = {"component": "postgresql", "to": "two", "own_address": True}
NAMES = {"from": "one", "to": "two", "version": 15, "address": "10.0.0.2"}
GIGABYTE = 1 << 30
SOURCE = {
    "state": {}, "serves": True, "standby": False, "major": 15, "cluster": "7300", "bytes": GIGABYTE, "tablespaces": "", "authority": True,
    "senders": True, "slots": True, "wal_level": "replica", "filled": True,
}  # fmt: skip
BARE = {"state": {}, "serves": False, "cluster": "", "filled": False, "major": None, "free": 20 * GIGABYTE}


@pytest.mark.parametrize(("groups", "given", "known", "said"), [
    ({}, {}, [], None),
    ({}, {"component": "nginx"}, [], "component: nginx cannot be moved"),
    ({}, {"component": ""}, [], "component: nothing cannot be moved"),
    ({}, {"to": ""}, [], "to: say -e to=HOST"),
    ({}, {"to": "three"}, [], "to: three is no host of the inventory"),
    ({}, {"own_address": False}, [], "senex_private_address: two has none"),
    ({"pgbouncer": []}, {}, [], "the group pgbouncer has no host"),
    ({"web": ["one", "four"]}, {}, [], "four has the application and is not in the group pgbouncer"),
    ({"postgresql": ["one", "two"]}, {}, [], "must have the one host"),
    ({}, {}, ["move_confirm", "move_confrim"], "move_confrim: is no variable of a move"),
])  # fmt: skip
def test_what_a_run_is_given(groups, given, known, said):
    found = moving.move_input_problems({**GROUPS, **groups}, {**GIVEN, **given}, known)
    assert len(found) == bool(said) and (not said or said in found[0]), found


@pytest.mark.parametrize(("source", "target", "said"), [
    ({}, {}, None),
    ({"serves": False}, {}, "PostgreSQL does not serve there"),
    ({"standby": True}, {}, "PostgreSQL does not serve there"),
    ({"major": 14}, {}, "postgresql_version: 15 is asked for, and one has 14"),
    ({"superuser": False}, {}, "senex_database_superuser: the application's role"),
    ({"tablespaces": "fast"}, {}, "tablespace fast lies outside"),
    ({"authority": False}, {}, "no authority"),
    ({"slots": False}, {}, "no room for one more standby"),
    ({"wal_level": "minimal"}, {}, "no room for one more standby"),
    ({}, {"free": GIGABYTE}, "1024 MB are free"),
    ({}, {"filled": True, "cluster": "7300"}, "its data directory has cluster 7300 already"),
    ({}, {"filled": True, "cluster": "7300", "state": {"phase": "moved"}}, None),
    ({}, {"filled": True, "cluster": "8000", "state": {"phase": "moved"}}, "its data directory has cluster 8000 already"),
    ({}, {"filled": True}, "its data directory has something already"),
    ({}, {"filled": True, "cluster": "7300", "free": 0, "state": {"phase": "joining", "joined": True}}, None),
    ({"state": {"phase": "joining", "other": "three"}}, {}, "a move to three is under way"),
])  # fmt: skip
def test_what_the_two_hosts_have(source, target, said):
    found = moving.move_problems({**SOURCE, **source}, {**BARE, **target}, NAMES)
    assert len(found) == bool(said) and (not said or said in found[0]), found


@pytest.mark.parametrize(("source", "target", "way"), [
    ({}, {}, "forward"),
    ({"state": {"phase": "joining"}}, {"state": {"phase": "joining"}, "serves": True, "standby": True}, "forward"),
    ({"state": {"phase": "stopping"}}, {"state": {"phase": "joining"}, "serves": True, "standby": True}, "undo"),
    ({"state": {"phase": "stopping"}}, {"state": {"phase": "joining"}}, "undo"),
    ({"state": {"phase": "stopping"}}, {"state": {"phase": "promoting"}, "serves": True, "standby": True}, "finish"),
    ({"state": {"phase": "stopping"}}, {"state": {"phase": "promoting"}}, "finish"),
    ({"state": {"phase": "stopping"}}, {"serves": True, "standby": False}, "finish"),
    ({"state": {"phase": "moved"}}, {"state": {"phase": "promoting"}}, "finish"),
    ({"state": {"phase": "moved"}}, {"serves": True}, "none"),
    ({}, {"state": {"phase": "moved"}}, "forward"),
])  # fmt: skip
def test_where_it_goes_from_here(source, target, way):
    """After the note that the new one takes over there is no way back, and before it none forward without a new run."""
    assert moving.move_way({**SOURCE, **source}, {**BARE, **target}) == way


def test_the_inventory_is_asked_for_in_the_same_words():
    asked = " ".join(moving.move_inventory("one", "two"))
    moved = {"phase": "moved", "role": "from", "other": "two", "at": "then"}
    (refused,) = moving.move_refusal({"postgresql": moved}, "one", ["postgresql", "web"])
    assert (
        asked in refused and asked in " ".join(moving.move_lines(SOURCE, BARE, NAMES, "forward", False)) and asked in " ".join(moving.move_done(NAMES, "3.1"))
    )
    assert moving.move_refusal({"postgresql": moved}, "one", ["web"]) == [], "what else the host has goes on"
    for one in ({"phase": "joining", "role": "from", "other": "two"}, {"phase": "promoting", "role": "to", "other": "one"}):
        (refused,) = moving.move_refusal({"postgresql": one}, "two" if one["role"] == "to" else "one", ["postgresql"])
        assert "-e to=two -e move_confirm=true" in refused


def test_every_playbook_refuses_what_has_moved_and_the_move_alone_goes_on():
    (check,) = [task for play in yaml.safe_load((ROOT / "playbooks/validate.yml").read_text()) for task in play["tasks"] if "move_refusal" in str(task)]
    assert "validate_moved" in check["when"]
    said = [path.name for path in ROOT.glob("playbooks/*.yml") if "validate_moved: true" in path.read_text()]
    assert said == ["move.yml"]
    assert '"moves": ' in (ROOT / "plugins/modules/facts.py").read_text() and "senex_host_snapshot.moves" in check["when"]


def test_nothing_stops_before_the_lock_and_the_plan():
    names = [task.get("name") for play in whole("move") for task in play.get("tasks", [])]
    assert names.index("Check that nothing speaks against it") < names.index("Acquire the deploy lock") < names.index("Prepare the host")
    stages = yaml.safe_load((ROOT / "playbooks/move/postgresql/switch.yml").read_text())
    switch = next(task for task in stages if task["name"] == "Switch over")
    steps = [task["senex.trader.postgresql_move"]["step"] for task in switch["block"] if "senex.trader.postgresql_move" in task]
    assert steps == ["pause", "stop", "promote"] and "back.yml" in str(switch["rescue"])
    assert switch["when"] == "__move_goes and move_switches", "what a failure changes would keep the rescue from its work, which has the same condition"
    back = yaml.safe_load((ROOT / "playbooks/move/postgresql/back.yml").read_text())
    assert [task["senex.trader.postgresql_move"]["step"] for task in back] == ["retire", "undo", "point"]
    assert all(task["when"] == "move_retired.retired | bool" for task in back[1:]), "two would serve"


def test_how_it_ended():
    assert moving.move_held([{"item": "one", "since": 10.0}, {"item": "four", "since": 11}], [{"item": "one", "until": 13.04}, {"item": "four"}]) == "3.0"
    assert moving.move_held([], [{"item": "one", "until": 1}]) == "?"
    assert "serves on one as before" in " ".join(moving.move_failure({"failures": ["no room"], "undone": True}, NAMES))
    assert "serves on two" in " ".join(moving.move_failure({"failures": ["x"], "taken_over": True, "undone": True}, NAMES))
    assert "two did not answer" in " ".join(moving.move_failure({"failures": []}, NAMES))


# On a host
def control(state=1, cluster=7300, checkpoint=0x1_02000028, timeline=1):
    return struct.pack("=QIIi4xqQQI", cluster, 1300, 202209061, state, 0, checkpoint, checkpoint, timeline) + bytes(100)


def test_what_a_stopped_cluster_says():
    found = move_state.controlled(control())
    assert found == ("7300", move_state.SHUT_DOWN, 0x1_02000028, 1) and move_state.location(found.checkpoint) == "1/2000028"
    with pytest.raises(OSError, match="cannot be read"):
        move_state.controlled(b"short")


class World:
    """The server of one host."""

    def __init__(self, tmp_path, monkeypatch, state=None):
        self.recovery, self.running, self.replayed, self.control, self.did = True, True, "t", control(), []
        self.data = tmp_path / "postgres"
        monkeypatch.setattr(move_state, "control_of", lambda _path: move_state.controlled(self.control))
        monkeypatch.setattr(move, "PROMOTION", 0.1)
        wanted = SimpleNamespace(data=str(self.data), unit="postgres.service", configuration=str(tmp_path))
        self.move = Move.__new__(Move)
        self.move.user = SimpleNamespace(systemctl=lambda *words, check=True: self.did.append(" ".join(words)), writes=lambda do, *words: do(*words))
        self.move.wanted, self.move.identity, self.move.state = wanted, "run-2", move_state.State(str(tmp_path))
        self.move.server = SimpleNamespace(rows=self.rows)
        self.move.service = SimpleNamespace(stop=self.stop, start=self.start, is_ready=lambda: self.running, is_running=lambda: self.running)
        if state:
            self.move.state.begin(**state)

    def stop(self, check=True):
        self.running = False
        self.did.append("stop")

    def start(self, after_failure=False):
        self.running = True
        self.did.append("start")

    def rows(self, text, database="postgres"):
        if "pg_promote" in text:
            self.did.append("promote")
            self.recovery = False
            return [["t"]]
        if "replay_lsn() >" in text:
            return [[self.replayed, "t" if self.recovery else "f"]]
        return [["t" if self.recovery else "f"]]


@pytest.fixture
def world(tmp_path, monkeypatch):
    return lambda **state: World(tmp_path, monkeypatch, state)


def test_the_standby_takes_over_when_it_has_all(world):
    there = world(role="to", phase="joining", other="one")
    there.move.promote("7300", "1/2000028")
    assert there.did == ["promote"] and there.move.state.phase == move_state.PROMOTING
    there.move.promote("7300", "")
    assert there.did == ["promote"], "cut short after it, the same again is done"


@pytest.mark.parametrize(("changes", "said"), [
    ({"replayed": "f"}, "has not replayed"), ({"recovery": False}, "has not replayed"), ({"control": control(cluster=8000)}, "no data of this cluster"),
])  # fmt: skip
def test_a_standby_that_lacks_something_does_not_take_over(world, changes, said):
    there = world(role="to", phase="joining", other="one")
    vars(there).update(changes)
    with pytest.raises(OSError, match=said):
        there.move.promote("7300", "1/2000028")
    assert there.did == [] and there.move.state.phase == "joining"


def test_what_was_called_back_does_not_take_over(world):
    """A command that comes late, of the run that gave it up or of one before."""
    there = world(role="to", phase="joining", other="one")
    assert there.move.retire(["run-2", "run-1"]) == {"retired": True}
    with pytest.raises(OSError, match="called back"):
        there.move.promote("7300", "1/2000028")
    there.move.identity = "run-3"
    there.move.promote("7300", "1/2000028")
    assert there.move.retire(["run-3"]) == {"retired": False}, "it serves"


def test_one_that_serves_is_not_called_back(world):
    there = world(role="to", phase="joining", other="one")
    there.recovery = False
    assert there.move.retire(["run-2"]) == {"retired": False}


def test_the_old_one_is_closed_once_it_has_stopped_in_order(world):
    there = world(role="from", phase="joining", other="two")
    assert there.move.stop() == {"cluster": "7300", "checkpoint": "1/2000028", "timeline": 1}
    assert closed_component.reason("postgresql", there.move.state.directory).startswith("PostgreSQL has gone to two")
    assert there.did == ["stop", "mask postgres.service"] and there.move.state.phase == move_state.STOPPING
    there.move.undo()
    assert closed_component.reason("postgresql", there.move.state.directory) == ""
    assert there.did[2:] == ["unmask postgres.service", "start"] and there.move.state.phase == "joining"
    there.control = control(state=5)
    with pytest.raises(OSError, match="did not stop in order"):
        there.move.stop()


@pytest.mark.parametrize(
    ("step", "phase"), [("stop", ""), ("stop", "moved"), ("close", "joining"), ("forget", "stopping"), ("leave", "promoting"), ("settle", "joining")]
)
def test_a_step_at_the_wrong_time_does_nothing(world, step, phase):
    there = world(phase=phase, other="two")
    with pytest.raises(OSError, match="a move is at"):
        getattr(there.move, step)(*(["10.0.0.2"] if step == "close" else []))
    assert there.did == [] and there.move.state.phase == phase


def test_the_secret_of_a_standby_goes_when_it_has_moved(world, tmp_path):
    there = world(role="from", phase="stopping", other="two", password="a secret of the move")
    (tmp_path / "pg_hba.conf").write_text(f"{move.LETS_IN}\nlocal all all peer\n")
    there.running = False
    there.move.close("10.0.0.2")
    assert "secret" not in (tmp_path / move_state.STATE).read_text() and (tmp_path / "pg_hba.conf").read_text() == "local all all peer\n"
    assert there.did[0] == "mask postgres.service" and "disable --now pitr-receive.service" in there.did[1]


@pytest.mark.parametrize("component", ["postgresql", "pitr"])
def test_no_role_opens_what_is_closed(component, tmp_path, monkeypatch):
    """The engine unmasks the unit of a component that it puts in place."""
    monkeypatch.setattr(closed_component.reason, "__defaults__", (str(tmp_path),))
    closed_component.close(component, "it has gone to two", str(tmp_path))
    data = {"component": component, "state": "present", "user": "nobody-of-this-name", "home": "/h"}
    assert component_apply.apply_or_error(data) == {"msg": f"{component}: it has gone to two"}
    assert component_apply.apply_or_error(data, check=True) == {"msg": f"{component}: it has gone to two"}
    closed_component.reopen(component, str(tmp_path))
    assert "no user 'nobody-of-this-name'" in component_apply.apply_or_error(data)["msg"]


# The pooler
INI = """[databases]
senex = host=10.0.0.1 port=5432 dbname=senex auth_dbname=senex_pooler
senex_pooler = host=10.0.0.1 port=5432 dbname=postgres auth_dbname=senex_pooler pool_size=2

[pgbouncer]
listen_addr = 10.0.0.1
"""


def test_the_pooler_is_led_to_another_server(tmp_path, monkeypatch):
    text = move_pooler.pointed(INI, "10.0.0.2", 5433)
    assert move_pooler.servers(INI) == ["10.0.0.1:5432"] and move_pooler.servers(text) == ["10.0.0.2:5433"]
    assert text.replace("host=10.0.0.2 port=5433", "host=10.0.0.1 port=5432") == INI and "listen_addr = 10.0.0.1" in text
    path, asked = tmp_path / "pgbouncer.ini", []
    path.write_text(INI)
    monkeypatch.setattr(move_pooler, "CONFIGURATION", str(path))
    monkeypatch.setattr(move_pooler, "READ", 0.1)
    rows = [{"name": "pgbouncer", "host": "", "port": "6432"}, {"name": "senex", "host": "10.0.0.1", "port": "5432"}]
    state = [{"key": "active", "value": "no"}, {"key": "paused", "value": "yes"}]

    def console(*words, timeout=60):
        asked.append(words)
        if words == ("pause",) and timeout < 60 and stuck:
            raise subprocess.TimeoutExpired(words, timeout)
        return json.dumps(state if words[-1] == "state" else rows)

    stuck = []
    monkeypatch.setattr(move_pooler, "_console", console)
    monkeypatch.setattr(move_pooler.subprocess, "run", lambda *_words, **_named: contextlib.nullcontext())
    with pytest.raises(OSError, match="has not read"):
        move_pooler.point("10.0.0.2", 5432)
    assert ("resume",) not in asked, "nobody goes on at the server that is closed"
    rows[1]["host"] = "10.0.0.2"
    assert move_pooler.point("10.0.0.2", 5432)["changed"] is False and asked[-1] == ("resume",)
    state[1]["value"] = "no"
    move_pooler.point("10.0.0.2", 5432)
    assert asked[-1] != ("resume",), "where nobody waits it is an error"
    assert move_pooler.pause()["servers"] == ["10.0.0.2:5432"]
    state[1]["value"] = "yes"
    stuck.append(1)
    with pytest.raises(OSError, match="a transaction did not end"):
        move_pooler.pause()
    assert asked[-1] == ("resume",)
