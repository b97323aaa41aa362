"""A move of Redis whose steps fail, whose hosts are lost or whose controller is killed: the playbook itself, over hosts that are directories. What happens
at each step of the switch is in tests/unit/test_move_redis.py; here, that the same command comes to an end, and that workers run again."""

import json
import shutil

import pytest
from simulated import Hosts
from stack import ROOT

GROUPS = {
    "postgresql": ["one"], "redis": ["one"], "web": ["one"], "celery": ["one"], "celery_beat": ["one"], "nginx": ["one"], "backup": ["one"],
    "watchdog": ["one"], "spare": ["two"],
}  # fmt: skip
PLACE = {"image": "x", "uid": 999, "network": "n", "address": "{{ inventory_hostname }}", "port": 6390, "data": "data", "authority": "x", "forwarder": "f"}
SERVER = """

import contextlib as _contextlib
import json as _json
from types import SimpleNamespace as _Names

from ansible_collections.senex.trader.plugins.module_utils import stub_trip

_Real = Move
forwarder.install = lambda *_: None
forwarder.remove = lambda *_: None


def _file(here):
    return os.path.join(here, "redis")


def _now(here):
    return _json.load(open(_file(here))) if os.path.exists(_file(here)) else {"role": "none", "runs": False, "masked": False, "forwards": False}


def _put(here, **changes):
    text = _json.dumps({**_now(here), **changes})
    with open(_file(here), "w") as file:
        file.write(text)


class _User:
    home, run = "/h", None

    def __init__(self, here):
        self.here = here

    def systemctl(self, verb, *units, check=True):
        unit, now = units[-1], _now(self.here)
        if unit == UNIT and verb in ("start", "stop"):
            if verb == "start" and now["masked"]:
                raise OSError("masked")
            _put(self.here, runs=verb == "start")
        elif unit == UNIT and verb in ("mask", "unmask"):
            _put(self.here, masked=verb == "mask")
        elif unit == forwarder.UNIT and verb in ("start", "stop"):
            _put(self.here, forwards=verb == "start")
        if verb != "is-active":
            stub_trip.at(f"{verb} {unit}")
        return _Names(returncode=0 if now["runs"] else 3)


class Move(_Real):
    def __init__(self, user, place, identity):
        self.here = os.environ["STUB_AT"]
        self.user, self.place, self.identity, self.state = _User(self.here), place, identity, State(self.here)

    def _cli(self, *lines):
        return "role:" + _now(self.here)["role"] + "\\nmaster_link_status:up\\nmaster_sync_in_progress:0\\n"

    def _client(self, host, port, timeout=3.0):
        there = os.path.join(os.path.dirname(self.here), host)
        if _now(there)["forwards"]:
            there = os.path.join(os.path.dirname(self.here), self.state.data["other"])

        def ask(*words):
            now = _now(there)
            if not now["runs"]:
                raise OSError("refused")
            if words[0] == "REPLICAOF":
                _put(there, role="successor")
                stub_trip.at("promoted")
            if now["role"] == "successor":
                return "role:master\\nmaster_replid:b\\nmaster_replid2:a\\nsecond_repl_offset:71\\n"
            return {"master": "role:master\\nmaster_replid:a\\nmaster_repl_offset:70\\n",
                    "slave": "role:slave\\nmaster_link_status:up\\nmaster_replid:a\\nslave_repl_offset:70\\n"}[now["role"]]

        return _contextlib.nullcontext(ask)

    def found(self):
        now = _now(self.here)
        return {"component": "redis", "state": shown(self.state.data), "filled": now["role"] != "none", "serves": now["runs"],
                "replica": now["role"] == "slave", "version": "7", "bytes": 1, "loading": False, "published": True}

    def admit(self, target):
        answer = super().admit(target)
        stub_trip.at("admitted")
        return answer

    def clear(self, source):
        with self.state.alone():
            self.state.begin(role="to", phase=JOINING, other=source, id=self.identity)
        return {"new": True}

    def follow(self, address, port, password):
        with self.state.alone():
            _put(self.here, role="slave", runs=True)
        stub_trip.at("follows")
        return {}

    def settle(self):
        with self.state.alone():
            self.state.begin()
        stub_trip.at("settled")
        return {"kept": ""}

    def leave(self):
        with self.state.alone():
            _put(self.here, role="none", runs=False)
            self.state.begin()
        return {"aside": "/aside"}
"""
FACTS = """from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        return {"changed": False, "unchanged": {}, "installed": [], "ansible_facts": {"ansible_distribution": "Debian"}}
"""
STEPS = (
    "admitted", "follows", "stop celery-worker.service", "stop redis.service", "mask redis.service", "promoted", "start redis-forward.service",
    "start celery-worker.service", "settled",
)  # fmt: skip
ON_TWO = ("follows", "settled")


