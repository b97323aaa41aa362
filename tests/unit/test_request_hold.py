"""Requests that wait while PostgreSQL or Redis restarts: all are answered in the end, whoever dies, and none of them twice."""

import contextlib
import json
import os
import pwd
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from ansible_collections.senex.trader.plugins.module_utils.nginx import request_hold
from ansible_collections.senex.trader.plugins.module_utils.nginx.request_hold import SOCKET, RequestHold
from nginx_door import REPOSITORY, door, needs_nginx
from test_nginx_ways import UPGRADE, spoken

UNLIMITED = {"nginx_rate_limit_exempt_networks": ["127.0.0.0/8"]}
COMMANDS = {name: [name] for name in ("before", "pause", "busy", "resume")}
MINE = pwd.getpwuid(os.geteuid()).pw_name


class Commands:
    """What the service user was asked to run; `busy` says what to answer, one after the other."""

    def __init__(self, *busy):
        self.asked, self.busy = [], list(busy)

    def __call__(self, words, check, timeout):
        self.asked.append(words[0])
        return SimpleNamespace(stdout=f"{self.busy.pop(0) if words[0] == 'busy' and self.busy else 0}\n")


@pytest.fixture
def contract(tmp_path, monkeypatch):
    """Makes what role nginx says of these servers and of the place to hold at."""
    monkeypatch.setattr(request_hold, "SETTLED", 0.2)

    def make(directory=tmp_path, servers=(), **more):
        found = {"version": 1, "servers": list(servers), "hosts": [], "flags": str(tmp_path / "out"), "hold": {"directory": f"{directory}/hold", "user": MINE}}
        (tmp_path / "upstream.json").write_text(json.dumps({**found, **more}))
        return {"contract": str(tmp_path / "upstream.json")}

    return make


def both(pool, site, path="/api/a", **more):
    """A request with a body and one without, under way."""
    ask = [{}, {"method": "POST", "body": b"x" * 100_000}]
    return [pool.submit(lambda one=one: site.ask(path, **one, **more)) for one in ask]


@needs_nginx
def test_what_comes_meanwhile_waits_and_is_answered(tmp_path, contract):
    with door(tmp_path, **UNLIMITED) as site, ThreadPoolExecutor(8) as pool:
        servers = [f"127.0.0.1:{site.first + number}" for number in range(site.instances)]
        with RequestHold(contract(tmp_path / "run", servers), Commands()):
            waiting = [*both(pool, site), pool.submit(spoken, site, "/ws/x", UPGRADE)]
            time.sleep(1)
            assert site.ask("/health/simple/").status == 200, "that an instance is alive is said at any time"
            assert not any(one.done() for one in waiting) and site.asked("/api/a") == 0
        answers = [one.result(5) for one in waiting]
        assert [one.status for one in answers[:2]] == [200, 200] and "101" in answers[2][0]
        assert site.asked("/api/a") == 2
        assert site.ask("/api/a").status == 200 and not (tmp_path / "run/hold").exists()


@needs_nginx
def test_who_dies_holds_nobody(tmp_path, contract):
    with door(tmp_path, **UNLIMITED) as site, ThreadPoolExecutor(8) as pool:
        wanted = contract(tmp_path / "run")
        # The repository first: in site-packages there may be collections of others, as one package
        program = f"import sys, time\nsys.path.insert(0, {str(REPOSITORY)!r})\nfrom {request_hold.__name__} import RequestHold\n"
        program += f"with RequestHold({wanted!r}, None):\n    print('held', flush=True)\n    time.sleep(60)"
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "held\n"
            waiting = both(pool, site)
            time.sleep(0.5)
            assert not any(one.done() for one in waiting)
            process.kill()
        assert [one.result(2).status for one in waiting] == [200, 200]
        assert (tmp_path / "run/hold").exists(), "it is left, and holds nobody"
        assert site.ask("/api/a").status == 200
        with RequestHold(wanted, None):  # and is no obstacle to the next one
            waiting = both(pool, site)
            time.sleep(0.5)
            assert not any(one.done() for one in waiting)
        assert [one.result(2).status for one in waiting] == [200, 200]


@needs_nginx
def test_nginx_waits_no_longer_than_its_own_time(tmp_path, contract):
    """Whoever holds may hang."""
    with door(tmp_path, __nginx_hold_seconds=1, **UNLIMITED) as site, ThreadPoolExecutor(8) as pool, RequestHold(contract(tmp_path / "run"), None):
        began = time.monotonic()
        assert [one.result(5).status for one in both(pool, site)] == [200, 200]
        assert 0.9 < time.monotonic() - began < 3


@needs_nginx
def test_nobody_from_outside_asks_for_the_place(tmp_path):
    with door(tmp_path, **UNLIMITED) as site:
        assert site.ask("/senex-hold").status == 404


def test_it_ends_when_a_restart_takes_too_long(tmp_path, contract, monkeypatch):
    monkeypatch.setattr(request_hold, "LONGEST", 0.6)
    with RequestHold(contract(), None):
        assert (tmp_path / "hold").is_dir()
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(tmp_path / "hold" / SOCKET))
            asking.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert asking.recv(100).startswith(b"HTTP/1.0 204")
        assert not (tmp_path / "hold").exists()


def test_what_is_under_way_ends_first(contract):
    """A WebSocket stays, and is not waited for."""
    commands = Commands(2, 1, 0)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        place = server.getsockname()
        stack.enter_context(socket.create_connection(place))
        request = socket.create_connection(place)
        threading.Timer(0.15, request.close).start()
        began = time.monotonic()
        with RequestHold({**contract(servers=[f"127.0.0.1:{place[1]}"]), **COMMANDS}, commands):
            assert 0.35 < time.monotonic() - began < 3
            assert commands.asked[0] == "before" and sorted(commands.asked[1:]) == ["busy", "busy", "busy", "pause"]
    assert commands.asked[-1] == "resume"


def test_what_does_not_end_is_not_waited_for_for_ever(contract, monkeypatch):
    monkeypatch.setattr(request_hold, "DRAIN_SECONDS", 0.5)
    began = time.monotonic()
    with RequestHold({**contract(), "busy": ["busy"]}, Commands(*[3] * 100)):
        assert 0.4 < time.monotonic() - began < 2


def test_all_go_on_where_the_restart_fails(tmp_path, contract):
    commands = Commands()
    with pytest.raises(ValueError), RequestHold({**contract(), "resume": ["resume"]}, commands):
        raise ValueError
    assert commands.asked == ["resume"] and not (tmp_path / "hold").exists()


@pytest.mark.parametrize("more", [
    {"hold": None}, {"version": 2}, {"hold": {"directory": "/dev/null/x", "user": MINE}}, {"hold": {"directory": "hold", "user": "nobody-of-that-name"}},
])  # fmt: skip
def test_without_anything_to_hold_by_a_restart_is_a_restart(tmp_path, contract, monkeypatch, more):
    def failing(words, check, timeout):
        raise OSError("no such program")

    monkeypatch.chdir(tmp_path)
    with RequestHold({**contract(**more), **COMMANDS}, failing):
        assert not (tmp_path / "hold").exists()


def test_without_nginx_or_for_a_start_nobody_waits(tmp_path):
    commands = Commands()
    with RequestHold(None, commands), RequestHold({"contract": str(tmp_path / "none")}, commands):
        assert commands.asked == []
