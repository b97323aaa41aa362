"""The collection under its own name, as Ansible loads it: ansible_collections.senex.trader is this very tree."""

import contextlib
import gc
import os
import pathlib
import shutil
import signal
import sys

import pytest
import yaml
from ansible.plugins.loader import init_plugin_loader

# The same documents in a tenth of the time; many tests read every YAML file of the tree
yaml.SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

with contextlib.suppress(Exception):  # a second time is one too many
    init_plugin_loader([str(pathlib.Path(__file__).parents[2])])

from hostile import Ground  # noqa: E402  (it needs nothing of the collection, and pytest has put this directory on the path by now)

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "roles/pitr/files"))
import hostlib  # noqa: E402, F401  (it puts senex_host on the path)
import pitr  # noqa: E402

pitr.__path__.append(str(ROOT / "plugins/module_utils"))  # the role installs psql.py beside it


def pytest_collectstart():
    """pytest writes the asserts of each module anew, at 50 ms a file. No bytecode goes into the tree, so that of the tests is kept elsewhere."""
    if "SENEX_LAB_DIR" in os.environ:
        # For each module again: programs that are imported, pitr.py among them, want none beside themselves, and say so to all
        sys.dont_write_bytecode, sys.pycache_prefix = False, str(pathlib.Path(os.environ["SENEX_LAB_DIR"], "bytecode"))


def pytest_collection_finish(session):
    """A module that has slow processes to start starts them now, and its tests find them done."""
    # Not what a test makes and imports
    sys.dont_write_bytecode, sys.pycache_prefix = True, None
    # What was imported stays: to look through it for cycles costs a tenth of the time, and each fork a copy of it
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    if not session.config.option.collectonly:
        for module in {item.module for item in session.items if hasattr(item.module, "begin")}:
            module.begin([item for item in session.items if item.module is module])


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
