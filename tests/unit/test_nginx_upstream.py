"""Out of nginx's rotation and back in: only the named servers, only where another one is there, and what is under way ends first."""

import contextlib
import http.server
import json
import re
import socket
import threading
import time
from collections import Counter
from types import SimpleNamespace

import pytest
from ansible_collections.senex.trader.plugins.action import nginx_upstream as action
from ansible_collections.senex.trader.plugins.module_utils.nginx import nginx_upstream
from ansible_collections.senex.trader.plugins.plugin_utils.answering import LockedAction
from nginx_door import evaluated, free_ports, rendered

TWO = ["127.0.0.1:8001", "127.0.0.1:8002"]
OTHERS = ["10.0.0.6:8001", "10.0.0.6:8002"]


@pytest.fixture
def contract(tmp_path, monkeypatch):
    """Writes what role nginx says of these servers; nothing else is there."""
    monkeypatch.setattr(nginx_upstream, "EARLIER", str(tmp_path / "maps.conf"))
    monkeypatch.setattr(nginx_upstream, "EARLIER_FLAGS", str(tmp_path / "out"))
    monkeypatch.setattr(nginx_upstream, "serves", lambda server, ask: True)
    file = tmp_path / "upstream.json"

    def write(*servers, **more):
        hosts = list(dict.fromkeys(nginx_upstream.host_of(server) for server in servers))
        file.write_text(json.dumps({"version": 1, "servers": servers, "hosts": hosts if len(hosts) > 1 else [], "flags": str(tmp_path / "out"), **more}))
        return file

    return write


def turn(file, *servers, **more):
    return nginx_upstream.UpstreamServers({"contract": str(file), "servers": list(servers), **more})


def test_leaves_and_comes_back(contract, tmp_path):
    file = contract(*TWO)
    first = nginx_upstream.UpstreamServers({"contract": str(file), "server": TWO[0]})
    assert first.drain() and first.drained() == [TWO[0]] and (tmp_path / "out" / TWO[0]).is_file()
    assert first.drain(), "it is out, whoever took it out"
    assert not turn(file, TWO[1]).drain(), "the last one stays"
    assert turn(file, TWO[0]).restore() and first.drained() == [] and not turn(file, TWO[0]).restore()


def test_all_servers_of_a_host_leave_by_one_flag(contract, tmp_path):
    """An address alone means all servers there, be there one, two or none."""
    file = contract(*TWO, *OTHERS)
    whole = turn(file, "10.0.0.6")
    assert whole.drain() and whole.drained() == OTHERS and (tmp_path / "out/10.0.0.6").is_file()
    assert turn(file, TWO[0]).drain() and not turn(file, TWO[1]).drain(), "flagged servers take nothing"
    assert turn(file, "10.0.0.6").restore() and whole.drained() == [] and not whole.restore()
    assert turn(file, TWO[0]).restore()
    nobody = turn(file, "10.0.0.7")
    assert not nobody.missing() and not nobody.drain() and not nobody.restore()


def test_what_nginx_has_no_pool_for_stays(contract, tmp_path):
    """Two flags at once lead to the pool without the second of them, which has the first."""
    file = contract(*TWO, *OTHERS)
    assert not turn(file, TWO[0], OTHERS[0]).drain() and not turn(file, *TWO, *OTHERS).drain()
    file = contract(*TWO, *OTHERS, hosts=[])
    assert not turn(file, "10.0.0.6").drain() and not (tmp_path / "out").exists()


def test_a_server_that_is_not_there_changes_nothing(contract, tmp_path):
    absent = turn(contract(*TWO), "127.0.0.1:800")
    assert not absent.drain() and absent.missing() == ["127.0.0.1:800"] and not absent.restore() and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"version": 2, "pools": []}', "is of version 2, and this collection knows 1"),
        ("{", "cannot be read"),
        ('{"version": 1}', "cannot be read"),
        ("[]", "cannot be read"),
    ],
)
def test_a_contract_that_is_not_understood_restarts_nothing(contract, text, why):
    file = contract(*TWO)
    file.write_text(text)
    with pytest.raises(OSError, match=f"upstream.json {why}.*run playbooks/site.yml"):
        turn(file, TWO[0])


HOSTS = {"groups": {"web": ["web1", "web2"]}, "hostvars": {"web2": {"senex_private_address": "10.0.0.6"}}}


@pytest.mark.parametrize(
    ("inputs", "whole"), [({}, []), (HOSTS, ["10.0.0.6", "127.0.0.1"]), ({"nginx_web_instances": 1}, [])], ids=["one host", "two", "one server"]
)
@pytest.mark.parametrize("converted", [True, False], ids=["contract", "files of before"])
def test_what_the_engine_raises_is_what_nginx_looks_for(contract, tmp_path, inputs, whole, converted):
    """By the role's own templates: its contract, or on a host that has none yet the upstreams of its file."""
    file, flags = tmp_path / "upstream.json", "/run/senex.trader/out"
    if converted:
        file.write_text(rendered("upstream.json.j2", **inputs))
        assert json.loads(file.read_text())["flags"] == flags
    else:
        comments = re.compile(r"^ *#.*\n", re.MULTILINE)  # they say nothing
        (tmp_path / "maps.conf").write_text(comments.sub("", rendered("maps.conf.j2", **inputs)))
    found = nginx_upstream.read_contract(str(file))
    assert found["servers"] == evaluated("__nginx_servers", **inputs) and sorted(found["hosts"]) == whole
    site = rendered("site.conf.j2", **inputs)
    places = site.count("set $senex_pool senex_web;")
    one_by_one = found["servers"] if len(found["servers"]) > 1 else []
    looked_for = Counter(path for path in re.findall(r"\(-f (\S+)\)", site) if path.startswith(flags))
    assert places > 1 and looked_for == {f"{flags}/{name}": places for name in [*one_by_one, *whole]}


