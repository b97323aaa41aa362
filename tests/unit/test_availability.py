"""What `senex status` asks Prometheus, and who is told its password."""

import base64
import contextlib
import http.server
import json
import os
import pwd
import threading
from urllib.parse import parse_qs, urlsplit

import pytest
from watched import Fake, settings

from senex_ops import availability, status  # isort: skip

LOGIN = base64.b64encode(b"metrics:p w").decode()
VALUES = {"errors": [{"metric": {}, "value": [0, "0.0005"]}], "alerts": [{"metric": {"alertname": "SiteDown"}, "value": [0, "1"]}]}


@contextlib.contextmanager
def prometheus(answers):
    class Asked(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            (question,) = parse_qs(urlsplit(self.path).query)["query"]
            (name,) = (name for name, text in availability.QUESTIONS.items() if text == question)
            good = self.headers["Authorization"] == f"Basic {LOGIN}"
            self.send_response(200 if good else 401)
            self.end_headers()
            self.wfile.write(json.dumps({"status": "success", "data": {"result": answers[name]}}).encode())

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Asked) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "password").write_text("p w")
    monkeypatch.setattr(availability, "PASSWORD", str(tmp_path / "password"))
    monkeypatch.setattr(availability, "ACCOUNT", pwd.getpwuid(os.getuid()).pw_name)
    return tmp_path


@pytest.mark.parametrize(
    ("answers", "read"),
    [
        (VALUES, {"errors": 0.0005, "alerts": ["SiteDown"]}),
        ({"errors": [], "alerts": []}, {"errors": None, "alerts": []}),
        ({"errors": [{"metric": {}, "value": [0, "NaN"]}], "alerts": []}, {"errors": None, "alerts": []}),
    ],
)
def test_it_is_asked_by_its_password(here, monkeypatch, answers, read):
    with prometheus(answers) as port:
        monkeypatch.setattr(availability, "PORT", port)
        assert availability.read_monitoring(Fake(), settings()) == read


def test_nobody_else_is_told_the_password(here, monkeypatch):
    """Whoever takes the port while Prometheus is down."""
    monkeypatch.setattr(availability, "ACCOUNT", "nobody")
    monkeypatch.setattr(availability, "asked", lambda *_: pytest.fail("was told"))
    with prometheus(VALUES) as port:
        monkeypatch.setattr(availability, "PORT", port)
        with pytest.raises(OSError, match="does not listen"):
            availability.read_monitoring(Fake(), settings())


def test_a_wrong_password_and_silence_are_said(here, monkeypatch):
    (here / "password").write_text("other")
    with prometheus(VALUES) as port:
        monkeypatch.setattr(availability, "PORT", port)
        with pytest.raises(OSError, match="answers 401"):
            availability.read_monitoring(Fake(), settings())


def test_it_is_a_line_of_the_status_where_prometheus_is():
    (check,) = (one for one in status.CHECKS if one.name == "monitoring")
    assert check.applies(settings(components=["monitoring"])) and not check.applies(settings())
