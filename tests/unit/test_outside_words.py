"""What others print: no more of it than fits, no longer than it may take, and nothing in it that a screen would obey."""

import http.client
import json
import os
import subprocess
import sys
import time

import pytest
from ansible_collections.senex.trader.plugins.module_utils import bounded, preflight, prober, quadlet_plan, service_user, untrusted
from test_bounded import door as door  # noqa: F401  (a fixture)
from watched import host

from senex_ops import cures  # isort: skip

ENDLESS = ("sh", "-c", "exec cat /dev/zero")
RED = "\x1b[31mred\x9b\u202e\r"


@pytest.fixture
def user(monkeypatch):
    """A service user who is whoever runs the test."""
    name = service_user.pwd.getpwuid(os.getuid()).pw_name
    return service_user.ServiceUser(name, "/")


# How much
@pytest.mark.parametrize("where", ["", ">&2"])
def test_a_command_that_never_stops_printing_is_ended(where):
    began = time.monotonic()
    with pytest.raises(OSError, match="printed more than 1000000 bytes"):
        untrusted.told(["sh", "-c", f"exec cat /dev/zero {where}"], timeout=20, limit=1_000_000)
    assert time.monotonic() - began < 5


def test_a_command_is_told_apart_from_its_input_and_its_end():
    whole = "x" * (1 << 20)
    done = untrusted.told(["sh", "-c", "cat; echo no >&2; exit 3"], whole, 20)
    assert (done.returncode, done.stdout, done.stderr) == (3, whole, "no\n")
    assert untrusted.told(["true"], whole, 20).returncode == 0, "one that does not read its input"
    assert untrusted.told(["printf", "a\\r\\nb\\rc\\377"], timeout=20).stdout == "a\nb\nc\ufffd"
    with open(__file__, encoding="utf-8") as handle:
        assert "apart from its input" in untrusted.told(["cat"], handle, 20).stdout


@pytest.mark.parametrize("script", ["sleep 30", "exec >&- 2>&-; sleep 30"])
def test_a_command_that_does_not_end_is_ended(script):
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        untrusted.told(["sh", "-c", script], timeout=0.3)
    assert time.monotonic() - began < 8


def test_the_watchdog_keeps_no_more_of_an_answer_than_it_has_room_for(monkeypatch):
    monkeypatch.setattr(host, "PRINTED", 1_000_000)
    done = host.Host._run(list(ENDLESS), 20, None)
    assert done.code and "printed more than 1000000 bytes" in done.said


def test_the_engine_keeps_no_more_of_an_answer_than_it_has_room_for(user, monkeypatch):
    monkeypatch.setattr(untrusted.told, "__defaults__", (None, None, 1_000_000))
    done = user.run(list(ENDLESS), check=False, timeout=20)
    assert done.returncode == 125 and "printed more than" in done.stderr
    with pytest.raises(service_user.CommandError, match="printed more than"):
        user.run(list(ENDLESS), timeout=20)


def test_a_line_of_a_journal_may_be_of_any_length(monkeypatch, tmp_path):
    program = tmp_path / "journalctl"
    program.write_text(f"#!{sys.executable}\nprint('x' * (3 << 20))\n")
    program.chmod(0o755)
    told = untrusted.told
    monkeypatch.setattr(untrusted, "told", lambda words, **more: told([str(program), *words[1:]], **more))
    assert len(service_user.journal("web-1.service", 1000, 0)) < 200


# Which words
def test_lines_stay_lines_and_nothing_else_stays():
    assert untrusted.lines(f"one\ttwo\n{RED}\n\x00") == "one     two\n?[31mred??\n?"
    assert untrusted.lines("a" * 50 + "b" * 50, 20) == "a" * 10 + "\n…\n" + "b" * 10


def test_what_goes_into_the_watchdogs_log_is_printable():
    said = host.Ended(1, "", f"no bus {RED}").said
    assert said.isprintable() and said.startswith("no bus ?[31m")
    refused = type("Refusing", (), {"units": lambda *_: (_ for _ in ()).throw(OSError(f"the user manager does not answer: {said}"))})()
    assert cures.attempt(refused, None, None, cures.Cure("web-1", "user", "web-1.service"), False, 0).decision.why.isprintable()


