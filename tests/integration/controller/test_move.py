"""A move of PostgreSQL whose hosts stop answering, whose steps fail, or whose controller is killed, at each step: the playbook itself, over hosts that are
directories. Never do two servers take writes, and never does a run leave it to a person to find out who serves."""

import json
import shutil

import pytest
from simulated import Hosts
from stack import ROOT

GROUPS = {
    "postgresql": ["one"], "redis": ["one"], "web": ["one"], "celery": ["one"], "celery_beat": ["one"], "nginx": ["one"], "pgbouncer": ["one"],
    "backup": ["one"], "watchdog": ["one"], "spare": ["two"],
}  # fmt: skip
CLUSTER = {"version": 15, "image": "x", "uid": 999, "superuser": "postgres", "owner": "senex", "database": "senex", "shared_memory": 64, "checksums": True,
           "data": "data", "sockets": "run", "configuration": "config", "unit": "postgres.service", "container": "postgres"}  # fmt: skip
SERVER = '''

import json as _json
import struct as _struct

from ansible_collections.senex.trader.plugins.module_utils import stub_trip

_Real = Move


class _Server:
    """A file with its mode and whether it runs."""

    def __init__(self, here):
        self.path = os.path.join(here, "pg")

    @property
    def now(self):
        return _json.load(open(self.path)) if os.path.exists(self.path) else {"mode": "none", "runs": False, "masked": False}

    def put(self, **changes):
        now = {**self.now, **changes}
        with open(self.path, "w") as file:
            _json.dump(now, file)

    def rows(self, text, database="postgres"):
        if not self.now["runs"]:
            raise OSError("PostgreSQL does not answer")
        recovery = "t" if self.now["mode"] == "standby" else "f"
        if "pg_promote" in text:
            self.put(mode="primary")
            stub_trip.at("promoted")
            return [["t"]]
        return [["t", recovery]] if "replay_lsn() >" in text else [[recovery]]

    def start(self, after_failure=False):
        if self.now["masked"]:
            raise OSError("the unit is masked")
        self.put(runs=True)
        stub_trip.at("started")

    def stop(self, check=True):
        self.put(runs=False)
        stub_trip.at("stopped")

    def is_ready(self):
        return self.now["runs"]

    is_running = is_ready


class Move(_Real):
    def __init__(self, user, wanted, identity):
        here = os.environ["STUB_AT"]
        self.user, self.wanted, self.identity, self.state = user, wanted, identity, State(here)
        self.server = self.service = _Server(here)
        move_state.control_of = lambda _path: move_state.Control("7300", SHUT_DOWN, 7, 1)

    def _fence(self, whether):
        self.service.put(masked=whether)
        stub_trip.at("fenced" if whether else "opened")

    def _let_in(self, whether):
        pass

    def found(self):
        now = self.service.now
        there = now["mode"] != "none"
        return {"state": self.state.data, "cluster": "7300" if there else "", "filled": there, "serves": now["runs"], "standby": now["mode"] == "standby",
                "major": 15, "bytes": 1, "tablespaces": "", "authority": True, "senders": True, "slots": True, "wal_level": "replica", "free": 1 << 40}

    def admit(self, target):
        answer = super().admit(target)
        stub_trip.at("admitted")
        return answer

    def behind(self):
        return {"bytes": 0, "caught_up": True}

    def join(self, source, address, port, password, authority, cluster):
        with self.state.alone():
            self.state.begin(role="to", phase=JOINING, other=source, id=self.identity, joined=True)
            self._fence(False)
            self.service.put(mode="standby", runs=True)
        stub_trip.at("joined")
        return {"joined": True, "kept": ""}

    def settle(self):
        answer = super().settle()
        stub_trip.at("settled")
        return answer

    def close(self, address):
        answer = super().close(address)
        stub_trip.at("closed")
        return answer

    def leave(self):
        with self.state.alone():
            self.service.put(mode="none", runs=False)
            self.state.begin()
        return {"aside": "/aside"}
'''
POOLER = """
import os as _os

from ansible_collections.senex.trader.plugins.module_utils import stub_trip


def _pool(**changes):
    path = _os.path.join(_os.environ["STUB_AT"], "pool")
    now = {**(json.load(open(path)) if _os.path.exists(path) else {"paused": False, "server": "one"}), **changes}
    with open(path, "w") as file:
        json.dump(now, file)


def pause():
    _pool(paused=True)
    stub_trip.at("paused")
    return {"since": time.time(), "servers": []}


def point(address, port):
    _pool(paused=False, server=address)
    stub_trip.at("pointed")
    return {"until": time.time(), "changed": True}
"""
FACTS = """from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        return {"changed": False, "unchanged": {}, "installed": [], "ansible_facts": {"ansible_distribution": "Debian"}}
"""
STEPS = ("admitted", "joined", "paused", "stopped", "fenced", "promoted", "pointed", "closed", "settled")
HOST_OF = {"joined": "two", "promoted": "two", "settled": "two"}
TAKEN_OVER = ("promoted", "pointed", "closed", "settled")


