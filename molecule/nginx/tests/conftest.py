"""Requests as a visitor makes them, each test from an address of its own so that limits don't mix."""

import itertools
import json
import re
import shlex

import pytest

DOMAIN = "www.senex.test"
addresses = itertools.count(10)


class Answer:
    def __init__(self, text):
        head, _, self.body = text.partition("\n\n")
        lines = head.splitlines()
        self.status = int(lines[0].split()[1]) if lines and lines[0].startswith("HTTP") else 0
        self.version = lines[0].split()[0] if self.status else ""
        pairs = [line.split(":", 1) for line in lines[1:] if ":" in line]
        self.names = [name.lower() for name, _ in pairs]
        self.headers = {name.lower(): value.strip() for name, value in pairs}

    @property
    def json(self):
        return json.loads(self.body)


class Visitor:
    def __init__(self, host, address):
        self.host, self.address = host, address

    def curl(self, url, *options):
        words = ["curl", "--silent", "--insecure", "--include", "--max-time", "20", "--interface", self.address]
        # Not --resolve *:80, by which curl would find its own address of --interface as well
        words += ["--connect-to", "::127.0.0.1:"]
        return self.host.run(shlex.join([*words, *options, url]))

    def get(self, path, *options, scheme="https", domain=DOMAIN):
        return Answer(self.curl(f"{scheme}://{domain}{path}", *options).stdout.replace("\r\n", "\n"))

    def post(self, path, *options):
        return self.get(path, "--data", "username=x", *options)

    def statuses(self, count, path, *options):
        """The statuses of so many requests over one connection."""
        mark = "<%{http_code}>"
        words = [
            "curl",
            "--silent",
            "--insecure",
            "--max-time",
            "60",
            "--interface",
            self.address,
            "--resolve",
            "*:443:127.0.0.1",
            "--output",
            "/dev/null",
            "--write-out",
            mark,
            *options,
            f"https://{DOMAIN}{path}?[1-{count}]",
        ]
        return [int(code) for code in re.findall(r"<(\d+)>", self.host.run(shlex.join(words)).stdout)]


@pytest.fixture
def visitor(host):
    return Visitor(host, f"127.0.0.{next(addresses)}")


@pytest.fixture
def journal(host):
    """The unit's last words, when a test fails."""
    yield
    print(host.run("journalctl -u nginx.service -n 20 --no-pager; tail -n 5 /var/log/nginx/error.log").stdout)
