"""A host of its own for a folder of tests, so that they can run beside others: they look at what happens, not at how long it takes."""

import os
import subprocess

from stack import LAB, ROOT, Stack, environment

# A host that somebody named outlives the tests, so it is left as it was found; one of the folder's own is thrown away as it is
KEPT = bool(os.environ.get("SENEX_TEST_HOST"))


def _converged(host):
    subprocess.run([LAB, "down", host], capture_output=True, check=False)
    address = subprocess.run([LAB, "up", host, "--image", "host-ready"], capture_output=True, text=True, check=True).stdout.split()[-1]
    done = subprocess.run(Stack.command_at(address), cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=600, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]


def stack_on(host):
    """The stack on a new host of this name, up and healthy until the tests are over; or on the one that SENEX_TEST_HOST names."""
    named = os.environ.get("SENEX_TEST_HOST")
    try:
        if not named:
            _converged(host)
        found = Stack(named or host)
        found.ready(120)
        yield found
    finally:
        if not named:
            subprocess.run([LAB, "down", host], capture_output=True, check=False)
