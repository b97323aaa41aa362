"""The checks of containers that start: they pass as soon as their service is there, and wait for it."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import jinja2
import pytest

ROOT = Path(__file__).parents[2]


STARTED = jinja2.Environment().from_string((ROOT / "templates/started.sh.j2").read_text())  # noqa: S701  (sh, not HTML)


def script(tmp_path, role, name, **variables):
    """A check as it lies on a host."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(ROOT / f"roles/{role}/templates"))  # noqa: S701  (Python, not HTML)
    environment.filters["to_json"] = json.dumps
    path = tmp_path / name
    path.write_text(environment.get_template(f"{name}.j2").render(variables))
    return str(path)


def asked(*argv, **environment):
    return subprocess.Popen([sys.executable, *argv], stderr=subprocess.PIPE, text=True, env=environment)


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self):
        good = self.path == "/alive/" and self.headers["Host"] == "www.example.com" and self.headers["X-Forwarded-Proto"] == "https"
        self.send_response(200 if good else 400)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def check_of(path, port):
    return script(path, "django", "health.py", django_container_port=port, django_health_alive_path="/alive/", senex_domain="www.example.com")


@pytest.fixture
def web(tmp_path, port):
    return check_of(tmp_path, port)


def ended(check):
    """Exit status, what it said and seconds of a check at the start of an instance."""
    began = time.monotonic()
    process = asked(check, "start")
    said = process.communicate(timeout=10)[1]
    return process.returncode, said, time.monotonic() - began


@pytest.fixture(scope="module", autouse=True)
def never(tmp_path_factory):
    """The check of an instance that never comes: it takes its four seconds beside the other tests. Its port is kept, and nobody listens there."""
    with socket.socket() as kept, ThreadPoolExecutor(1) as pool:
        kept.bind(("127.0.0.1", 0))
        yield pool.submit(ended, check_of(tmp_path_factory.mktemp("never"), kept.getsockname()[1]))


def test_an_instance_that_starts_is_waited_for(web, port):
    check = asked(web, "start")
    time.sleep(1)
    assert check.poll() is None
    with HTTPServer(("127.0.0.1", port), Healthy) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        began = time.monotonic()
        assert check.wait(10) == 0
        assert time.monotonic() - began < 1
        server.shutdown()


def test_in_service_nothing_is_waited_for(web):
    began = time.monotonic()
    assert asked(web).wait(10) == 1
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(("name", "arguments"), [("worker_health.py", ["worker@host", "celery", "start"]), ("beat_health.py", ["start"])])
def test_a_worker_or_beat_is_ready_when_it_is_connected(tmp_path, port, name, arguments):
    inputs = {"celery_app": "demo", "celery_beat_max_silence": 600, "celery_beat_scheduler": "database"}
    inputs |= {"__celery_broker": ["redis", port], "__celery_database_port": str(port)}
    check = asked(script(tmp_path, "celery", name, **inputs), *arguments)
    with socket.create_server(("127.0.0.1", port)) as server:
        time.sleep(1)
        assert check.poll() is None, "a port that listens is no connection"
        with socket.create_connection(("127.0.0.1", port)), server.accept()[0]:
            assert check.wait(5) == 0


def test_beat_with_a_schedule_in_a_file_is_ready_with_the_file_and_healthy_while_it_saves_it(tmp_path):
    """In whichever form the application's Python keeps it: the module dbm adds an ending to the name, or none."""
    inputs = {"celery_beat_max_silence": 1, "celery_beat_scheduler": "file", "__celery_schedule": tmp_path / "schedule"}
    check = script(tmp_path, "celery", "beat_health.py", **inputs)
    starting = asked(check, "start")
    time.sleep(0.5)
    assert starting.poll() is None
    kept = tmp_path / "schedule.db"
    kept.touch()
    assert starting.wait(5) == 0 and asked(check).wait(5) == 0
    os.utime(kept, (time.time() - 60, time.time() - 60))
    late = subprocess.run([sys.executable, check], capture_output=True, text=True, timeout=10, check=False)
    assert late.returncode == 1 and "has not saved its schedule for 60 s" in late.stderr
    (tmp_path / "schedule.dat").touch()
    assert asked(check).wait(5) == 0


def test_of_any_other_scheduler_nothing_is_asked(tmp_path):
    check = script(tmp_path, "celery", "beat_health.py", celery_beat_max_silence=1, celery_beat_scheduler="other")
    assert asked(check, "start").wait(5) == 0 and asked(check).wait(5) == 0
    assert "django" not in Path(check).read_text(encoding="utf-8").replace("senex.trader", "")


def test_an_instance_that_never_comes_is_not(never):
    code, said, seconds = never.result()
    assert code == 1 and "refused" in said
    assert 3.5 < seconds < 5, "below the limit of the check, or Podman would count the time and not the reason"


@pytest.fixture
def started(tmp_path):
    """The check of a database or Redis that starts, with a program in the place of what it asks; whether and after how long it passes, and what it says."""
    (tmp_path / "started.sh").write_text(STARTED.render())

    def run(program):
        check = tmp_path / "check"
        check.write_text(f"#!/bin/sh\necho asked >>{tmp_path}/log\n{program}\n")
        check.chmod(0o755)
        began = time.monotonic()
        done = subprocess.run(["sh", tmp_path / "started.sh", check, "-q"], capture_output=True, text=True, timeout=15, check=False)
        return done.returncode, time.monotonic() - began, done.stdout

    run.asked = lambda: (tmp_path / "log").read_text().count("asked")
    return run


def test_a_database_that_starts_is_waited_for(started, tmp_path):
    threading.Timer(1, (tmp_path / "up").touch).start()
    code, seconds, said = started(f"[ -e {tmp_path}/up ]")
    assert (code, said) == (0, "") and 0.9 < seconds < 2
    assert started('[ "$1" = -q ]')[0] == 0, "it gets its own words"


def test_a_database_that_takes_longer_is_asked_few_times_by_podman(started):
    """Each run lasts for seconds, with one between: two in ten, of five that systemd allows."""
    code, seconds, said = started("exit 2")
    assert code == 1 and 3 <= seconds < 5 and "not ready yet" in said and said.count("\n") == 1
    assert started.asked() > 10, "and answers as soon as it is there"


def test_a_check_that_hangs_ends_below_the_limit_of_podman(started):
    code, seconds, _said = started("sleep 4; exit 124")
    assert code == 1 and seconds < 9
