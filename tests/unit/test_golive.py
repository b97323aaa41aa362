"""The list before going live: a reading of each thing whole, one of it broken, and what is said."""

import http.server
import threading

import pytest
import sentences
from watched import Fake, host, settings

from senex_ops import golive, golive_page, golive_site  # isort: skip
from senex_host import bounded  # isort: skip
from senex_ops.findings import FAIL, OK, WARN  # isort: skip

NOW = 1_800_000_000.0
LISTENING = [["*", "22", "sshd"], ["[::]", "443", "nginx"], ["127.0.0.1", "8001", "rootlessport"], ["10.0.0.5", "5432", "rootlessport"]]
FIREWALL = "Status: active\nLogging: on (low)\nDefault: deny (incoming), allow (outgoing), deny (routed)\n"
SSHD = {"passwordauthentication": "no", "permitrootlogin": "without-password", "permitemptypasswords": "no"}
COPIES = [{"job": name, "result": "ok"} for name in ("dump", "base", "drill", "offsite", "redis")]
BOOT = {"runs": "6.12.9-amd64", "installed": ["6.12.9-amd64", "6.12.10-amd64"], "up": 100.0, "stack": NOW - 1000}
HEADERS = {
    "strict-transport-security": "max-age=63072000", "content-security-policy": "default-src 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff", "referrer-policy": "same-origin", "server": "nginx",
}  # fmt: skip
SITE = {"headers": HEADERS, "plain": 301, "location": "https://www.example.com/", "untrusted": "", "old": False}
APPLICATION = {"debug": False, "said": [], "weak": [], "hosts": ["www.example.com"]}

PAGE = {"address": "https://www.example.com/login/", "status": 200, "type": "text/html; charset=utf-8", "policy": "default-src 'self'", "own": False,
        "html": "<script src=/x.js></script>"}  # fmt: skip
INLINE = {**PAGE, "html": "<script>x()</script><script src=https://cdn.example.net/a.js></script>"}


def without(name):
    return {**SITE, "headers": {key: value for key, value in HEADERS.items() if key != name}}


def copies(**changes):
    return [{**one, "result": changes.get(one["job"], "ok")} for one in COPIES]


