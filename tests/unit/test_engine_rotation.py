"""Out of nginx's rotation and back in: only the named servers, only where another one is there, and what is under way ends first."""

import contextlib
import socket
import threading
import time
from types import SimpleNamespace

import pytest
from ansible_collections.senex.trader.plugins.module_utils import rotation

TEXT = """upstream senex_web {
    server 127.0.0.1:8001 max_fails=0;
    server 127.0.0.1:8002 max_fails=0;
    keepalive 16;
}
"""


@pytest.fixture
def upstream(tmp_path, monkeypatch):
    file = tmp_path / "maps.conf"
    file.write_text(TEXT)
    told = []

    def systemctl(argv, **_):
        if argv[1] != "show":
            told.append((argv[1:], file.read_text()))
        return SimpleNamespace(stdout="0\n")

    monkeypatch.setattr(rotation.subprocess, "run", systemctl)
    monkeypatch.setattr(rotation, "FLAGS", str(tmp_path / "out"))
    return file, told


def turn(file, *servers, **more):
    return rotation.Rotation({"file": str(file), "servers": list(servers), **more})


def test_leaves_and_comes_back(upstream):
    file, told = upstream
    first = rotation.Rotation({"file": str(file), "server": "127.0.0.1:8001"})
    assert first.leave() and first.out() == ["127.0.0.1:8001"]
    assert "server 127.0.0.1:8001 max_fails=0 down;" in file.read_text()
    assert "server 127.0.0.1:8002 max_fails=0;" in file.read_text()
    assert first.leave(), "it is out, whoever took it out"
    first.back()
    assert file.read_text() == TEXT and first.out() == []
    assert [argv for argv, _ in told] == [["try-reload-or-restart", "nginx.service"]] * 2
    assert " down;" in told[0][1] and " down;" not in told[1][1]


def test_with_flags_nothing_is_reloaded(upstream, tmp_path):
    """Where nginx looks for a file with each request, one server leaves by its file alone; several at once still by a reload."""
    file, told = upstream
    file.write_text(
        f"{TEXT}# {tmp_path}/out\n" + TEXT.replace("senex_web", "senex_web_without_1").replace("    server 127.0.0.1:8001 max_fails=0;\n", "")
    )
    before = file.read_text()
    first = turn(file, "127.0.0.1:8001")
    assert first.leave() and first.out() == ["127.0.0.1:8001"] and (tmp_path / "out/127.0.0.1:8001").is_file()
    assert not turn(file, "127.0.0.1:8002").leave(), "the last one stays"
    assert turn(file, "127.0.0.1:8001").back() and first.out() == [] and not turn(file, "127.0.0.1:8001").back()
    assert file.read_text() == before and told == []


def test_the_last_one_stays(upstream):
    file, _told = upstream
    assert turn(file, "127.0.0.1:8001").leave()
    assert not turn(file, "127.0.0.1:8002").leave()
    assert "8002 max_fails=0;" in file.read_text()


def test_all_servers_of_a_host_at_once_but_not_all_there_are(upstream):
    file, told = upstream
    file.write_text(TEXT.replace("    keepalive", "    server 10.0.0.6:8001;\n    keepalive"))
    assert turn(file, "127.0.0.1:8001", "127.0.0.1:8002").leave() and len(told) == 1
    assert file.read_text().count(" down;") == 2 and "server 10.0.0.6:8001;" in file.read_text()
    assert not turn(file, "127.0.0.1:8001", "127.0.0.1:8002", "10.0.0.6:8001").leave()


def test_all_servers_of_a_host_leave_by_one_flag(upstream, tmp_path):
    """An address alone means all servers there, be there one, two or none."""
    file, told = upstream
    two = TEXT.replace("    keepalive", "    server 10.0.0.6:8001;\n    server 10.0.0.6:8002;\n    keepalive")
    file.write_text(f"{two}# {tmp_path}/out/10.0.0.6 leads to:\n")
    whole = turn(file, "10.0.0.6")
    assert whole.leave() and whole.out() == ["10.0.0.6:8001", "10.0.0.6:8002"] and (tmp_path / "out/10.0.0.6").is_file()
    assert turn(file, "127.0.0.1:8001").leave() and not turn(file, "127.0.0.1:8002").leave(), "flagged servers take nothing"
    assert turn(file, "10.0.0.6").back() and whole.out() == [] and not whole.back()
    assert turn(file, "127.0.0.1:8001").back() and told == []
    nobody = turn(file, "10.0.0.7")
    assert not nobody.missing() and not nobody.leave() and not nobody.back() and told == []


def test_a_server_that_is_not_there_changes_nothing(upstream):
    file, told = upstream
    absent = turn(file, "127.0.0.1:800")
    assert not absent.leave() and absent.missing() == ["127.0.0.1:800"]
    absent.back()
    assert file.read_text() == TEXT and told == []


def test_without_nginx_nothing_happens(tmp_path):
    for none in (rotation.Rotation(None), turn(tmp_path / "no", "127.0.0.1:8001")):
        assert not none.leave() and none.out() == []
        none.back()


@pytest.fixture(params=["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def busy(request, tmp_path, upstream):
    """A server that is really there, and connections to it."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket(family))
        try:
            listening.bind(("::" if family == socket.AF_INET6 else "127.0.0.1", 0))
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
        upstream[0].write_text(TEXT.replace("127.0.0.1:8001", server))
        yield upstream[0], server, connect


def test_connections_are_counted_where_they_lead(busy):
    _file, server, connect = busy
    assert rotation.connections([server]) == 0
    one, two = connect(), connect()
    assert rotation.connections([server]) == 2 and rotation.connections(["127.0.0.1:1"]) == 0
    one.close()  # half closed is over: nothing is under way there
    assert rotation.connections([server]) == 1
    two.close()


def test_a_request_under_way_ends_first_and_nobody_is_told_who_ends_soon(busy):
    file, server, connect = busy
    client, told, began = connect(), [], time.monotonic()
    threading.Timer(0.1, client.close).start()
    leaving = turn(file, server, drain=5)
    assert leaving.leave(lambda: told.append(1))
    assert 0.1 < time.monotonic() - began < 2 and (leaving.cut, told) == (0, [])


def test_a_websocket_is_told_once_and_ends(busy):
    file, server, connect = busy
    client, told = connect(), []
    leaving = turn(file, server, drain=5)
    leaving.leave(lambda: (told.append(1), threading.Timer(0.3, client.close).start()))
    assert (leaving.cut, told) == (0, [1])


def test_what_does_not_end_is_counted(busy):
    file, server, connect = busy
    clients, began = [connect(), connect()], time.monotonic()
    leaving = turn(file, server, drain=1)
    assert leaving.leave() and leaving.cut == len(clients)
    assert 1 <= time.monotonic() - began < 2


def test_a_reload_is_over_when_no_worker_goes_by_the_old_file(monkeypatch):
    """nginx answers a reload before it has done it, and what is sent until then goes to whoever is about to stop."""
    looks = [{"7", "8"}, {"7", "8"}, {"8", "9"}, {"9", "10"}]
    monkeypatch.setattr(rotation, "serving_workers", lambda: looks.pop(0))
    monkeypatch.setattr(rotation.subprocess, "run", lambda *_, **__: None)
    rotation.reload_nginx()
    assert looks == []
