"""A host of its own for a folder of tests, so that they can run beside others: they look at what happens, not at how long it takes."""

import os
import subprocess

from stack import LAB, Stack

# A host that somebody named outlives the tests, so it is left as it was found; one of the folder's own is thrown away as it is
KEPT = bool(os.environ.get("SENEX_TEST_HOST"))


# Seconds for each verb: whoever else makes the snapshot is waited for, on a machine with other work
LONGEST = {"snapshot": 3600, "up": 900}


def _started(host):
    """From the snapshot of the whole stack, which is made first where there is none."""
    subprocess.run([LAB, "down", host], capture_output=True, check=False)
    for words in (["snapshot", "stack"], ["up", host, "--from", "stack"]):
        done = subprocess.run([LAB, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LONGEST[words[0]], check=False)
        assert done.returncode == 0, done.stdout + done.stderr[-4000:]


def stack_on(host):
    """The stack on a host of its own of this name, up and healthy until the tests are over; or on the one that SENEX_TEST_HOST names."""
    named = os.environ.get("SENEX_TEST_HOST")
    try:
        if not named:
            _started(host)
        found = Stack(named or host)
        found.ready(120)
        yield found
    finally:
        if not named:
            subprocess.run([LAB, "down", host], capture_output=True, check=False)
