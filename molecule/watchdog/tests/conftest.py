import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "shared"))

from parts import Part, eventually  # noqa: E402  (the path above must come first)

LOG = "/var/log/senextrader/watchdog.log"
RECEIVER = "/root/receiver"


class Watched:
    """The host as the watchdog's tests see it."""

    def __init__(self, host):
        self.host = host
        self.web = [Part(host, "web-1"), Part(host, "web-2")]

    def lines(self, name):
        return [json.loads(line) for line in self.host.run(f"cat {RECEIVER}/{name}.jsonl").stdout.splitlines()]

    @property
    def mails(self):
        """All but those about the clock, which a test host shares with the machine it runs on, and backups, which this scenario has not."""
        expected = ("WARN  time: ", "WARN  backups: ")
        return [mail for mail in self.lines("mails") if not all(line.startswith(expected) for line in mail["body"].split("\n\n") if line.strip())]

    def told(self, *words):
        """Mails that hold all the words."""
        return [mail for mail in self.mails if all(word in mail["body"] for word in words)]

    def log(self, word):
        return [line for line in self.host.run(f"cat {LOG}").stdout.splitlines() if word in line]

    @property
    def restarts(self):
        """How many the watchdog has done."""
        return len(self.log("restarted because"))

    def mode(self, text):
        self.host.check_output(f"echo {text} >{RECEIVER}/mode")

    def alive(self, port):
        words = "curl -s -m 3 -o /dev/null -w '%{http_code}' -H 'Host: www.senex.test' -H 'X-Forwarded-Proto: https'"
        return self.host.run(f"{words} http://127.0.0.1:{port}/health/simple/").stdout == "200"

    def public(self):
        words = "curl -sk -m 3 -o /dev/null -w '%{http_code}' --resolve www.senex.test:443:127.0.0.1"
        return self.host.run(f"{words} https://www.senex.test/health/simple/").stdout == "200"

    def state(self):
        return json.loads(self.host.check_output("cat /run/senex-watchdog/status.json"))

    def calm(self, seconds=60):
        """Wait until nothing is wrong."""
        eventually(lambda: not set(self.state()["open"]) - {"time", "backups"} and self.alive(8001) and self.alive(8002), seconds)


@pytest.fixture(scope="module")
def watched(host):
    found = Watched(host)
    found.calm(90)
    return found


@pytest.fixture(autouse=True)
def journal(request, watched):
    """The log's last lines, when a test fails."""
    yield
    if getattr(request.node, "failed", False):
        print(watched.host.run(f"tail -40 {LOG}; journalctl -u senex-watchdog -n 15 --no-pager; cat /run/senex-watchdog/status.json").stdout)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    item.failed = report.failed
    return report
