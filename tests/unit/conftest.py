"""The collection under its own name, as Ansible loads it: ansible_collections.senex.trader is this very tree."""

import contextlib
import pathlib
import shutil
import signal

import pytest
from ansible.plugins.loader import init_plugin_loader

with contextlib.suppress(Exception):  # a second time is one too many
    init_plugin_loader([str(pathlib.Path(__file__).parents[2])])

from hostile import Ground  # noqa: E402  (it needs nothing of the collection, and pytest has put this directory on the path by now)


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
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
