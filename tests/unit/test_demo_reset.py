"""A lab that does not come up is reset by `make demo`, but never under the hosts of others."""

import contextlib
import importlib
import os
import sys
from pathlib import Path

import pytest

RUNNER = Path(__file__).parents[1] / "runner"
LAB = """#!/bin/bash
echo "$*" >>calls
case $1 in
run) cat hosts; exit $(cat answers) ;;
up) [[ $(grep -c ^up calls) -gt 1 ]] ;;
esac
"""


@pytest.fixture
def demo(monkeypatch, tmp_path):
    """The module, with a lab that does not come up at the first time."""
    monkeypatch.syspath_prepend(str(RUNNER))
    monkeypatch.delitem(sys.modules, "demo", raising=False)
    found = importlib.import_module("demo")
    (tmp_path / "lab").write_text(LAB, encoding="utf-8")
    (tmp_path / "lab").chmod(0o755)
    (tmp_path / "hosts").write_text(f"{os.getpid()} registry\n{os.getpid()} demo\n")
    (tmp_path / "answers").write_text("0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(found, "LAB", str(tmp_path / "lab"))
    monkeypatch.setattr(found, "_steps", lambda: [("up", [[found.LAB, "up", "demo"]])])
    monkeypatch.setattr(found, "held", contextlib.nullcontext)
    monkeypatch.setattr(found, "_login", lambda: "a password")
    yield found
    sys.modules.pop("demo", None)


def calls():
    return [line.split()[0] for line in Path("calls").read_text().splitlines()]


@pytest.mark.parametrize("answers", [0, 125], ids=["nobody", "a lab that does not answer"])
def test_it_is_reset_for_the_demo_alone(demo, answers):
    Path("answers").write_text(str(answers))
    demo.up()
    assert calls() == ["up", "run", "reset", "registry", "up"]


def test_the_hosts_of_others_stay(demo):
    Path("hosts").write_text("".join(f"{os.getpid()} {name}\n" for name in ("registry", "demo", "recovery", "upgrade")))
    with pytest.raises(sys.modules["common"].Failure, match="would remove recovery, upgrade; when nobody needs them"):
        demo.up()
    assert "reset" not in calls()


def test_hosts_whose_processes_were_killed_keep_nobody_waiting(demo):
    Path("hosts").write_text("4194305 recovery\n")  # more than the kernel has
    demo.up()
    assert "reset" in calls()