class RedisHosts(Hosts):
    def __init__(self, home):
        variables = {"senex_private_address": "{{ inventory_hostname }}", "senex_ca_certificate": "x", "senex_user": "senex", "senex_home": "/h"}
        super().__init__(home, GROUPS, **variables, redis_maxmemory="256M")
        plugins, roles = self.tree / "plugins", self.tree / "roles"
        path = plugins / "module_utils/redis/move.py"
        path.write_text(path.read_text() + SERVER)
        module = plugins / "modules/redis_move.py"
        module.write_text(module.read_text().replace("not has_manager(given[", "False and has_manager(given["))
        (plugins / "action/facts.py").write_text(FACTS)
        for name in ("common/tasks", "redis/tasks", "redis/vars", "podman/tasks"):
            (roles / name).mkdir(parents=True, exist_ok=True)
        for name in ("common", "podman", "redis"):
            (roles / name / "tasks/main.yml").write_text("- ansible.builtin.meta: noop\n")
        (roles / "redis/tasks/check.yml").write_text("- ansible.builtin.meta: noop\n")
        (roles / "redis/vars/main.yml").write_text(json.dumps({"__redis_move_place": PLACE}))
        shutil.copy(ROOT / "roles/redis/tasks/move_step.yml", roles / "redis/tasks/move_step.yml")
        (self.place / "one/redis").write_text(json.dumps({"role": "master", "runs": True, "masked": False, "forwards": False}))

    def move(self, *words):
        return self.play("move.yml", "-e", "component=redis", "-e", "to=two", *(words or ("-e", "move_confirm=true")))

    def read(self, host, name):
        path = self.place / host / name
        return json.loads(path.read_text()) if path.exists() else {}

    def writable(self):
        one, two = self.read("one", "redis"), self.read("two", "redis")
        return (["one"] if one["runs"] else []) + (["two"] if one["forwards"] and two.get("role") == "successor" else [])

    def phases(self):
        return [self.read(host, "redis-move.state").get("phase", "") for host in ("one", "two")]

    def has_moved(self):
        assert self.writable() == ["two"] and self.read("one", "redis")["masked"] and self.phases() == ["moved", ""], self.said
        assert self.locked() == [] and "celery-worker.service" in self.running()["one"], self.said


@pytest.fixture
def hosts(tmp_path):
    return RedisHosts(tmp_path)


def test_a_plan_and_a_move(hosts):
    assert hosts.move("-e", "x=1").returncode == 0, hosts.said
    assert "Nothing was changed" in hosts.said and hosts.log_of_points() == [] and hosts.locked() == []
    assert hosts.move().returncode == 0, hosts.said
    hosts.has_moved()
    assert "redis: {hosts: {two: }}" in hosts.said and "Redis serves on two." in hosts.said
    points = [point for point in hosts.log_of_points() if any(point.endswith(step) for step in STEPS)]
    assert [point.split(" ", 1)[1] for point in points] == list(STEPS), points
    assert hosts.move().returncode == 0 and "Nothing to do" in hosts.said, hosts.said


@pytest.mark.faults
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("what", ["fail", "killed", "lost"])
def test_whatever_happens_at_a_step(hosts, step, what):
    """A step fails after it did its work, its host is lost then, or the controller is killed. One serves, or none; the same command comes to an end."""
    hosts.trip("two" if step in ON_TWO else "one", step, what)
    done = hosts.move()
    assert done.returncode != 0, hosts.said
    assert len(hosts.writable()) <= 1, hosts.said
    if what == "fail" and step not in ("promoted", "start redis-forward.service", "start celery-worker.service"):
        assert hosts.writable() and "celery-worker.service" in hosts.running()["one"], hosts.said
    hosts.back()
    for _ in range(2):
        again = hosts.move()
        assert len(hosts.writable()) == 1 and "celery-worker.service" in hosts.running()["one"], hosts.said
        if hosts.phases()[0] == "moved":
            break
        assert again.returncode == 0 and "serves on one again" in hosts.said, hosts.said
    assert again.returncode == 0, hosts.said
    hosts.has_moved()


@pytest.mark.faults
def test_it_is_given_up(hosts):
    hosts.trip("two", "follows", "fail")
    assert hosts.move().returncode != 0
    assert hosts.move("-e", "move_cancel=true").returncode == 0, hosts.said
    assert hosts.phases() == ["", ""] and hosts.writable() == ["one"] and hosts.locked() == [] and "is given up" in hosts.said
