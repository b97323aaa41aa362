"""Hosts of a scenario with several of them, over ssh. Those of two_web_hosts: one has every part, the other web instances alone."""

import json
import os
import shlex
import subprocess

import pytest
from stack import DOMAIN, LAB_DIRECTORY

PREFIX = os.environ.get("SENEX_LAB_PREFIX") or "10.203.0"


class Host:
    def __init__(self, name, number, instances):
        self.name, self.address, self.instances = name, f"{PREFIX}.{number}", instances

    def run(self, script, timeout=60):
        options = ["-i", f"{LAB_DIRECTORY}/ssh/id_ed25519", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        command = ["ssh", *options, f"root@{self.address}", f"bash -c {shlex.quote(script)}"]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False)

    def sh(self, script, timeout=60):
        done = self.run(script, timeout)
        assert done.returncode == 0, f"{self.name}, exit {done.returncode} from {script}: {done.stdout}{done.stderr}"
        return done.stdout

    def says(self, key):
        """What each instance answers for `key` at /version/, asked at its own port."""
        found = set()
        for port in range(8001, 8001 + self.instances):
            listens = self.sh(f"ss -Hltn 'sport = :{port}'").split()[3]
            found.add(json.loads(self.sh(f"curl -sS -m 5 -H 'Host: {DOMAIN}' -H 'X-Forwarded-Proto: https' http://{listens}/version/"))[key])
        return found

    def journal(self):
        return self.run("journalctl _UID=987 -n 300 --no-pager -o short-precise | grep -vE 'health_status|<nwarn>' | tail -n 40").stdout


def both():
    return Host("molecule-web-one", 120, 1), Host("molecule-web-two", 121, 2)


@pytest.fixture(autouse=True)
def journals(request, site):
    """The units' last words, when a test fails; for the conftest of each scenario to import, with the hook below."""
    yield
    if getattr(request.node, "failed", False):
        for host in site.hosts:
            errors = host.run("! test -e /var/log/nginx/error.log || tail -n 10 /var/log/nginx/error.log").stdout
            print(host.name, host.journal(), errors, sep="\n")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    item.failed = report.failed
    return report
