"""Answers of somebody who means no good: endless, slow, leading elsewhere. Every client of code that runs as root goes by bounded.py."""

import ast
import http.client
import http.server
import socket
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.senex.trader.plugins.module_utils.checks import preflight
from ansible_collections.senex.trader.plugins.module_utils.engine import quadlet_plan
from ansible_collections.senex.trader.plugins.module_utils.host import bounded
from watched import host

ROOT = Path(__file__).parents[2]


def drip(stream, pieces, pause):
    try:
        for piece in pieces:
            stream.sendall(piece)
            time.sleep(pause)
    except OSError:
        pass


@pytest.fixture
def door():
    """A server that sends what a test says, a piece at a time, to everybody: its port."""
    listening = socket.create_server(("127.0.0.1", 0))
    told = {"pieces": [], "pause": 0.0}

    def serve():
        while True:
            try:
                stream, _ = listening.accept()
            except OSError:
                return
            with stream:
                stream.recv(4096)
                drip(stream, told["pieces"], told["pause"])

    threading.Thread(target=serve, daemon=True).start()
    yield listening.getsockname()[1], told
    listening.close()


def ask(port, timeout=0.6, **more):
    return bounded.ask("127.0.0.1", port, "/", {"Host": "x"}, timeout, **more)


SLOW = {
    "a head": [b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n"] * 200],
    "a line of it": [b"HTTP/1.1 200 OK\r\nX: ", *[b"y"] * 200],
    "a body": [b"HTTP/1.1 200 OK\r\n\r\n", *[b"y"] * 200],
    "a piece of a body": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n", *[b"y"] * 200],
}


@pytest.mark.parametrize("what", SLOW)
def test_what_comes_slowly_ends_in_time_all_the_same(door, what):
    port, told = door
    told.update(pieces=SLOW[what], pause=0.05)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        ask(port)
    assert 0.5 < time.monotonic() - began < 1.5


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n"])
def test_what_never_ends_is_not_read_to_the_end(door, head):
    port, told = door
    told["pieces"] = [head, *[b"y" * 65536] * 64]
    with pytest.raises(OSError, match="too long"):
        ask(port, 10, limit=1 << 20)
    found = ask(port, 10, limit=1 << 20, whole=False)
    assert found.status == 200 and len(found.body) <= bounded.KEPT


def test_a_redirect_is_an_answer(door):
    port, told = door
    told["pieces"] = [b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 2\r\n\r\nok"]
    assert (ask(port).status, ask(port).headers["location"], ask(port).body) == (302, "http://127.0.0.1:1/", b"ok")
    assert "answers 302" in quadlet_plan.answers({"readiness_probe": {"url": f"http://127.0.0.1:{port}/"}})
    assert host.get("127.0.0.1", port, "/", "x", 2).status == 302
    assert preflight.fetch(f"http://127.0.0.1:{port}/")[0] == 302


def test_the_watchdog_waits_no_longer_than_it_says(door):
    port, told = door
    told.update(pieces=SLOW["a head"], pause=0.05)
    answer = host.get("127.0.0.1", port, "/", "x", 0.6)
    assert answer.status == 0 and answer.seconds < 1.5 and "no answer within 0.6 s" in answer.error


def test_nothing_is_put_into_a_request_by_its_words():
    for path, headers in (("/ HTTP/1.1\r\nX: y", {}), ("/a b", {}), ("/", {"Host": "x\r\nX: y"})):
        with pytest.raises(OSError, match="character"):
            bounded.ask("127.0.0.1", 1, path, headers, 1)


def test_a_body_that_is_cut_off(door):
    port, told = door
    told["pieces"] = [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok"]
    with pytest.raises(http.client.IncompleteRead):
        ask(port)


def clients(path):
    """Calls that open a connection for HTTP, and openers that follow redirects."""
    names = {"HTTPConnection", "HTTPSConnection", "urlopen", "build_opener", "urlretrieve"}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node.func.attr for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in names]


def test_all_that_runs_on_a_host_or_on_the_controller_asks_by_the_one_place():
    places = [*ROOT.glob("plugins/**/*.py"), *ROOT.glob("roles/*/files/**/*.py"), *ROOT.glob("playbooks/files/*")]
    found = {path.name: names for path in places if path.suffix == ".py" and (names := clients(path))}
    assert found == {}
    tasks = {path: path.read_text() for path in [*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("playbooks/**/*.yml")]}
    assert [path for path, text in tasks.items() if "builtin.uri" in text or "get_url" in text] == [], "a task of Ansible's has no limit of bytes"
