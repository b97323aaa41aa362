"""No call of Podman by the lab lasts without end: Podman waits for locks that its other work holds."""

import ast
import importlib
import sys
from pathlib import Path

import pytest

LAB = Path(__file__).parents[1] / "lab"
OWN = ("settings", "shell", "network", "space")


@pytest.fixture
def lab(monkeypatch, tmp_path):
    """A module of the lab by its name, beside a Podman that waits for a lock which nobody gives up; one of its own, for others have these names too."""
    podman = tmp_path / "podman"
    podman.write_text(f'#!/bin/sh\n[ "$2" = ls ] && echo {"0" * 64} && exit\nexec sleep 4\n')
    podman.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.syspath_prepend(str(LAB))
    for name in OWN:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module
    for name in OWN:
        sys.modules.pop(name, None)


def test_podman_has_a_limit_whatever_the_caller_says(lab, monkeypatch):
    shell = lab("shell")
    assert shell.limit(["podman", "volume", "rm", "x"]) == shell.limit(["podman", "start"]) < shell.limit(["podman", "build", "."])
    assert shell.limit(["mmdebstrap"]) is None
    monkeypatch.setattr(shell, "PODMAN_SECONDS", 0.1)
    for call in (shell.run, shell.output, shell.succeeds):
        with pytest.raises(shell.LabError, match="no answer in 0.1 s from: podman volume rm x"):
            call("podman", "volume", "rm", "x")


def test_a_container_that_ends_while_it_is_killed_is_removed_all_the_same(lab, monkeypatch, tmp_path):
    """The machine of a run that was killed: Podman's first try finds a container in between."""
    tries = tmp_path / "tries"
    (tmp_path / "podman").write_text(f'#!/bin/sh\necho "$*" >>{tries}\n[ $(wc -l <{tries}) -gt 1 ] || {{ echo "container state improper" >&2; exit 2; }}\n')
    shell = lab("shell")
    monkeypatch.setattr(shell.time, "sleep", lambda seconds: None)
    shell.remove_container("demo", "--volumes")
    assert tries.read_text().split("\n")[:2] == ["rm --force --time 5 --volumes demo"] * 2
    monkeypatch.setattr(shell, "succeeds", lambda *argv: False)
    (tmp_path / "podman").write_text("#!/bin/sh\necho no >&2; exit 2\n")
    with pytest.raises(shell.LabError, match="exit 2 from: podman rm"):
        shell.remove_container("demo")


def test_what_only_tidies_goes_without(lab, monkeypatch, capsys):
    space = lab("space")
    monkeypatch.setattr(space, "TIDY_SECONDS", 0.2)
    space.tidy()
    assert "old volumes stay for now: no answer in 0.2 s from: podman volume rm 000" in capsys.readouterr().err


def test_nothing_calls_podman_beside_it():
    """What starts it by itself says its own limit: the stop of a host, which is looked at meanwhile."""
    found = []
    for path in (*LAB.glob("*.py"), LAB / "lab"):
        for call in [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]:
            if ast.unparse(call.func.value) == "subprocess" and "podman" in ast.unparse(call):
                found.append(f"{path.name}: {ast.unparse(call)[:40]}")
    assert found == ["snapshots.py: subprocess.Popen(['podman', 'stop', '--t"]
