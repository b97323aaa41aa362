"""The checks that run each minute on an idle host cost little, and see what they saw before."""

import os
import socket
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path

import pytest
from pitr import database
from rendered import component
from test_start_checks import check_of, script

DJANGO = {
    "django/__init__.py": "def setup():\n    open({log!r}, 'a').write('loaded\\n')\n",
    "django/db.py": "class OperationalError(Exception):\n    pass\n",
    "django/utils/__init__.py": "",
    "django/utils/timezone.py": "import datetime\ndef now():\n    return datetime.datetime.now(datetime.UTC)\n",
    "django_celery_beat/__init__.py": "",
    "django_celery_beat/models.py": """
import datetime
from types import SimpleNamespace
from django.db import OperationalError
class PeriodicTask:
    class objects:
        def filter(**_):
            said = open({sent!r}).read()
            if said == "down":
                raise OperationalError
            every = SimpleNamespace(schedule=SimpleNamespace(run_every=datetime.timedelta(seconds=10)))
            when = datetime.datetime.fromtimestamp(float(said), datetime.UTC)
            return SimpleNamespace(select_related=lambda _: [SimpleNamespace(interval=every, last_run_at=when)])
""",
}


@pytest.fixture
def beat(tmp_path):
    """The check of a Beat that has run for longer than it may be silent, with Django and Beat's tables played."""
    log, sent, memory = tmp_path / "log", tmp_path / "sent", tmp_path / "remembered"
    for name, text in DJANGO.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text.format(log=str(log), sent=str(sent)) if "{" in text else text)
    check = Path(script(tmp_path, "celery", "beat_health.py", celery_beat_max_silence=300, celery_beat_scheduler="database", __celery_database_port=1))
    text = check.read_text()
    assert text.count('"/tmp/senex-beat-sent"') == 1
    check.write_text(text.replace("/tmp/senex-beat-sent", str(memory)).replace("if age < LIMIT:", "if False:"))

    def asked():
        """Exit status, what was said, and whether the application was loaded."""
        before = log.read_text() if log.exists() else ""
        words = [sys.executable, "-S", str(check)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False, env={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path)
        return done.returncode, done.stdout + done.stderr, log.exists() and log.read_text() != before

    asked.sent = lambda ago: sent.write_text(ago if ago == "down" else str(time.time() - ago))
    asked.memory = memory
    return asked


def test_a_beat_that_sent_something_is_not_asked_anew_before_it_could_be_silent(beat):
    beat.sent(100)
    assert beat() == (0, "", True)
    assert 99 < time.time() - beat.memory.stat().st_mtime < 200, "remembered is when it sent, not when it was asked"
    assert beat() == (0, "", False), "a minute later nothing is loaded"
    os.utime(beat.memory, (time.time() - 301, time.time() - 301))
    assert beat() == (0, "", True), "it has sent something since"
    assert 99 < time.time() - beat.memory.stat().st_mtime < 200


def test_a_beat_that_is_silent_is_told_as_soon_as_it_was(beat):
    beat.sent(100)
    assert beat()[0] == 0
    os.utime(beat.memory, (time.time() - 301, time.time() - 301))
    beat.sent(301)
    for _ in range(2):
        code, said, loaded = beat()
        assert code == 1 and loaded and "has sent nothing for 3" in said


def test_nothing_is_remembered_of_a_database_that_is_away_or_a_clock_that_was_ahead(beat):
    beat.sent("down")
    assert beat()[::2] == beat()[::2] == (0, True) and not beat.memory.exists()
    beat.sent(-3600)
    assert beat()[::2] == beat()[::2] == (0, True)


def test_a_beat_is_well_where_nothing_can_be_remembered(beat):
    beat.memory.mkdir()
    beat.sent(5)
    os.utime(beat.memory, (0, 0))
    code, said, loaded = beat()
    assert (code, loaded) == (0, True) and "asked each time" in said


CELERY = """
import atexit
atexit.register(lambda: open({log!r}, 'a').write('cleared up\\n'))
said = open({said!r}).read().split()
class Inspect:
    def __init__(self, **_): pass
    def stats(self): return {{"worker@host": {{"pool": {{"max-concurrency": 1}}}}}} if "answers" in said else None
    def active(self): return {{"worker@host": [1] if "busy" in said else []}}
    def active_queues(self): return {{"worker@host": [{{"name": name}} for name in ["health.worker@host"] + ["celery"] * ("takes" in said)]}}
class Probe:
    def ready(self): return True
    def forget(self):
        if "forgetless" in said: raise NotImplementedError("No result backend is configured.")
        open({log!r}, 'a').write('forgotten\\n')
class ChannelError(Exception): pass
class Connection:
    channel_errors = (ChannelError,)
    class default_channel:
        def queue_declare(*_, **__): raise ChannelError("NOT_FOUND - no queue")  # as kombu says of a queue of Redis that is empty
    def __enter__(self): return self
    def __exit__(self, *_): pass
class app:
    connection_for_read = Connection
    class conf: result_backend, task_ignore_result = None if "forgetless" in said else "redis", False
    class control: inspect = Inspect
    def send_task(*_, **__): return Probe()
def find_app(_): return app
"""


@pytest.mark.parametrize(
    ("said", "code", "did"),
    [
        ("answers takes", 0, "forgotten\n"),  # as the last thing: nothing is cleared up of what is at its end
        ("answers takes forgetless", 0, ""),
        ("answers takes busy", 0, ""),
        ("answers", "takes from none of its queues", "cleared up\n"),
        ("", "does not answer a ping", "cleared up\n"),
    ],
)
def test_a_worker_that_is_well_ends_its_check_at_once(tmp_path, said, code, did):
    log, words = tmp_path / "log", tmp_path / "said"
    words.write_text(said)
    log.touch()
    (tmp_path / "celery/app").mkdir(parents=True)
    for name in ("celery/__init__.py", "celery/app/__init__.py"):
        (tmp_path / name).touch()
    (tmp_path / "celery/app/utils.py").write_text(CELERY.format(log=str(log), said=str(words)))
    with socket.create_server(("127.0.0.1", 0)) as broker:
        path = script(tmp_path, "celery", "worker_health.py", celery_app="demo", __celery_broker=broker.getsockname())
        check = [sys.executable, "-S", path, "worker@host", "celery,trading"]
        done = subprocess.run(check, capture_output=True, text=True, timeout=20, check=False, env={"PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stderr) == (0, "") if code == 0 else done.returncode == 1 and code in done.stderr
    assert log.read_text() == did


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", None),
        (b"HTTP/1.0 200\r\n\r\n", None),
        (b"HTTP/1.1 301 Moved Permanently\r\nLocation: /\r\n\r\n", "answered 301"),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "answered 503"),
        (b"200 OK\r\n\r\n", "answered no status"),
        (b"\x16\x03\x01 200", "answered no status"),
        (b"HTTP/1.1 two hundred\r\n\r\n", "answered no status"),
        (b"", "answered no status"),
    ],
)
def test_an_instance_is_well_by_its_status_alone(tmp_path, answer, says):
    with socket.create_server(("127.0.0.1", 0)) as server:
        heard = []

        def serve():
            with server.accept()[0] as client:
                heard.append(client.recv(9999))
                half = len(answer) // 2
                client.sendall(answer[:half])  # in pieces
                time.sleep(0.1)
                client.sendall(answer[half:])

        thread = threading.Thread(target=serve)
        thread.start()
        done = subprocess.run([sys.executable, check_of(tmp_path, server.getsockname()[1])], capture_output=True, text=True, timeout=20, check=False)
        thread.join()
    assert heard == [b"GET /alive/ HTTP/1.1\r\nHost: www.example.com\r\nX-Forwarded-Proto: https\r\n\r\n"]
    assert (done.returncode, says or "") == (bool(says), done.stderr.strip().removeprefix("health: "))


