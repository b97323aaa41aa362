"""One run of the lab at a time: who waits a moment says nothing, for what is said may be read as the output of a command."""

import importlib
import sys
import threading
from pathlib import Path

import pytest

LAB = Path(__file__).parents[1] / "lab"


@pytest.fixture
def shell(monkeypatch):
    """The module; what it brings along has names that others have too."""
    monkeypatch.syspath_prepend(str(LAB))
    for name in ("settings", "shell"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module("shell")
    for name in ("settings", "shell"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(("silence", "said"), [(30, []), (0, ["waiting for another run of the lab"])])
def test_a_short_wait_is_not_told(shell, tmp_path, monkeypatch, silence, said):
    told, inside = [], threading.Event()
    monkeypatch.setattr(shell, "DIRECTORY", tmp_path)
    monkeypatch.setattr(shell, "TOLD_AFTER", silence)
    monkeypatch.setattr(shell, "say", told.append)

    def hold():
        with shell.lock():
            inside.set()
            release.wait(10)

    release = threading.Event()
    holder = threading.Thread(target=hold)
    holder.start()
    inside.wait(10)
    threading.Timer(1.2, release.set).start()
    with shell.lock():
        assert release.is_set(), "the lock was had by two"
    holder.join()
    assert told == said
