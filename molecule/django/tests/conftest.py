import json
import shlex
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "shared"))

from parts import Part  # noqa: E402  (the path above must come first)

DOMAIN = "www.senex.test"

# One line a round: the time and the status of each port
POLL = """
import http.client, sys, time
domain, ports = sys.argv[2], [int(port) for port in sys.argv[3:]]
end = time.time() + float(sys.argv[1])
with open("/root/polled", "w", buffering=1) as out:
    while time.time() < end:
        seen = []
        for port in ports:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3)
                connection.request("GET", "/health/simple/", headers={"Host": domain, "X-Forwarded-Proto": "https"})
                seen.append(str(connection.getresponse().status))
            except (OSError, http.client.HTTPException):
                seen.append("0")
        out.write(" ".join([format(time.time(), ".1f"), *seen]) + "\\n")
        time.sleep(0.1)
"""


class Web(Part):
    """An instance, as nginx would ask it."""

    def __init__(self, host, number):
        super().__init__(host, f"web-{number}")
        self.port = 8000 + number

    def get(self, path, *options):
        """Status and body."""
        words = ["curl", "-s", "-m", "10", "-H", f"Host: {DOMAIN}", "-H", "X-Forwarded-Proto: https", "-w", "\n%{http_code}", *options]
        body, _, status = self.host.run(shlex.join([*words, f"http://127.0.0.1:{self.port}{path}"])).stdout.rpartition("\n")
        return int(status), body

    @property
    def alive(self):
        return self.get("/health/simple/")[0] == 200

    @property
    def version(self):
        return json.loads(self.get("/version/")[1])["version"]

    def kill_and_wait(self):
        """Kill the main process, and wait until it answers again: seconds."""
        self.host.check_output(f"kill -9 {self.pid}")
        begin = time.monotonic()
        while self.alive:
            time.sleep(0.05)
        while not self.alive:
            assert time.monotonic() < begin + 60, self.journal()
            time.sleep(0.2)
        return time.monotonic() - begin


class Polled:
    """The statuses of some ports, asked all the time while something happens."""

    def __init__(self, host, *ports):
        self.host, self.ports = host, ports

    def __enter__(self):
        words = shlex.join(["python3", "-c", POLL, "170", DOMAIN, *map(str, self.ports)])
        self.pid = self.host.check_output(f"{words} >/dev/null 2>&1 & echo $!")
        time.sleep(0.5)
        return self

    def __exit__(self, *_):
        time.sleep(0.5)
        self.host.check_output(f"kill {self.pid}")
        self.rounds = [line.split()[1:] for line in self.host.file("/root/polled").content_string.splitlines()]

    @property
    def all_down(self):
        return [answers for answers in self.rounds if "200" not in answers]

    def was_down(self, port):
        return any(answers[self.ports.index(port)] != "200" for answers in self.rounds)


@pytest.fixture(scope="module")
def web(host):
    """Instances by number."""
    return {number: Web(host, number) for number in (1, 2, 3)}


@pytest.fixture(scope="module")
def others(host):
    return [Part(host, "postgres"), Part(host, "redis")]


@pytest.fixture(autouse=True)
def journal(request, web):
    """The units' last words, when a test fails."""
    yield
    if getattr(request.node, "failed", False):
        print(Part(web[1].host, "release").journal(), web[1].journal(), sep="\n")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    item.failed = report.failed
    return report
