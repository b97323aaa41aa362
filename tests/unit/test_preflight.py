"""What a host asks of the world before the first deployment, against answers as registries, resolvers and mail servers give them."""

import base64
import json
import pathlib
import socket
import socketserver
import threading

import pytest
from ansible_collections.senex.trader.plugins.filter.status import refusal_findings
from ansible_collections.senex.trader.plugins.module_utils.checks import preflight

ROOT = pathlib.Path(__file__).parents[2]

LOGIN = {"registry": "r.acme.io", "username": "ci", "password": "secret-secret"}
BASIC = "Basic " + base64.b64encode(b"ci:secret-secret").decode()
HERE = ["203.0.113.7"]


def resolver(*addresses):
    def resolve(name, port, type=None):
        if not addresses:
            raise socket.gaierror(-2, "Name or service not known")
        return [(None, None, None, "", (address, port)) for address in addresses]

    return resolve


@pytest.mark.parametrize(
    ("seen", "needed", "level", "says"),
    [
        (["203.0.113.7"], True, "OK", "leads to 203.0.113.7"),
        (["198.51.100.1"], True, "WARN", "none of which is the host's (203.0.113.7)"),
        ([], True, "FAIL", "does not resolve"),
        ([], False, "WARN", "does not resolve"),
    ],
)
def test_names(seen, needed, level, says):
    (found,) = preflight.names(["www.acme.io"], HERE, needed, resolver(*seen))
    assert (found["key"], found["level"]) == ("name www.acme.io", level) and says in found["says"]


class Registry:
    """A registry by its answers; what it was asked is kept."""

    def __init__(self, kind="basic", tags=("1",), public=False):
        self.kind, self.tags, self.public, self.asked = kind, tags, public, []

    def __call__(self, url, headers=None, method="GET"):
        headers = headers or {}
        self.asked.append((method, url, headers.get("Authorization", "")))
        if url.startswith("https://auth.acme.io/"):
            return (200, {}, json.dumps({"token": "T"}).encode()) if headers.get("Authorization") == BASIC or self.public else (401, {}, b"")
        wanted = {"basic": BASIC, "bearer": "Bearer T"}[self.kind]
        if headers.get("Authorization") != wanted and not (self.public and self.kind == "basic"):
            challenge = {"basic": 'Basic realm="r"', "bearer": 'Bearer realm="https://auth.acme.io/t",service="s",scope="repository:team/app:pull"'}
            return 401, {"www-authenticate": challenge[self.kind]}, b""
        return (200 if url.rpartition("/")[2] in self.tags else 404), {}, b""


@pytest.mark.parametrize(
    ("registry", "reference", "login", "level", "says"),
    [
        (Registry(), "r.acme.io:5000/team/app:1", {**LOGIN, "registry": "r.acme.io:5000"}, "OK", "can be pulled"),
        (Registry("bearer"), "r.acme.io/team/app:1", LOGIN, "OK", "can be pulled"),
        (Registry("bearer", public=True), "docker.io/library/redis:1", {}, "OK", "can be pulled"),
        (Registry("bearer", public=True), "docker.io/library/redis:1", LOGIN, "OK", "can be pulled"),
        (Registry(tags=["sha256:" + "0" * 64]), "r.acme.io/team/app@sha256:" + "0" * 64, LOGIN, "OK", "can be pulled"),
        (Registry(), "r.acme.io/team/app:2", LOGIN, "FAIL", "no such image"),
        (Registry(), "r.acme.io/team/app:1", {**LOGIN, "password": "other"}, "FAIL", "does not take the login"),
        (Registry("bearer"), "r.acme.io/team/app:1", {**LOGIN, "password": "other"}, "FAIL", "does not take the login"),
        (Registry(), "r.acme.io/team/app:1", {}, "FAIL", "wants a login"),
    ],
)
def test_image(monkeypatch, registry, reference, login, level, says):
    monkeypatch.setattr(preflight, "fetch", registry)
    found = preflight.image(reference, login, "senex_image_tag")
    assert found["level"] == level and says in found["says"] and "secret-secret" not in str(found)
    if "docker.io" in reference:
        assert not any(authorization.startswith("Basic") for _, _, authorization in registry.asked), "a password for another registry"
        assert registry.asked[0][1].startswith("https://registry-1.docker.io/v2/library/redis/")


