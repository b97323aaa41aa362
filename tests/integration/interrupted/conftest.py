"""The two hosts of the scenario two_web_hosts."""

import os
import subprocess

import pytest
from pair import Pair, molecule
from stack import LAB

# For whoever writes tests here: the hosts are left, and the next run takes them as they are
KEEP = bool(os.environ.get("SENEX_TEST_KEEP"))


def _there():
    return subprocess.run(["podman", "container", "exists", "molecule-web-one"], check=False).returncode == 0


@pytest.fixture(scope="session")
def pair(tmp_path_factory):
    if not (KEEP and _there()):
        molecule("destroy")
        made = subprocess.run([LAB, "snapshot", "two_web_hosts"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900, check=False)
        assert made.returncode == 0, made.stdout + made.stderr[-4000:]
        molecule("create")
    try:
        found = Pair(tmp_path_factory.mktemp("two"))
        found.back()
        for host in found.hosts:
            found.inside(host, "update-ca-certificates >/dev/null 2>&1")
        found.ready(180)
        yield found
    finally:
        if not KEEP:
            molecule("destroy")
            volumes = [f"{host}-opt" for host in ("molecule-web-one", "molecule-web-two")]
            subprocess.run(["podman", "volume", "rm", "--force", *volumes], capture_output=True, check=False)
