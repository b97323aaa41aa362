"""A move of Redis to another host: what keeps it from beginning, where a run that was cut short goes on, and that never two of them take writes."""

import contextlib
import re
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from ansible_collections.senex.trader.plugins.filter import moving
from ansible_collections.senex.trader.plugins.module_utils.host import closed_component
from ansible_collections.senex.trader.plugins.module_utils.nginx import detached_hold
from ansible_collections.senex.trader.plugins.module_utils.redis import client, forwarder, move
from ansible_collections.senex.trader.plugins.module_utils.redis.client import Address, Client, Refused, fields

ROOT = Path(__file__).parents[2]
GROUPS = {"all": ["one", "two"], "redis": ["one"], "web": ["one"], "celery": ["one"]}
GIVEN = {"component": "redis", "to": "two", "own_address": True}
NAMES = {"component": "redis", "from": "one", "to": "two", "address": "10.0.0.2", "room": 300 << 20}
SOURCE = {"component": "redis", "state": {}, "serves": True, "replica": False, "loading": False, "version": "7.0.15", "bytes": 100 << 20, "published": True,
          "filled": True}  # fmt: skip
BARE = {"component": "redis", "state": {}, "serves": False, "filled": False}


@pytest.mark.parametrize(("groups", "given", "said"), [
    ({}, {}, None),
    ({"redis": ["one", "two"]}, {}, "must have the one host"),
    ({"celery": ["one", "two"]}, {}, None),
    ({"pgbouncer": []}, {}, None),
    ({}, {"to": "three"}, "leave it out of the group redis"),
])  # fmt: skip
def test_what_a_run_is_given(groups, given, said):
    found = moving.move_input_problems({**GROUPS, **groups}, {**GIVEN, **given})
    assert len(found) == bool(said) and (not said or said in found[0]), found


@pytest.mark.parametrize(("source", "target", "names", "said"), [
    ({}, {}, {}, None),
    ({"serves": False}, {}, {}, "Redis does not serve there"),
    ({"replica": True}, {}, {}, "Redis does not serve there"),
    ({"published": False}, {}, {}, 'redis_publish_address: "{{ senex_private_address }}"'),
    ({}, {"filled": True}, {}, "has something already"),
    ({}, {"filled": True, "state": {"phase": "moved"}}, {}, None),
    ({}, {"filled": True, "state": {"phase": "moved", "forwards": True}}, {}, "clients are led from there to one still"),
    ({}, {}, {"room": 64 << 20}, "redis_maxmemory: 64 MB on two are too few for 100 MB"),
    ({"state": {"phase": "joining", "other": "three"}}, {}, {}, "a move to three is under way"),
])  # fmt: skip
def test_what_the_two_hosts_have(source, target, names, said):
    found = moving.move_problems({**SOURCE, **source}, {**BARE, **target}, {**NAMES, **names})
    assert len(found) == bool(said) and (not said or said in found[0]), found


@pytest.mark.parametrize(("source", "target", "way"), [
    ("", "", "forward"), ("joining", "joining", "forward"), ("stopping", "joining", "undo"), ("promoting", "joining", "finish"),
    ("leading", "joining", "finish"), ("moved", "joining", "finish"), ("moved", "", "none"), ("", "moved", "forward"),
])  # fmt: skip
def test_where_it_goes_from_here(source, target, way):
    assert moving.move_way({**SOURCE, "state": {"phase": source}}, {**BARE, "state": {"phase": target}}) == way


def test_the_inventory_is_asked_for_in_the_same_words():
    asked = " ".join(moving.move_inventory("one", "two", "redis"))
    (refused,) = moving.move_refusal({"redis": {"phase": "moved", "role": "from", "other": "two", "at": "then"}, "postgresql": {}}, "one", ["redis", "web"])
    told = [moving.move_lines(SOURCE, BARE, NAMES, "forward", False), moving.move_done(NAMES, 3.1), moving.move_failure({"taken_over": True}, NAMES)]
    assert "redis: {hosts: {two: }}" in asked and asked in refused and all(asked in " ".join(lines) for lines in told)
    (refused,) = moving.move_refusal({"redis": {"phase": "joining", "role": "to", "other": "one"}}, "two", ["redis"])
    assert "Redis to two is not at its end" in refused and "component=redis -e to=two -e move_cancel=true" in refused


