"""A host of its own, so that these tests can run beside others: they look at what happens, not at how long it takes."""

import os
import subprocess

import pytest
from stack import LAB, ROOT, Stack, environment

HOST = "changes"


def converged():
    """The name of a new host with the stack on it."""
    subprocess.run([LAB, "down", HOST], capture_output=True, check=False)
    address = subprocess.run([LAB, "up", HOST, "--image", "host-ready"], capture_output=True, text=True, check=True).stdout.split()[-1]
    done = subprocess.run(Stack.command_at(address), cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=600, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    return HOST


@pytest.fixture(scope="session")
def stack():
    """The stack on a new host, up and healthy, or on the one that SENEX_TEST_HOST names."""
    named = os.environ.get("SENEX_TEST_HOST")
    try:
        found = Stack(named or converged())
        found.ready(120)
        yield found
    finally:
        if not named:
            subprocess.run([LAB, "down", HOST], capture_output=True, check=False)
