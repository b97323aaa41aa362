"""Hosts come and go, and the others find names as before."""

import json
import subprocess
import threading
import time
from pathlib import Path

import pytest
from bed import create, pid

# glibc's resolver, as a program of the container meets it
LOOK = ["nsenter", "--mount", "--net", "--target"]
WORST_SECONDS = 1.5
COME_AND_GO = [f"passing-{number}" for number in range(10)]


class Looker:
    """Asks for a name again and again, in a container's place. aardvark-dns 1.4 closes its socket for some milliseconds while it reads its files anew: a
    question is refused then, at once, and asked a second time here."""

    def __init__(self, target, name):
        self.command = [*LOOK, target, "getent", "ahostsv4", name]
        self.times, self.missing, self.stop = [], 0, threading.Event()
        self.thread = threading.Thread(target=self.ask)

    def ask(self):
        while not self.stop.is_set():
            begin = time.monotonic()
            found = self.look()
            if not found:
                self.stop.wait(0.05)
                found = self.look()
            self.missing += not found
            self.times.append(time.monotonic() - begin)
            self.stop.wait(0.05)

    def look(self):
        return subprocess.run(self.command, capture_output=True, check=False, timeout=60).returncode == 0

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


@pytest.fixture
def two(lab):
    for name in ("target", "looker"):
        create(lab, name)
    yield pid(lab, "looker")
    lab("run", "--", "podman", "rm", "--ignore", "--force", "--time", "0", "target", "looker", *COME_AND_GO, check=False)


def test_ten_hosts_come_and_go_beside_a_look_up_loop(lab, two):
    """Without an address of its own the bridge takes that of its lowest port: one answer took 40 s here, and failed."""
    definition = json.loads((lab.directory / "containers" / "networks" / "senex-lab.json").read_text(encoding="utf-8"))
    address = Path("/sys/class/net", definition["network_interface"], "address")
    lab("run", "--", "true")
    seen = {address.read_text(encoding="utf-8")}
    with Looker(two, "target") as looker:
        for _ in range(2):
            for name in COME_AND_GO:
                create(lab, name)
                seen.add(address.read_text(encoding="utf-8"))
            lab("run", "--", "podman", "rm", "--ignore", "--force", "--time", "0", *COME_AND_GO)
            seen.add(address.read_text(encoding="utf-8"))
    assert len(looker.times) > 50
    assert looker.missing == 0
    assert max(looker.times) < WORST_SECONDS
    assert len(seen) == 1


def test_a_host_knows_the_registry_without_a_resolver_and_nothing_of_the_machine(lab, two):
    hosts = lab("run", "--", "podman", "exec", "looker", "cat", "/etc/hosts")
    assert ["10.203.9.2", "registry.senex.test"] in [line.split() for line in hosts.splitlines()]
    own = {"localhost", "ip6-localhost", "ip6-loopback", "registry.senex.test", "looker", "host.containers.internal"}
    identifier = lab("run", "--", "podman", "inspect", "--format", "{{.Id}}", "looker")
    names = {word for line in hosts.splitlines() for word in line.split("#")[0].split()[1:]}
    assert names <= own | {identifier[:12], "host.docker.internal"}
    assert "timeout:1" in lab("run", "--", "podman", "exec", "looker", "cat", "/etc/resolv.conf")