def test_workers_end_what_they_have_before_redis_goes_over_and_start_whatever_happens():
    plays = [play.get("name", "") for play in yaml.safe_load((ROOT / "playbooks/move.yml").read_text())]
    at = [plays.index(f"{word} what takes tasks from Redis") for word in ("Stop", "Start")]
    assert at[0] < plays.index("Switch over while clients wait") < at[1] < plays.index("Release the deploy lock on every host")
    rest, work = (yaml.safe_load((ROOT / f"playbooks/move/redis/{name}.yml").read_text())[0] for name in ("rest", "work"))
    stops = next(task["senex.trader.application"] for task in rest["block"] if "senex.trader.application" in task)
    assert stops["web"] is False, "the site serves"
    assert "'rests' in operation_confirmed" in work["when"] and "__move_failures" not in work["when"]
    assert [list(task)[1] for task in rest["block"]][:2] == ["ansible.builtin.set_fact", "senex.trader.application"], "noted before, not after"


def test_stages_use_nothing_that_only_a_role_knows():
    """A play without roles has none of their defaults: what a host is to a move, its look has saved."""
    for path in (ROOT / "playbooks/move").rglob("*.yml"):
        assert not re.search(r"\bsenex_(user|home)\b", path.read_text()), path


# What is asked of Redis, over TLS
def test_what_redis_answers(tmp_path, monkeypatch):
    """A server of plain bytes; TLS is the library's."""
    monkeypatch.setattr(client.ssl, "create_default_context", lambda cadata: SimpleNamespace(wrap_socket=lambda bare, server_hostname: bare))
    door = socket.create_server(("127.0.0.1", 0))
    heard = []

    def serve():
        there, _ = door.accept()
        with there:
            for answer in (b"+OK\r\n", b"$20\r\nrole:master\r\na:b:c\r\n\r\n", b"-READONLY no\r\n", b"$-1\r\n", b":7\r\n", b"$9\r\ncut"):
                heard.append(there.recv(4096))
                there.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    with door, Client(Address("127.0.0.1", door.getsockname()[1], "x", "_move", "a word")) as ask:
        assert fields(ask("INFO", "replication")) == {"role": "master", "a": "b:c"}
        with pytest.raises(Refused, match="READONLY"):
            ask("SET", "a", "é")
        assert [ask("GET", "a"), ask("DBSIZE")] == ["", "7"]
        with pytest.raises(OSError, match="ended the connection"):
            ask("GET", "b")
    thread.join()
    assert heard[0] == b"*3\r\n$4\r\nAUTH\r\n$5\r\n_move\r\n$6\r\na word\r\n" and heard[2].endswith(b"$2\r\n\xc3\xa9\r\n")


@pytest.mark.parametrize(("info", "kin"), [
    ({"role": "slave", "master_replid": "a", "slave_repl_offset": "70"}, "replica"),
    ({"role": "slave", "master_replid": "a", "slave_repl_offset": "69"}, ""),
    ({"role": "slave", "master_replid": "b", "slave_repl_offset": "70"}, ""),
    ({"role": "master", "master_replid": "c", "master_replid2": "a", "second_repl_offset": "71"}, "successor"),
    ({"role": "master", "master_replid": "c", "master_replid2": "a", "second_repl_offset": "70"}, ""),
    ({"role": "master", "master_replid": "c", "master_replid2": "0", "second_repl_offset": "-1"}, ""),
])  # fmt: skip
def test_who_has_the_data_of_one_that_stopped(info, kin):
    """By the words of INFO: where a successor's own history begins, one past the last byte that both have."""
    assert move.lineage(info, "a", 70) == kin


# The switch
class Killed(BaseException):
    """The process ends where it is."""