def test_a_host_that_has_no_contract_yet_goes_on(contract, tmp_path):
    (tmp_path / "maps.conf").write_text(rendered("maps.conf.j2"))
    first = turn(tmp_path / "upstream.json", TWO[0])
    assert first.drain() and first.drained() == [TWO[0]] and not turn(tmp_path / "upstream.json", TWO[1]).drain()
    assert first.restore()


def test_without_nginx_nothing_happens(contract, tmp_path):
    for none in (nginx_upstream.UpstreamServers(None), turn(tmp_path / "no", "127.0.0.1:8001")):
        assert not none.drain() and none.drained() == []
        none.restore()


@pytest.fixture(params=["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def busy(request, contract):
    """A server that is really there, and connections to it."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket(family))
        try:
            # Not one of those that the kernel gives to clients: a client of another test with this number would be counted as well
            listening.bind(("::" if family == socket.AF_INET6 else "127.0.0.1", free_ports(1)))
        except OSError:
            pytest.skip("no IPv6 here")
        listening.listen()
        port = listening.getsockname()[1]

        def connect():
            client = stack.enter_context(socket.socket(family))
            client.connect((request.param, port))
            stack.enter_context(listening.accept()[0])
            return client

        host = request.param.removeprefix("::ffff:")
        server = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        yield contract(server, TWO[1]), server, connect


def test_connections_are_counted_where_they_lead(busy):
    _file, server, connect = busy
    assert nginx_upstream.connections([server]) == 0
    one, two = connect(), connect()
    assert nginx_upstream.connections([server]) == 2 and nginx_upstream.connections(["127.0.0.1:1"]) == 0
    one.close()  # half closed is over: nothing is under way there
    assert nginx_upstream.connections([server]) == 1
    two.close()


def test_a_request_under_way_ends_first_and_nobody_is_told_who_ends_soon(busy):
    file, server, connect = busy
    client, told, began = connect(), [], time.monotonic()
    threading.Timer(0.1, client.close).start()
    leaving = turn(file, server, drain=5)
    assert leaving.drain(lambda: told.append(1))
    assert 0.1 < time.monotonic() - began < 2 and (leaving.cut, told) == (0, [])


def test_a_websocket_is_told_once_and_ends(busy):
    file, server, connect = busy
    client, told = connect(), []
    leaving = turn(file, server, drain=5)
    leaving.drain(lambda: (told.append(1), threading.Timer(0.3, client.close).start()))
    assert (leaving.cut, told) == (0, [1])


def test_what_does_not_end_is_counted(busy):
    file, server, connect = busy
    clients, began = [connect(), connect()], time.monotonic()
    leaving = turn(file, server, drain=1)
    assert leaving.drain() and leaving.cut == len(clients)
    assert 1 <= time.monotonic() - began < 2


@pytest.fixture
def answering():
    """A server of the application's, which answers with the number in its path."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers["Host"]))
            self.send_response(int(self.path.strip("/")))
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield f"127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_one_leaves_only_while_another_answers(tmp_path, monkeypatch, answering):
    """That a server is not flagged says nothing of one that is dead, or that accepts and never answers."""
    monkeypatch.setattr(nginx_upstream, "POLL", 0)
    monkeypatch.setattr(nginx_upstream, "ASKING", 0.3)
    file, (good, asked) = tmp_path / "upstream.json", answering
    with socket.socket() as hung:
        hung.bind(("127.0.0.1", 0))
        hung.listen()
        stuck = f"127.0.0.1:{hung.getsockname()[1]}"
        for other, path, leaves in ((good, "/200", True), (good, "/404", True), (good, "/503", False), ("127.0.0.1:1", "/200", False), (stuck, "/200", False)):
            contract = {"version": 1, "servers": [TWO[0], other], "hosts": [], "flags": str(tmp_path / "out"), "ask": {"path": path, "host": "www.senex.test"}}
            file.write_text(json.dumps(contract))
            leaving = turn(file, TWO[0])
            assert (leaving.drain(), leaving.last_in_service) == (leaves, not leaves), (other, path)
            leaving.restore()
            file.write_text(json.dumps({name: value for name, value in contract.items() if name != "ask"}))  # of a run of before: that it takes connections
            assert turn(file, TWO[0]).drain() == (other != "127.0.0.1:1")
            turn(file, TWO[0]).restore()
    assert ("/200", "www.senex.test") in asked


def test_one_that_dies_while_the_other_leaves_brings_it_back(contract, monkeypatch):
    looks = iter([True, False, False, False])
    monkeypatch.setattr(nginx_upstream, "POLL", 0)
    monkeypatch.setattr(nginx_upstream, "serves", lambda server, ask: next(looks))
    leaving = turn(contract(*TWO), TWO[0])
    assert not leaving.drain() and leaving.last_in_service and leaving.drained() == []


SILENT = {"failed": True, "silent": True, "msg": "b does not answer: no route", "rc": 255}


@pytest.mark.parametrize(
    ("may_be_lost", "answer", "failed"), [(True, SILENT, False), (False, SILENT, True), (True, {"failed": True, "msg": "the lock is another's"}, True)]
)
def test_a_lost_nginx_keeps_no_rollback_from_the_hosts_that_are_left(monkeypatch, may_be_lost, answer, failed):
    """What does not answer is told of; what answers and refuses is a failure all the same."""
    monkeypatch.setattr(LockedAction, "run", lambda *_: answer)
    task = SimpleNamespace(args={"host_may_be_lost": may_be_lost})
    result = action.ActionModule(task, None, None, None, None, None).run()
    assert bool(result.get("failed")) is failed
    assert failed or (result["cut"] == 0 and "no route" in result["warnings"][0])