ELSEWHERE = {"database": None, "elsewhere": [{"what": "database", "host": "db.acme.io", "port": 5432, "says": ""}]}
TABLE = [
    (golive.judge_exposure, LISTENING, OK, "only ssh and nginx"),
    (golive.judge_exposure, [*LISTENING, ["*", "5432", "rootlessport"]], FAIL, "rootlessport on port 5432"),
    (golive.judge_firewall, FIREWALL, OK, "denies"),
    (golive.judge_firewall, "Status: inactive\n", FAIL, "is off"),
    (golive.judge_firewall, FIREWALL.replace("deny (incoming)", "allow (incoming)"), FAIL, "lets in"),
    (golive.judge_ssh, SSHD, OK, "keys alone"),
    (golive.judge_ssh, {**SSHD, "passwordauthentication": "yes"}, FAIL, "passwordauthentication yes"),
    (golive.judge_ssh, {**SSHD, "permitrootlogin": "yes"}, FAIL, "permitrootlogin yes"),
    (golive.judge_ssh, {}, FAIL, "refuses its own configuration"),
    (golive.judge_copies, COPIES, OK, "were made"),
    (golive.judge_copies, COPIES[:3], FAIL, "backup_offsite_repository"),
    (golive.judge_copies, COPIES[1:], FAIL, "'dump' is not installed"),
    (golive.judge_copies, copies(drill="never"), FAIL, "was never done well so far (never)"),
    (golive.judge_reboot, {**BOOT, "runs": "6.12.10-amd64"}, OK, "newest kernel"),
    (golive.judge_reboot, BOOT, FAIL, "6.12.9-amd64 runs, and 6.12.10-amd64 is installed"),
    (golive.judge_reboot, {**BOOT, "runs": "6.1.0"}, FAIL, "not installed any more"),
    (golive.judge_reboot, {**BOOT, "runs": "6.12.10-amd64", "up": 5000.0}, WARN, "not rebooted since"),
    (golive.judge_reboot, {"runs": "6.18", "installed": [], "up": 1.0, "stack": NOW - 9}, OK, ""),
    (golive.judge_updates, {"timer": "active", "on": True}, OK, ""),
    (golive.judge_updates, {"timer": "inactive", "on": True}, FAIL, "timer inactive"),
    (golive.judge_updates, {"timer": "active", "on": False}, FAIL, "switched off"),
    (golive.judge_secrets, {"/a": 0o600, "/b": 0o400}, OK, "2 files"),
    (golive.judge_secrets, {"/a": 0o640}, FAIL, "others may read /a"),
    (golive.judge_told, {"ways": [], "heartbeat": True}, FAIL, "nobody is told"),
    (golive.judge_told, {"ways": ["mail"], "heartbeat": True}, OK, "by mail"),
    (golive.judge_told, {"ways": ["mail"], "heartbeat": False}, WARN, "whole host is gone"),
    (golive.judge_notice, {"webhook": ""}, OK, "was taken"),
    (golive.judge_notice, {"webhook": "it answered 500"}, FAIL, "it answered 500"),
    (golive_site.judge_application, APPLICATION, OK, "DEBUG is off"),
    (golive_site.judge_application, {**APPLICATION, "debug": True}, FAIL, "DEBUG is on"),
    (golive_site.judge_application, {**APPLICATION, "hosts": ["*"]}, FAIL, "takes every name"),
    (golive_site.judge_application, {**APPLICATION, "weak": ["ann"]}, FAIL, "guess the password of ann"),
    (golive_site.judge_application, {**APPLICATION, "said": ["security.W012 cookie"]}, WARN, "security.W012"),
    (golive_site.judge_site, SITE, OK, "https alone"),
    (golive_site.judge_site, {**SITE, "untrusted": "self-signed certificate"}, WARN, "self-signed"),
    (golive_site.judge_site, {**SITE, "plain": 200, "location": ""}, FAIL, "port 80 answers 200"),
    (golive_site.judge_site, {**SITE, "old": True}, FAIL, "below TLS 1.2"),
    *((golive_site.judge_site, without(name), FAIL, "is missing") for name in HEADERS if name != "server"),
    (golive_site.judge_site, {**SITE, "headers": {**HEADERS, "strict-transport-security": "max-age=600"}}, FAIL, "less than a year"),
    (golive_site.judge_site, {**SITE, "headers": {**HEADERS, "content-security-policy": "default-src 'self'"}}, FAIL, "frame-ancestors"),
    (golive_site.judge_site, {**SITE, "headers": {**HEADERS, "server": "nginx/1.26.3"}}, WARN, "nginx/1.26.3"),
    (golive_page.judge_page, PAGE, OK, "/login/ has nothing"),
    (golive_page.judge_page, {**INLINE, "policy": ""}, OK, "has nothing"),
    (golive_page.judge_page, INLINE, WARN, "inline script (line 1), script https://cdn.example.net/a.js (line 1)"),
    (golive_page.judge_page, {**INLINE, "own": True}, WARN, "by default-src of the application's own Content-Security-Policy"),
    (golive_page.judge_page, {**PAGE, "html": "<b style=x>" * 9}, WARN, "style attribute of <b> (line 1)"),
    (golive_page.judge_page, {**PAGE, "html": "<b style=x>\n" * 9}, WARN, "(line 4) and 5 more"),
    (golive_page.judge_page, {**PAGE, "status": 404}, OK, "answers 404 with text/html, so"),
    (golive_page.judge_page, {**PAGE, "type": ""}, OK, "answers 200 with nothing, so"),
    (golive_page.judge_page, {**PAGE, "html": "<![x[ "}, WARN, "cannot be looked through"),
]


@pytest.mark.parametrize(("judge", "data", "level", "says"), TABLE)
def test_finding(judge, data, level, says):
    found = judge(data, settings(), NOW)
    worst = next(one for one in found if one.level == level)
    assert worst.level == level and says in worst.says
    assert {bool(one.do) for one in found if one.level != OK} <= {True}


