"""A release on a host whose netavark and aardvark-dns are those of Debian 12 and Ubuntu 24.04 (1.4.0): the bridge keeps its address, names are found."""

import json
import subprocess
import time

import pytest
from releases import deploy, release, versions
from stack import HOME, LAB, UID, wait

pytestmark = pytest.mark.faults
NETWORK = "senex-trader_senex_network"
ADDRESS = "02:73:65:6e:65:78"  # as roles/podman/files/bridge_address.sh has it
PLACE = "/usr/lib/podman"
BASE = "localhost/senex-lab/base:latest"  # Debian 12: its packages, without installing them
FETCH = """set -e
cd "$(mktemp -d)"
{ apt-get update -q && apt-get download netavark aardvark-dns; } >&2
for package in *.deb; do dpkg-deb --extract "$package" there; done
tar --create --directory there/usr/lib/podman netavark aardvark-dns
"""
# For addresses of both kinds, as applications ask, and for IPv4 alone: its questions are so few that the kernel's limit of refusals stops none of them
ASK = """
import json, socket, threading, time
seen = {}
def ask(family):
    mine = seen[family.name] = {"asked": 0, "failed": 0, "slowest": 0.0, "last": ""}
    while True:
        for name in ("postgres", "redis"):
            began = time.monotonic()
            try:
                socket.getaddrinfo(name, 1, family)
            except OSError as error:
                mine.update(failed=mine["failed"] + 1, last=str(error))
            mine.update(asked=mine["asked"] + 1, slowest=round(max(mine["slowest"], time.monotonic() - began), 2))
        time.sleep(0.02)
for family in (socket.AF_UNSPEC, socket.AF_INET):
    threading.Thread(target=ask, args=[family]).start()
while True:
    time.sleep(1)
    print(json.dumps(list(seen.values())), flush=True)
"""
# Longer than one of the kernel's refusals in a second, shorter than the five attempts
LATE_SECONDS = 1.5


def restarted(stack):
    """Everything anew, with the network made by the netavark that is there now."""
    stack.sh(f"systemctl restart user@{UID}.service", timeout=300)
    stack.ready(180)


def bridge(stack):
    name = stack.user("podman", "network", "inspect", "--format", "{{.NetworkInterface}}", NETWORK).strip()
    return stack.user("podman", "unshare", "--rootless-netns", "ip", "-o", "link", "show", "dev", name)


def run(stack, name, *words):
    image = stack.user("podman", "inspect", "--format", "{{.ImageName}}", "web-1").strip()
    # A log of its own: the service user does not read the journal
    options = ["--rm", "--detach", "--pull=never", "--log-driver=k8s-file", "--stop-timeout=0",
               f"--network={NETWORK}", "--dns-option=timeout:1", "--dns-option=attempts:5"]  # fmt: skip
    stack.user("podman", "run", *options, "--name", name, image, *words)


@pytest.fixture(scope="module")
def old(stack):
    """The host with the older programs, converged. Left as it was found."""
    container = ["podman", "--log-level=error", "run", "--rm", "--pull=never", "--network=host", "--cgroups=disabled", BASE, "sh", "-c", FETCH]
    fetched = subprocess.run([LAB, "run", "--", *container], stdin=subprocess.DEVNULL, capture_output=True, timeout=300, check=False)
    assert fetched.returncode == 0, fetched.stderr.decode(errors="replace")[-2000:]
    stack.sh(f"cp -a {PLACE}/netavark {PLACE}/aardvark-dns /root/")
    try:
        subprocess.run(stack.ssh_command(f"tar --extract --unlink-first --directory {PLACE}"), input=fetched.stdout, check=True, timeout=60)
        assert stack.sh(f"{PLACE}/netavark --version").split()[1].startswith("1.4.")
        restarted(stack)
        stack.play(tags="podman,postgresql,redis,django,celery").expect()
        stack.ready(120)
        yield stack
    finally:
        stack.sh(f"cp -a --remove-destination /root/netavark /root/aardvark-dns {PLACE}/")
        restarted(stack)
        stack.play(tags="podman,postgresql,redis,django,celery").expect()
        stack.ready(120)
        assert stack.ssh(f"test -e {HOME}/bin/senex-bridge-address").returncode, "what only the older one needs is gone"


def test_the_bridge_keeps_its_address_while_containers_start(old):
    """Without an address of its own it has the lowest of its ports', and that moved at the fifth."""
    names = [f"neighbour-{number}" for number in range(8)]
    assert ADDRESS in bridge(old)
    try:
        seen = {}
        for name in names:
            run(old, name, "sleep", "120")
            seen[name] = bridge(old)
        assert {name: text for name, text in seen.items() if ADDRESS not in text} == {}
    finally:
        old.user("podman", "rm", "--force", "--ignore", "--time=0", *names)
    assert ADDRESS in bridge(old)


@pytest.fixture
def asks(old):
    """What a container on the network has seen that asks all the time."""
    run(old, "asks", "python", "-c", ASK)

    def seen():
        return json.loads(old.user("podman", "logs", "--tail=1", "asks") or "[]")

    def begun():
        return len(seen()) == 2 and min(one["asked"] for one in seen()) > 20

    try:
        wait(begun, 30, "look-ups")
        yield seen
    finally:
        old.user("podman", "rm", "--force", "--ignore", "--time=0", "asks", "late")


def test_who_asks_while_the_resolver_is_away_is_not_refused(old, asks):
    """It is away for a moment with each start and stop. Here for longer, so that no run can miss it."""
    old.sh(f"pkill -KILL -u {UID} -x aardvark-dns")
    time.sleep(LATE_SECONDS)
    run(old, "late", "sleep", "1")  # which starts it again
    time.sleep(2)
    print(asks())
    for found in asks():
        assert found["failed"] == 0 and found["slowest"] > LATE_SECONDS, found


def test_a_release_and_the_way_back_lose_no_look_up(old, asks):
    began = time.monotonic()
    deploy(old, "2").expect()
    assert versions(old) == {"2"}
    release(old, "rollback", release_undo_migrations=True).expect()
    seconds = time.monotonic() - began
    print(f"{seconds:.0f} s: {asks()}")
    for found in asks():
        # The resolver reads its files anew with each start, and loses what it is asked meanwhile: the next attempt comes after a second, and may be lost too
        assert found["failed"] == 0 and found["slowest"] <= 2.5, found
        assert found["asked"] > 10 * seconds, found
    assert ADDRESS in bridge(old) and versions(old) == {"1"}