class World:
    """Two hosts with a Redis each, and the place where the old one was."""

    def __init__(self, tmp_path, monkeypatch):
        self.one = {"runs": True, "role": "master", "masked": False}
        self.two = {"runs": True, "role": "slave", "offset": 70, "mine": True}
        self.forwards, self.paused, self.did, self.meets, self.reached = False, False, [], {}, True
        for name in ("EQUAL", "TAKES_OVER", "LEADS"):
            monkeypatch.setattr(move, name, 0.2)
        monkeypatch.setattr(move, "Client", lambda address, timeout: contextlib.nullcontext(self.client(address.host)))
        monkeypatch.setattr(move.forwarder, "install", lambda *_: self.at("install"))
        monkeypatch.setattr(move.untrusted, "kind", lambda path: "")
        monkeypatch.setattr(move.time, "sleep", lambda _: None)
        self.state, self.monkeypatch = tmp_path, monkeypatch
        self.move = self.again()
        self.move.state.begin(role="from", phase="joining", other="two", password="word")

    def again(self):
        """Another run."""
        user = SimpleNamespace(systemctl=self.systemctl, home="/h", run=None)
        place = {"address": "one", "port": 6390, "data": "data/redis", "authority": "x", "image": "i", "uid": 1, "network": "n", "forwarder": "f"}
        made = move.Move(user, place, "run-2", str(self.state))
        made._cli = self.cli
        return made

    def at(self, point):
        self.did.append(point)
        if error := self.meets.pop(point, None):
            raise error

    def cli(self, *lines):
        for line in lines:
            self.at(line)
            self.paused = self.paused and line != "client unpause"
        return "aof_enabled:1\n"

    def client(self, host):
        if host == "two" or self.forwards:
            if not self.reached or not self.two["runs"]:
                raise OSError("no route")
            return self.ask_two if self.two["mine"] else self.no_user
        if not self.one["runs"]:
            raise OSError("refused")
        return self.ask_one

    def no_user(self, *_):
        raise Refused("WRONGPASS")

    def ask_one(self, *words):
        if words[0] == "CLIENT":
            self.paused = True
            self.at("pause")
        return "role:master\nmaster_replid:a\nmaster_repl_offset:70\n"

    def ask_two(self, *words):
        if words[0] == "REPLICAOF":
            self.at("told")
            self.two["role"] = "master"
            self.at("promoted")
        if self.two["role"] == "master":
            return "role:master\nmaster_replid:c\nmaster_replid2:a\nsecond_repl_offset:71\n"
        return f"role:slave\nmaster_link_status:up\nmaster_replid:a\nslave_repl_offset:{self.two['offset']}\n"

    def systemctl(self, verb, *units, check=True):
        unit, code = units[-1], 0
        if verb in ("stop", "start") and unit == "redis.service":
            if verb == "start" and self.one["masked"]:
                raise OSError("masked")
            self.one["runs"], self.paused = verb == "start", False
        elif unit == "redis.service" and verb in ("mask", "unmask"):
            self.one["masked"] = verb == "mask"
        elif unit == forwarder.UNIT and verb in ("start", "stop"):
            self.forwards = verb == "start"
        elif verb == "is-active":
            code = 0 if self.one["runs"] else 3
        if verb != "is-active":
            self.at(f"{verb} {unit.removesuffix('.service')}")
        return SimpleNamespace(returncode=code)

    @property
    def writable(self):
        """Who takes writes of clients, which have the old address."""
        return (["one"] if self.one["runs"] and not self.paused else []) + (["two"] if self.forwards and self.two["role"] == "master" else [])


@pytest.fixture
def world(tmp_path, monkeypatch):
    return World(tmp_path, monkeypatch)


ORDER = ["install", "info persistence", "config get save", 'config set save ""', "pause", "stop redis", "mask redis", "told", "promoted", "start redis-forward"]


def test_it_goes_over_in_this_order(world):
    world.move.switch("two", 6390)
    assert world.did == ORDER and world.writable == ["two"] and world.move.state.phase == "moved" and "password" not in world.move.state.data
    assert closed_component.reason("redis", str(world.state)).startswith("Redis has gone to two")
    assert world.again().switch("two", 6390) == {"held": 0.0}, "the same again is done"


@pytest.mark.parametrize(("change", "said"), [
    ({"offset": 60}, "has not what was written last"), ({"runs": False}, "no route"), ({"mine": False}, "WRONGPASS"),
])  # fmt: skip
def test_a_replica_that_lacks_something_does_not_take_over(world, change, said):
    world.two.update(change)
    with pytest.raises(OSError, match=said):
        world.move.switch("two", 6390)
    assert world.writable == ["one"] and world.two["role"] == "slave" and world.move.state.phase == "joining" and "stop redis" not in world.did