def test_an_instance_that_hangs_is_given_up(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = subprocess.run([sys.executable, check_of(tmp_path, server.getsockname()[1])], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1 and "timed out" in done.stderr


def test_no_check_of_an_instance_loads_an_http_client(tmp_path):
    """It is asked four times a minute on a host with two."""
    words = [sys.executable, "-X", "importtime", check_of(tmp_path, 9)]
    loaded = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False).stderr
    assert "| socket" in loaded and not [name for name in ("http.client", "email", "ssl") if f" {name}\n" in loaded]


@pytest.fixture
def clients(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "CLIENTS", str(tmp_path))
    database.client.cache_clear()
    yield tmp_path
    database.client.cache_clear()


@pytest.mark.parametrize(
    ("there", "newest"), [([], None), (["9.6", "15"], "15"), (["17", "9.6", "16"], "17"), (["100", "99"], "100"), (["9.5", "9.6"], "9.6"), (["common"], None)]
)
def test_the_newest_client_is_called_without_the_program_that_looks_for_it(clients, there, newest):
    for version in there:
        (clients / version / "bin").mkdir(parents=True)
        (clients / version / "bin/psql").touch()
    assert database.client() == (str(clients / newest / "bin/psql") if newest else "psql")


def test_a_version_that_has_no_client_is_passed_over(clients):
    (clients / "18/bin").mkdir(parents=True)
    (clients / "17/bin").mkdir(parents=True)
    (clients / "17/bin/psql").touch()
    assert database.client() == str(clients / "17/bin/psql")


def test_podman_writes_no_line_for_each_check():
    """Read as TOML by Podman from a directory of its user; a version that does not know the option passes over it."""
    text, item = component("podman")[0][".config/containers/containers.conf.d/senex.conf"]
    assert tomllib.loads(text) == {"engine": {"healthcheck_events": False}} and item["mode"] == "0644"
