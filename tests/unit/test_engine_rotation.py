"""Out of nginx's rotation and back in: only the named server, only where another one is there, and the file ends as it began."""

import pytest
from ansible_collections.senex.trader.plugins.module_utils import rotation

TEXT = """upstream senex_web {
    server 127.0.0.1:8001 max_fails=1 fail_timeout=1s;
    server 127.0.0.1:8002 max_fails=1 fail_timeout=1s;
    keepalive 16;
}
"""


@pytest.fixture
def upstream(tmp_path, monkeypatch):
    file = tmp_path / "maps.conf"
    file.write_text(TEXT)
    told = []
    monkeypatch.setattr(rotation.subprocess, "run", lambda argv, **_: told.append((argv[1:], file.read_text())))
    monkeypatch.setattr(rotation, "DRAIN_SECONDS", 0)
    return file, told


def turn(file, server):
    return rotation.Rotation({"file": str(file), "server": server})


def test_leaves_and_comes_back(upstream):
    file, told = upstream
    first = turn(file, "127.0.0.1:8001")
    assert first.leave()
    assert "server 127.0.0.1:8001 max_fails=1 fail_timeout=1s down;" in file.read_text()
    assert "server 127.0.0.1:8002 max_fails=1 fail_timeout=1s;" in file.read_text()
    first.back()
    assert file.read_text() == TEXT
    assert [argv for argv, _ in told] == [["try-reload-or-restart", "nginx.service"]] * 2
    assert " down;" in told[0][1] and " down;" not in told[1][1]


def test_the_last_one_stays(upstream):
    file, _told = upstream
    assert turn(file, "127.0.0.1:8001").leave()
    assert not turn(file, "127.0.0.1:8002").leave()
    assert "8002 max_fails=1 fail_timeout=1s;" in file.read_text()


def test_a_server_that_is_not_there_changes_nothing(upstream):
    file, told = upstream
    absent = turn(file, "127.0.0.1:800")
    assert not absent.leave()
    absent.back()
    assert file.read_text() == TEXT and told == []


def test_without_nginx_nothing_happens(tmp_path):
    for none in (rotation.Rotation(None), turn(tmp_path / "no", "127.0.0.1:8001")):
        assert not none.leave()
        none.back()
