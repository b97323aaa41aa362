"""A release in maintenance on one host of nginx: the page comes before anything stops, stays until somebody opens, and is an operator's own if it was."""

import http.server
import json
import socketserver
import threading

import pytest
from ansible_collections.senex.trader.plugins.module_utils.nginx import nginx_upstream
from ansible_collections.senex.trader.plugins.module_utils.release import maintenance
from rendered import ROLES, loaded, value


class Nginx(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """As site.conf.j2 has it: looks for the files with each request."""

    daemon_threads = True

    def __init__(self, directory, knows=True):
        self.directory, self.knows = directory, knows
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):  # noqa: N802  (the name that the base class calls)
        there = {path.name for path in self.server.directory.iterdir()} if self.server.knows else set()
        closed = "maintenance.on" in there and self.path == "/"
        body = b"maintenance" if self.path == "/alive/" and "stopped.on" in there else b"of the application"
        self.send_response(503 if closed else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def site(tmp_path, monkeypatch):
    server = Nginx(tmp_path)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(maintenance.traffic_probe, "context", lambda: None)
    monkeypatch.setattr(maintenance.time, "sleep", lambda _: None)
    monkeypatch.setattr(nginx_upstream, "CONTRACT", str(tmp_path / "none"))
    server.target = {"address": "127.0.0.1", "port": server.server_address[1], "domain": "a.io", "timeout": 5, "alive": "/alive/", "drain": 1}
    yield server
    server.shutdown()


def files(site):
    return sorted(path.name for path in site.directory.iterdir())


def test_closed_and_opened(site, tmp_path, monkeypatch):
    assert maintenance.notes(tmp_path) == {}
    clock = [1000.0]
    monkeypatch.setattr(maintenance.time, "time", lambda: clock[0])
    assert maintenance.close("r1", ["a.1"], site.target, tmp_path) == {"since": 1000.0, "migrations": ["a.1"]}
    assert files(site) == ["maintenance.on", "stopped.on"] and maintenance.notes(tmp_path)["id"] == "r1"
    clock[0] = 1041.26
    assert maintenance.reopen(tmp_path) == {"seconds": 41.3, "theirs": False} and files(site) == []
    assert maintenance.reopen(tmp_path) == {"seconds": 0.0, "theirs": False}, "nothing was closed"


def test_a_run_after_one_that_died_knows_since_when_and_what_was_migrated(site, tmp_path, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(maintenance.time, "time", lambda: clock[0])
    maintenance.close("r1", ["a.1", "a.2"], site.target, tmp_path)
    clock[0] = 1100.0
    assert maintenance.close("r2", ["a.2", "a.3"], site.target, tmp_path) == {"since": 1000.0, "migrations": ["a.1", "a.2", "a.3"]}
    clock[0] = 1150.0
    assert maintenance.reopen(tmp_path)["seconds"] == 150.0


def test_an_operators_own_page_stays(site, tmp_path):
    (tmp_path / "maintenance.on").touch()
    maintenance.close("r1", [], site.target, tmp_path)
    maintenance.close("r2", [], site.target, tmp_path)
    assert maintenance.reopen(tmp_path)["theirs"] and files(site) == ["maintenance.on"]


def test_nothing_is_closed_where_nginx_does_not_show_it(site, tmp_path):
    site.knows = False
    with pytest.raises(OSError, match=r"does not show the maintenance page, so nothing was stopped: / gave 200 OK. Run playbooks/site.yml first"):
        maintenance.close("r1", [], site.target, tmp_path)
    assert files(site) == []
    site.knows = True
    maintenance.close("r1", [], site.target, tmp_path)
    site.knows = False
    with pytest.raises(OSError, match="does not show"):
        maintenance.close("r2", [], site.target, tmp_path)
    assert files(site) == ["maintenance.on", "stopped.on"], "what an earlier release closed stays closed"


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({"id": "x"})])
def test_notes_that_somebody_made_by_hand_close_all_the_same(tmp_path, text):
    (tmp_path / "stopped.on").write_text(text)
    found = maintenance.notes(tmp_path)
    assert found["migrations"] == [] and found["theirs"] is False and found["since"] > 1e9


def test_requests_that_are_in_are_waited_for(site, tmp_path, monkeypatch):
    left = [3, 2, 1, 0, 0, 0, 0]
    monkeypatch.setattr(nginx_upstream, "read_contract", lambda _: {"servers": ["127.0.0.1:8001"]})
    monkeypatch.setattr(nginx_upstream, "connections", lambda servers: left.pop(0))
    maintenance.close("r1", [], {**site.target, "drain": 5}, tmp_path)
    assert left == [0], "until three looks have found none"


@pytest.mark.parametrize(
    ("pending", "began", "undone"),
    [(["a.1", "a.2"], False, False), (["a.1", "a.2"], True, True), (["a.2"], False, True)],
    ids=["failed before any", "began", "of a run that died"],
)
def test_migrations_are_undone_where_some_may_have_been_applied(pending, began, undone):
    said = {"release_closed": {"migrations": ["a.1", "a.2"]}, "release_plan": {"pending": [{"name": name} for name in pending]}}
    inputs = {**loaded(ROLES.parent / "playbooks/vars/release.yml"), "release_kind": "deploy", "groups": {"web": ["one"], "nginx": ["one"]}}
    inputs["hostvars"] = {"one": {**said, **({"release_migrated": True} if began else {})}}
    assert value("release", "__release_migrated", **inputs) is undone
    assert value("release", "__release_to_undo", **inputs) == ["a.2", "a.1"], "newest first"
    migrations = value(
        "release", "__release_record.migrations", **inputs, release_tag="2", release_reference="r:2", release_inventory_tag="1", release_previous={}
    )
    assert migrations == ["a.1", "a.2"]
