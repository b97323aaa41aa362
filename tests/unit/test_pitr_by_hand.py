"""Verbs of `pitr` that are typed on the server, where no playbook does what belongs to them."""

import importlib.util
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

FILES = Path(__file__).parents[2] / "roles/pitr/files"
sys.path.insert(0, str(FILES))


@pytest.fixture
def program():
    spec = importlib.util.spec_from_file_location("pitr_program", FILES / "pitr.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("words", [["undo", "/d/postgres.before-restore-T"], ["exchange", "/d/postgres.restored"]])
def test_who_exchanges_data_is_told_what_is_of_its_moment(program, monkeypatch, capsys, words):
    """Data from before a rotation had its old passwords, and the application was refused."""
    monkeypatch.setattr(program, "restore", SimpleNamespace(exchange=lambda *_, **__: "/kept", exchange_back=lambda *_: "/kept"))
    assert program.act(None, program.parse(words)) == 0
    said = capsys.readouterr()
    assert said.out == "/kept\n" and all(word in said.err for word in ("site.yml", "senex manage migrate", "docs/operations/rotation.md"))


def test_the_archive_of_what_runs_is_not_put_away_by_a_try(program, capsys):
    """What an upgrade calls names the image that reads it; `senex pitr set-aside X` took the archive out of use without a word."""
    with pytest.raises(SystemExit):
        program.parse(["set-aside", "x"])
    assert "--image" in capsys.readouterr().err
    assert program.parse(["set-aside", "x", "--image", "i"]).image == "i"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("restore newest", "required: --to"),
        ("restore --to latest newest", "unrecognized arguments: newest"),
        ("plan", "required: --to"),
        ("exchange", "required: directory"),
        ("undo", "required: directory"),
        ("discard", "required: directory"),
    ],
)
def test_what_can_be_given_is_said_where_something_lacks(program, capsys, words, says):
    with pytest.raises(SystemExit):
        program.parse(words.split())
    said = capsys.readouterr().err
    assert says in said and "senex pitr list" in said and ("--to latest" in said or "directory is one that" in said)


def test_what_others_call_is_not_offered(program, capsys):
    with pytest.raises(SystemExit):
        program.parse(["--help"])
    shown = set(re.findall(r"^    ([a-z-]+)", capsys.readouterr().out, re.MULTILINE))
    assert shown == {"base", "wal", "check", "verify", "drill", "drills", "reset", "list", "plan", "restore", "exchange", "fetch", "undo", "discard"}
    assert program.parse(["server", "stop"]).act == "stop"