@pytest.mark.parametrize("first", [b"HTTP/1.1 500 \x1b[2J\x9bno\r\n", b"\x1b[2J\x9bno\r\n", b"HTTP/\x1b[2J 200 OK\r\n"])
def test_a_first_line_of_http_is_shown_as_text(door, first):  # noqa: F811
    port, told = door
    told["pieces"] = [first + b"\r\n"]
    seen = prober.ask({"address": "127.0.0.1", "port": port, "domain": "x", "plain": True, "timeout": 2}, "/")
    silent = quadlet_plan._wrong_answer({"url": f"http://127.0.0.1:{port}/"})
    assert seen.isprintable() and silent.isprintable() and "[2J" in seen + silent
    try:
        assert bounded.fetch(f"http://127.0.0.1:{port}/", {}, 2).reason.isprintable()
    except http.client.HTTPException as error:
        assert str(error).isprintable()


@pytest.mark.parametrize("field", ["failed", "requests", "saved", "slowest", "began"])
@pytest.mark.parametrize("value", ["3", [1], {}, True, None, float("nan"), 10**400])
def test_the_prober_says_numbers_or_nothing(field, value):
    assert field not in prober.latest(json.dumps({"failures": [], field: value}).encode())


def test_the_prober_says_printable_lines():
    found = prober.latest(json.dumps({"failed": 1, "failures": [RED, {"a": RED}, "x" * 999], "more": RED}).encode())
    assert found.keys() == {"failed", "failures"} and all(one.isprintable() and len(one) <= prober.LONGEST for one in found["failures"])
    assert prober.latest(b"[" * 30_000) == prober.latest(b'{"failures": "x"}') == {}


def test_one_that_says_nothing_good_does_not_break_a_release(tmp_path, monkeypatch):
    monkeypatch.setattr(quadlet_plan, "PROBE_SECONDS", 0)
    monkeypatch.setattr(quadlet_plan.fileset, "own_ground", lambda paths: None)
    state = tmp_path / "prober.json"
    state.write_text(json.dumps({"failed": 2.0, "failures": 7}))
    unit = {"probe": {"file": str(state), "failed": 0}}
    assert "2.0 of 0 requests" in quadlet_plan.probed(unit)
    quadlet_plan.forgive(unit)
    state.write_text(json.dumps({"failed": "x"}))
    assert quadlet_plan.probed(unit) == ""


# Whom a host asks before the first deployment
@pytest.mark.parametrize("token", [b"[]", b"7", b"[" * 60_000])
def test_a_registry_that_gives_no_token_is_a_finding(monkeypatch, token):
    answers = iter([(401, {"www-authenticate": 'Bearer realm="https://x/"'}, b""), (200, {}, token)])
    monkeypatch.setattr(preflight, "fetch", lambda *_, **__: next(answers))
    assert preflight.image("r.acme.io/a:1", {}, "senex_image_tag")["level"] == "FAIL"


def test_findings_of_the_world_are_printable_lines():
    found = preflight.finding(f"image {RED}", "FAIL", f"says {RED}\nOK all well", RED)
    assert all(word.isprintable() for word in found.values())


def test_a_mail_server_that_never_comes_to_its_end_is_left_alone(monkeypatch):
    monkeypatch.setattr(preflight, "TIMEOUT", 0.3)
    listening = subprocess.Popen(
        [sys.executable, "-c", "import socket, time\ns = socket.create_server(('127.0.0.1', 0))\nprint(s.getsockname()[1], flush=True)\n"
         "c, _ = s.accept()\nwhile True:\n    c.sendall(b'220-more\\r\\n')\n    time.sleep(0.1)"], stdout=subprocess.PIPE, text=True)  # fmt: skip
    try:
        began = time.monotonic()
        found = preflight.mail("127.0.0.1", int(listening.stdout.readline()), "none", "", "")
        assert found["level"] == "FAIL" and "no answer" in found["says"] and time.monotonic() - began < 5
    finally:
        listening.kill()
        listening.wait()
        listening.stdout.close()
