import json
import shlex
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "shared"))

from parts import Part, eventually  # noqa: E402  (the path above must come first)

NAME = "celery-worker@molecule-celery"
CHECK = f"python3 /run/senex/worker_health.py {NAME} celery,accounts,trading,services"


class Application:
    """The demo application's API, asked as nginx would."""

    def __init__(self, host):
        self.host = host

    def ask(self, path, body=None):
        words = ["curl", "-s", "-m", "10", "-H", "Host: www.senex.test", "-H", "X-Forwarded-Proto: https"]
        words += ["-H", "Content-Type: application/json", "--data", json.dumps(body)] if body is not None else []
        return json.loads(self.host.check_output(shlex.join([*words, f"http://127.0.0.1:8001{path}"])))

    def enqueue(self, kind, **arguments):
        return self.ask("/api/tasks/", {"kind": kind, **arguments})["id"]

    def state(self, task):
        return self.ask(f"/api/tasks/{task}/")["state"]

    def ledger(self, prefix):
        return self.ask(f"/api/ledger/?prefix={prefix}")

    def works(self, seconds=30, **arguments):
        """A task is enqueued, runs, and its result comes back."""
        task = self.enqueue("add", x=2, y=3, **arguments)
        eventually(lambda: self.state(task) == "SUCCESS", seconds)
        return self.ask(f"/api/tasks/{task}/")["result"] == 5


class Worker(Part):
    def check(self):
        """What the unit's own health check says."""
        return self.script(f"timeout 60 {CHECK} 2>&1")

    def control(self, words):
        # With a name it waits for that one's answer, without for all that may come in the time
        return self.podman(f"exec {self.name} celery --app=demo control --timeout 5 --destination {NAME} {words}")


@pytest.fixture(scope="module")
def application(host):
    return Application(host)


@pytest.fixture(scope="module")
def worker(host):
    return Worker(host, "celery-worker")


@pytest.fixture(scope="module")
def beat(host):
    return Part(host, "celery-beat")


@pytest.fixture(autouse=True)
def journal(request, worker, beat):
    """The units' last words, when a test fails."""
    yield
    if getattr(request.node, "failed", False):
        print(worker.journal(), beat.journal(lines=10), sep="\n")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    item.failed = report.failed
    return report