def test_a_password_goes_nowhere_unencrypted(monkeypatch):
    """Whatever place a registry names for its tokens."""
    asked = []

    def registry(url, headers=None, method="GET"):
        asked.append((url, (headers or {}).get("Authorization", "")))
        return 401, {"www-authenticate": 'Bearer realm="http://auth.acme.io/t",service="s"'}, b""

    monkeypatch.setattr(preflight, "fetch", registry)
    found = preflight.image("r.acme.io/team/app:1", LOGIN, "senex_image_tag")
    assert found["level"] == "FAIL" and "wants the password at http://auth.acme.io/t, unencrypted" in found["says"]
    assert [one for one in asked if one[1]] == [] and asked


def test_a_registry_that_is_away(monkeypatch):
    def away(*_, **__):
        raise OSError("Connection refused")

    monkeypatch.setattr(preflight, "fetch", away)
    assert "Connection refused" in preflight.image("r.acme.io/a:1", LOGIN, "senex_image_tag")["says"]
    assert preflight.answers("bucket", "https://s3.acme.io/", "do")["level"] == "FAIL"


class MailServer(socketserver.StreamRequestHandler):
    """As much of a mail server as a login needs."""

    def handle(self):
        self.says("220 mail")
        while line := self.rfile.readline().decode().strip():
            verb, *words = line.split()
            self.says({"EHLO": f"250-mail\r\n250 AUTH {self.server.offers}", "QUIT": "221 bye"}.get(verb.upper()) or self.judged(words))

    def judged(self, words):
        if words[0] == "PLAIN":
            given = base64.b64decode(words[1]).decode().split("\0")[1:]
        else:
            self.says("334 UGFzc3dvcmQ6")
            given = [base64.b64decode(word).decode() for word in (words[1], self.rfile.readline())]
        taken = words[0] in self.server.offers and given == self.server.knows
        return "235 welcome" if taken else "535 no"

    def says(self, line):
        self.wfile.write(f"{line}\r\n".encode())


@pytest.mark.parametrize("offers", ["PLAIN LOGIN", "LOGIN"])
@pytest.mark.parametrize(("user", "password"), [("ci", "password-1"), ("ci", "Schl\u00fcssel-\u20ac"), ("b\u00fcro", "password-1")])
def test_mail(user, password, offers):
    """smtplib's own login ends on what is not ASCII, and the watchdog has the same way around it."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), MailServer) as server:
        server.offers, server.knows, server.daemon_threads = offers, [user, password], True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        for word, level, says in ((password, "OK", f"takes the login of {user}"), (f"{password}x", "FAIL", f"does not take the login of {user} (535)")):
            found = preflight.mail("127.0.0.1", server.server_address[1], "none", user, word)
            assert (found["level"], found["says"]) == (level, says)
        server.shutdown()


def test_mail_to_a_port_where_nobody_listens():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert preflight.mail("127.0.0.1", taken.getsockname()[1], "none", "", "")["level"] == "FAIL"


def test_cores():
    assert [one["level"] for one in preflight.machine(1) if one["key"] == "cores"] == ["WARN"]
    assert [one["level"] for one in preflight.machine(4) if one["key"] == "cores"] == ["OK"]


@pytest.mark.parametrize(
    ("memory", "level", "says"), [(2000 * 1024**2, "WARN", "2.0 GB: tight"), (3800 * 1024**2, "OK", "3.7 GB"), (8 * 1024**3, "OK", "8.0 GB")]
)
def test_memory(memory, level, says):
    assert [(one["level"], one["says"][: len(says)]) for one in preflight.machine(4, memory) if one["key"] == "memory"] == [(level, says)]


def test_refusals_are_findings():
    found = refusal_findings("demo is not ready:\nsenex_a: is missing\nsenex_b: is short", "inventory")
    assert [(one["key"], one["level"], one["says"]) for one in found] == [
        ("inventory", "FAIL", "senex_a: is missing"), ("inventory", "FAIL", "senex_b: is short"),
    ]  # fmt: skip
    assert [one["says"] for one in refusal_findings("it broke:", "host")] == ["it broke:"]
