"""Two web hosts behind one nginx: the hosts over ssh, the site over HTTPS, and the collection's own playbooks."""

import json
import re
import shlex
import ssl
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
sys.path[:0] = [str(ROOT / "molecule/shared"), str(ROOT / "tests/integration")]

from parts import played  # noqa: E402  (the path above must come first)
from releases import HOLDER, RECORDS  # noqa: E402
from traffic import Traffic  # noqa: E402
from two_hosts import both, journals, pytest_runtest_makereport  # noqa: E402, F401

RATE = 15

# On nginx's host, 20 times a second: which servers nginx is told to leave out
WATCH = """
import os, time
end = time.time() + 280
with open("/root/watched", "w", buffering=1) as out:
    while time.time() < end:
        names = sorted(os.listdir("/run/senex.trader/out")) if os.path.isdir("/run/senex.trader/out") else []
        out.write(" ".join([format(time.time(), ".2f"), *names]) + "\\n")
        time.sleep(0.05)
"""


class Site:
    """Both hosts, and what the traffic needs to know."""

    def __init__(self):
        self.one, self.two = self.hosts = both()
        self.address = self.one.address
        self.context = ssl.create_default_context(cadata=self.one.sh("cat /etc/senex-trader/tls/ca.crt"))

    def play(self, playbook, *options, **variables):
        """One of the collection's playbooks on the scenario's inventory."""
        return played(playbook, *options, **variables)

    def deploy(self, tag, **variables):
        return self.play("deploy", django_image_tag=tag, **variables)

    def versions(self):
        return [host.says("version") for host in self.hosts]

    def records(self, host):
        return [json.loads(line) for line in host.sh(f"cat {RECORDS}").splitlines()]

    def unlocked(self):
        return all(host.run(f"test -e {HOLDER}").returncode for host in self.hosts)


class Observed:
    """What users and nginx saw while something happened."""

    def __init__(self, site):
        self.site, self.traffic = site, Traffic(site, rate=RATE, sockets=4, tasks_per_second=0)

    def __enter__(self):
        self.before = int(self.site.one.sh("wc -l </var/log/nginx/access.log"))
        self.pid = self.site.one.sh(f"setsid python3 -c {shlex.quote(WATCH)} >/dev/null 2>&1 & echo $!").strip()
        self.began = time.monotonic()
        self.traffic.__enter__()
        return self

    def __exit__(self, *error):
        self.seconds = time.monotonic() - self.began
        self.traffic.__exit__(*error)
        self.site.one.sh(f"kill {self.pid}")
        self.rounds = [line.split()[1:] for line in self.site.one.sh("cat /root/watched").splitlines()]
        lines = self.site.one.sh(f"tail -n +{self.before + 1} /var/log/nginx/access.log").splitlines()
        # Of a request that was passed on to a second server, nginx lists both
        self.passed_on = [line for line in lines if re.search(r"upstream=\S+, ", line)]

    def out(self, host):
        """Whether a server of this host was out at some time."""
        return any(self.is_of(host, name) for names in self.rounds for name in names)

    def is_of(self, host, name):
        return name.startswith("127.0.0.1" if host is self.site.one else host.address)

    def expect_nobody_noticed(self):
        found = self.traffic.result()
        print(f"{self.seconds:.0f} s: {found}, passed on: {len(self.passed_on)}")
        self.traffic.expect_nothing_lost(least=int(RATE * self.seconds * 0.9))
        assert self.passed_on == [], f"nginx met {len(self.passed_on)} times a server that had stopped, such as: {self.passed_on[0]}"
        both = [names for names in self.rounds if all(any(self.is_of(host, name) for name in names) for host in self.site.hosts)]
        assert both == [], f"servers of both hosts were out at once: {both[0]}"
        assert self.rounds[-1] == [], f"left out: {self.rounds[-1]}"


@pytest.fixture(scope="session")
def site():
    return Site()