@pytest.mark.parametrize("error", [OSError, Killed])
@pytest.mark.parametrize("point", [*ORDER[4:], "unmask redis"])
def test_whatever_happens_at_a_step(world, point, error):
    """A step fails after its work, or the process is killed there. One takes writes, or none; the same command comes to an end, and never are there two."""
    if point == "unmask redis":
        world.meets["mask redis"] = OSError("first")
    world.meets[point] = error("it ends here")
    with contextlib.suppress(OSError, Killed):
        world.move.switch("two", 6390)
    assert len(world.writable) <= 1
    found = world.again()
    match moving.move_way({**SOURCE, "state": found.state.data}, {**BARE, "state": {"phase": "joining"}}):
        case "undo":
            found.undo()
            assert world.writable == ["one"]
    world.two["role"] = world.two["role"] if found.state.phase != "joining" else "slave"  # as the step `follow` has it
    assert world.two["role"] == "master" or len(world.writable) <= 1
    found.switch("two", 6390)
    assert world.writable == ["two"] and found.state.phase == "moved" and world.one["masked"]


def test_one_that_was_told_and_does_not_answer_is_left_as_it_is(world):
    """It may have taken over: the old one must not start."""
    world.meets["promoted"] = OSError("cut")
    ask = world.ask_two

    def silent(*words):
        try:
            return ask(*words)
        except OSError:
            world.reached = False
            raise

    world.ask_two = silent
    with pytest.raises(OSError, match="both are left as they are"):
        world.move.switch("two", 6390)
    assert world.writable == [] and world.move.state.phase == "promoting" and world.one["masked"]
    world.reached = True
    world.again().switch("two", 6390)
    assert world.writable == ["two"]


def test_one_that_was_started_anew_before_anybody_was_led_there_is_not_taken(world):
    world.meets["told"] = Killed()
    with contextlib.suppress(Killed):
        world.move.switch("two", 6390)
    world.two["mine"] = False
    with pytest.raises(OSError, match="Redis serves here as before"):
        world.again().switch("two", 6390)
    assert world.writable == ["one"] and world.again().state.phase == "joining"


@pytest.mark.parametrize(
    ("step", "phase"), [("switch", ""), ("undo", "promoting"), ("forget", "leading"), ("leave", "moved"), ("follow", ""), ("admit", "moved")]
)
def test_a_step_at_the_wrong_time_does_nothing(world, step, phase):
    world.move.state.begin(phase=phase, other="two", password="word")
    given = {"switch": ("two", 1), "follow": ("one", 1, "word"), "admit": ("two",)}
    with pytest.raises(OSError, match="a move is at"):
        getattr(world.move, step)(*given.get(step, ()))
    assert world.did == [] and world.move.state.phase == phase


# What stands in its place
def test_the_unit_of_the_forwarder_has_no_secret_and_everything_closed(tmp_path, monkeypatch):
    monkeypatch.setattr(forwarder, "interpreter", lambda: {"loader": "/usr/lib/x/ld", "libraries": "/usr/lib/x"})
    files = {}
    user = SimpleNamespace(home="/h", uid=1, gid=1, make_directory=lambda *_: None, systemctl=lambda *_, **__: None,
                           writes=lambda _do, items: files.update({path: content for path, content, _owner in items}))  # fmt: skip
    words = {
        "image": "redis:7",
        "network": "senex",
        "uid": 999,
        "address": "10.0.0.1",
        "port": 6390,
        "other": "two",
        "other_address": "10.0.0.2",
        "other_port": 6391,
    }
    forwarder.install(user, "script", "authority", words)
    unit = files["/h/.config/containers/systemd/redis-forward.container"].decode()
    assert "{" not in unit and "PublishPort=10.0.0.1:6390:6390" in unit and re.search(r"^Exec=.* 10.0.0.2 6391$", unit, re.MULTILINE)
    assert {"ReadOnly=true", "NoNewPrivileges=true", "DropCapability=all", "Volume=/usr:/usr:ro"} <= set(unit.splitlines())
    forwarder.remove(user)
    assert files["/h/.config/containers/systemd/redis-forward.container"] is None