class MoveHosts(Hosts):
    def __init__(self, home):
        super().__init__(
            home,
            GROUPS,
            senex_private_address="{{ inventory_hostname }}",
            senex_ca_certificate="x",
            senex_user="senex",
            senex_home="/h",
            senex_database_port=5432,
        )
        plugins, roles = self.tree / "plugins", self.tree / "roles"
        for name, text in (("move", SERVER), ("move_pooler", POOLER)):
            path = plugins / f"module_utils/postgresql/{name}.py"
            path.write_text(path.read_text() + text)
        module = plugins / "modules/postgresql_move.py"
        module.write_text(module.read_text().replace("not has_manager(given[", "False and has_manager(given["))
        (plugins / "action/facts.py").write_text(FACTS)
        for name in ("common/tasks", "postgresql/vars"):
            (roles / name).mkdir(parents=True)
        (roles / "common/tasks/main.yml").write_text("- ansible.builtin.meta: noop\n")
        (roles / "postgresql/vars/main.yml").write_text(json.dumps({"__postgresql_cluster": CLUSTER}))
        (roles / "postgresql/tasks/check.yml").write_text("- ansible.builtin.meta: noop\n")
        shutil.copy(ROOT / "roles/postgresql/tasks/move_step.yml", roles / "postgresql/tasks/move_step.yml")
        (self.place / "one/pg").write_text(json.dumps({"mode": "primary", "runs": True, "masked": False}))

    def move(self, to="two", *words):
        return self.play("move.yml", "-e", "component=postgresql", "-e", f"to={to}", *(words or ("-e", "move_confirm=true")))

    def read(self, host, name):
        path = self.place / host / name
        return json.loads(path.read_text()) if path.exists() else {}

    def serving(self):
        return [host for host in ("one", "two") if self.read(host, "pg").get("mode") == "primary" and self.read(host, "pg")["runs"]]

    def pool(self):
        return self.read("one", "pool")

    def phases(self):
        return [self.read(host, "postgresql-move.state").get("phase", "") for host in ("one", "two")]

    def has_moved(self):
        assert self.serving() == ["two"] and self.read("one", "pg")["masked"] and self.pool() == {"paused": False, "server": "two"}, self.said
        assert self.phases() == ["moved", ""] and self.locked() == [], self.said


@pytest.fixture
def hosts(tmp_path):
    return MoveHosts(tmp_path)


def test_a_plan_and_a_move(hosts):
    assert hosts.move("two", "-e", "x=1").returncode == 0, hosts.said
    assert "Nothing was changed" in hosts.said and hosts.log_of_points() == [] and hosts.locked() == []
    assert hosts.move("two", "-e", "move_confrim=true").returncode != 0 and "move_confrim: is no variable of a move" in hosts.said
    assert hosts.move().returncode == 0, hosts.said
    hosts.has_moved()
    assert "postgresql: {hosts: {two: }}" in hosts.said and "PostgreSQL serves on two." in hosts.said
    assert hosts.move().returncode == 0 and "Nothing to do" in hosts.said, hosts.said


@pytest.mark.faults
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("what", ["fail", "killed", "lost"])
def test_whatever_happens_at_a_step(hosts, step, what):
    """A step fails after it did its work, its host is lost then, or the controller is killed. One serves, or none; the same command comes to an end."""
    host = HOST_OF.get(step, "one")
    hosts.trip(host, step, what)
    done = hosts.move()
    assert done.returncode != 0, hosts.said
    assert len(hosts.serving()) <= 1, hosts.said
    if what == "fail":
        assert hosts.serving() == (["two"] if step in TAKEN_OVER else ["one"]), hosts.said
        assert step in ("promoted", "pointed") or not hosts.pool().get("paused"), hosts.said
    hosts.back()
    for _ in range(2):
        again = hosts.move()
        assert len(hosts.serving()) == 1, hosts.said
        if hosts.phases()[0] == "moved":
            break
        assert again.returncode == 0 and "serves on one again" in hosts.said, hosts.said
        assert hosts.pool()["paused"] is False and hosts.pool()["server"] == "one"
    assert again.returncode == 0, hosts.said
    hosts.has_moved()


@pytest.mark.faults
def test_it_is_given_up(hosts):
    hosts.trip("two", "joined", "fail")
    assert hosts.move().returncode != 0
    assert hosts.move("two", "-e", "move_cancel=true").returncode == 0, hosts.said
    assert hosts.phases() == ["", ""] and hosts.serving() == ["one"] and hosts.locked() == [] and "is given up" in hosts.said
