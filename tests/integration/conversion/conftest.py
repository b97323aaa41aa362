"""A host that an earlier commit of this collection deployed."""

import io
import os
import subprocess
import tarfile

import pytest
from stack import LAB, ROOT, Stack, environment

EARLIER = "2b9cb75"  # 2026-11-22, the last commit before hosts were converted
HOST = "conversion"


@pytest.fixture(scope="session")
def earlier(tmp_path_factory):
    """The tree of the earlier commit."""
    place = tmp_path_factory.mktemp("earlier")
    done = subprocess.run(["git", "archive", EARLIER], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert done.returncode == 0, f"no commit {EARLIER} here (a shallow clone has none): {done.stderr.decode()}"
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(place, filter="data")
    return place


@pytest.fixture(scope="session")
def stack(earlier):
    """The stack as the earlier commit deployed it; or a host that SENEX_TEST_HOST names, deployed by it."""
    named = os.environ.get("SENEX_TEST_HOST")
    if named:
        yield Stack(named)
        return
    try:
        subprocess.run([LAB, "down", HOST], capture_output=True, check=False)
        up = subprocess.run([LAB, "up", HOST], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False)
        assert up.returncode == 0, up.stdout + up.stderr[-4000:]
        address = up.stdout.split()[-1]
        command = Stack.command_at(address, root=earlier, inventory=earlier / "inventory/demo")
        done = subprocess.run(command, cwd=earlier, env=environment(earlier), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=900, check=False)  # fmt: skip
        assert done.returncode == 0, done.stdout[-6000:]
        found = Stack(HOST)
        found.ready(120)
        yield found
    finally:
        subprocess.run([LAB, "down", HOST], capture_output=True, check=False)