def test_the_interpreter_of_this_system_is_found():
    found = forwarder.interpreter()
    assert Path(found["loader"]).exists() and Path(found["libraries"]).is_dir()


def test_bytes_go_both_ways_and_an_end_is_an_end(tmp_path):
    """forward.py itself, from a plain port to a server with TLS."""
    key, certificate = tmp_path / "redis_tls_key", tmp_path / "redis_tls_certificate"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", certificate,
                    "-days", "2", "-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)  # fmt: skip
    with socket.socket() as free, socket.socket() as free_too:
        free.bind(("127.0.0.1", 0))
        free_too.bind(("127.0.0.1", 0))
        plain, secured = free.getsockname()[1], free_too.getsockname()[1]
    text = (ROOT / "roles/redis/files/forward.py").read_text()
    for before, after in (('"/etc/forward/ca.crt"', repr(str(certificate))), ('"/run/secrets"', repr(str(tmp_path))), ('"", 6379', f'"127.0.0.1", {plain}'),
                          ('"", 6390', f'"127.0.0.1", {secured}')):  # fmt: skip
        assert before in text
        text = text.replace(before, after)
    program = tmp_path / "forward.py"
    program.write_text(text)
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as bare, own.wrap_socket(bare, server_side=True) as door:

        def serve():
            for _ in range(2):
                there, _address = door.accept()
                with there:
                    there.sendall(there.recv(100).upper())

        thread = threading.Thread(target=serve)
        thread.start()
        with subprocess.Popen([sys.executable, "-IB", program, "127.0.0.1", str(door.getsockname()[1])]) as process:
            try:
                for port, ahead in ((plain, None), (secured, ssl.create_default_context(cafile=certificate))):
                    for _ in range(200):
                        with contextlib.suppress(OSError):
                            there = socket.create_connection(("127.0.0.1", port), timeout=10)
                            break
                        threading.Event().wait(0.05)
                    with ahead.wrap_socket(there, server_hostname="127.0.0.1") if ahead else there as client_side:
                        client_side.sendall(b"ping")
                        assert client_side.recv(100) == b"PING" and client_side.recv(100) == b"", port
            finally:
                process.terminate()
        thread.join(timeout=10)


# nginx on a host that is neither of the two
@pytest.mark.parametrize("told", [True, False])
def test_a_process_of_its_own_holds_requests_until_it_is_told_or_the_time_is_over(tmp_path, monkeypatch, told):
    class Hold:
        def __init__(self, wanted, run):
            assert wanted == {"contract": str(tmp_path / "contract")} and run == "run"

        def __enter__(self):
            (tmp_path / "held").write_text("")

        def __exit__(self, *_):
            (tmp_path / "over").write_text("")

    monkeypatch.setattr(detached_hold, "RequestHold", Hold)
    monkeypatch.setattr(detached_hold, "LONGEST", 30 if told else 0.1)
    mark = str(tmp_path / "run" / "mark")
    assert set(detached_hold.begin("run", str(tmp_path / "contract"), mark)) == {"since"} and not (tmp_path / "held").exists(), "no nginx, nobody waits"
    (tmp_path / "contract").write_text("{}")
    detached_hold.begin("run", str(tmp_path / "contract"), mark)
    assert (tmp_path / "held").exists(), "before it returns"
    if told:
        assert not (tmp_path / "over").exists()
        detached_hold.end(mark)
    for _ in range(400):
        if (tmp_path / "over").exists():
            break
        threading.Event().wait(0.02)
    assert (tmp_path / "over").exists()
    detached_hold.end(mark)


@pytest.mark.parametrize(
    ("said", "refused"), [("OK\n", False), ("OK\nERR unknown command\n", True), ("NOPERM this user has no\n", True), ("# Replication\nrole:slave\n", False)]
)
def test_what_the_program_in_the_container_ends_with_says_nothing(tmp_path, said, refused):
    user = SimpleNamespace(home="/h", podman=lambda *_, **__: SimpleNamespace(stdout=said))
    made = move.Move(user, {"data": "data/redis"}, "run", str(tmp_path))
    if refused:
        with pytest.raises(OSError, match="Redis says: "):
            made._cli("config set save x")
    else:
        assert made._cli("info") == said
