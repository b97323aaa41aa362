"""Unit tests: the collection is imported once, and what was imported is not looked through again."""

import gc
import os
import pathlib
import shutil
import signal
import sys

import collection  # noqa: F401  (pytest has put this directory on the path by now)
import pytest
from hostile import Ground


def pytest_collectstart():
    """pytest writes the asserts of each module anew, at 50 ms a file. No bytecode goes into the tree, so that of the tests is kept elsewhere."""
    if "SENEX_LAB_DIR" in os.environ:
        # For each module again: programs that are imported, pitr.py among them, want none beside themselves, and say so to all
        sys.dont_write_bytecode, sys.pycache_prefix = False, str(pathlib.Path(os.environ["SENEX_LAB_DIR"], "bytecode"))


def pytest_collection_finish():
    # Not what a test makes and imports
    sys.dont_write_bytecode, sys.pycache_prefix = True, None
    # What was imported stays: to look through it for cycles costs a tenth of the time, and each fork a copy of it
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


@pytest.fixture
def ground():
    """See hostile.py."""
    made = Ground()
    yield made
    shutil.rmtree(made.base)


@pytest.fixture
def impatient(monkeypatch):
    """A FIFO that is waited for fails a test, and does not hang it."""

    def late(*_):
        raise AssertionError("waited")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(300)  # of a busy machine; what waits for a FIFO waits for ever
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