def test_every_sentence_has_a_reading_that_brings_it():
    def read():
        golive.judge_copies([], settings(**ELSEWHERE), NOW)
        return [judge(data, settings(), NOW) for judge, data, _, _ in TABLE]

    assert sentences.unsaid((golive, golive_page, golive_site), read) == []


def test_a_host_without_database_needs_no_copies():
    assert golive.judge_copies([], settings(database=None), NOW) == []
    (found,) = golive.judge_copies([], settings(**ELSEWHERE), NOW)
    assert found.level == WARN and "whoever has db.acme.io:5432" in found.says


def test_what_is_blocked_is_said_with_the_variable_that_changes_it():
    (found,) = golive_page.judge_page(INLINE, settings(), NOW)
    line = "put into nginx_content_security_policy: script-src 'self' 'unsafe-inline' https://cdn.example.net"
    assert found.key == "page script-src" and found.do == f"move inline code into static files, or {line}"
    with_nonce = {**INLINE, "html": "<script>x()</script>", "policy": "script-src 'nonce-abc'", "own": True}
    (found,) = golive_page.judge_page(with_nonce, settings(), NOW)
    assert found.do.startswith("give it the nonce of the answer, move it") and "script-src 'nonce-abc' 'sha256-" in found.do


class Site(http.server.BaseHTTPRequestHandler):
    """An application that sends its visitors to a log-in page; `/own/` has a policy of its own."""

    def do_GET(self):
        page = {"/login/?next=/": b"<style>a {}</style>", "/own/": b"<p>"}.get(self.path, b"")
        headers = {"Content-Type": "text/html", "Content-Length": str(len(page))}
        if not page:
            headers["Location"] = {"/": "/login/?next=/", "/away/": "https://elsewhere.example.net/"}[self.path]
        if self.path == "/own/" or "X-Forwarded-Proto" not in self.headers:  # nginx adds one where the application has none
            headers["Content-Security-Policy"] = "default-src 'self'"
        self.send_response(200 if page else 302)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_words):
        pass


@pytest.mark.parametrize(
    ("first", "address", "status", "own"), [("/", "/login/?next=/", 200, False), ("/own/", "/own/", 200, True), ("/away/", "/away/", 302, False)]
)
def test_the_page_is_where_a_visitor_comes_to(monkeypatch, first, address, status, own):
    """Within the site: what is elsewhere has its own policy."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(bounded, "unverified", lambda: None)  # nginx' TLS is not what this is about
    monkeypatch.setattr(golive_page, "START", first)
    port = server.server_address[1]
    config = settings(public={"domain": "www.example.com", "port": port})
    config.web.instances[:] = [type(one)(one.unit, one.address, port) for one in config.web.instances]
    try:
        found = golive_page.read_page(None, config)
    finally:
        server.shutdown()
        server.server_close()
    assert (found["address"], found["status"], found["own"]) == (f"https://www.example.com{address}", status, own)
    assert ("style-src" in str(golive_page.judge_page(found, config, NOW))) == (first == "/")


def test_listeners_are_read_as_ss_prints_them():
    fake = Fake()
    line = 'LISTEN 0 511 {0} 0.0.0.0:* users:(("{1}",pid=1,fd=5),("{1}",pid=2,fd=5))'
    fake.ended["ss"] = host.Ended(0, "\n".join([line.format("*:443", "nginx"), line.format("[::1]:8001", "pasta"), "LISTEN 0 5 *:9 *:*"]), "")
    assert golive.read_exposure(fake, settings()) == [["*", "443", "nginx"], ["[::1]", "8001", "pasta"], ["*", "9", "?"]]


def test_root_changes_no_file_of_the_service_users():
    """What is said to be done is pasted by root, and the service user may have put a link to any file of the host there."""
    config = settings()
    (found,) = golive.judge_secrets({f"{config.home}/.config/containers/auth.json": 0o644, "/etc/x.key": 0o640}, config, NOW)
    assert found.do.startswith(f"chmod 600 /etc/x.key; runuser --pty -u {config.user} -- chmod 600 {config.home}/.config/containers/auth.json; then")
