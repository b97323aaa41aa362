"""`senex pitr exchange` on the host, while an operation of a controller works with the data."""

import json
import time

import pytest
from watched import settings

from senex_ops import checks_release, command  # isort: skip
from types import SimpleNamespace

HOLDER = {"id": "x", "what": "upgrade of PostgreSQL 15 to 17", "who": "anna@desk", "step": "copy", "lease": 1800}


@pytest.fixture
def called(monkeypatch, tmp_path):
    """What of the program was called, and a lock that says so."""
    found = []
    monkeypatch.setattr(command, "program", lambda _host, _settings, name, arguments: found.append([name, *arguments]) or 0)
    monkeypatch.setattr(checks_release, "LOCK", str(tmp_path / "deploy.lock"))
    monkeypatch.setattr(checks_release, "BOOT", str(tmp_path / "boot"))
    (tmp_path / "boot").write_text("b\n")

    def pitr(*arguments, held=0.0, **more):
        if held is not None:
            now = {"since": time.time() - 60, "renewed": time.time() - held, "uptime": time.clock_gettime(time.CLOCK_BOOTTIME) - held, "boot": "b"}
            (tmp_path / "deploy.lock").write_text(json.dumps({**HOLDER, **now, **more}))
        return command.PASSED["pitr"](None, settings(), SimpleNamespace(arguments=list(arguments)))

    return SimpleNamespace(found=found, pitr=pitr)


@pytest.mark.parametrize("words", [["exchange", "/opt/copy"], ["undo", "/opt/kept"], ["--archive", "15-x", "reset"]], ids=lambda words: words[0])
def test_it_waits_for_the_end_of_the_operation(called, words):
    with pytest.raises(command.CliError) as caught:
        called.pitr(*words)
    said = str(caught.value)
    assert called.found == []
    assert said.startswith("upgrade of PostgreSQL 15 to 17 by anna@desk is under way, at 'copy'. Wait for its end.")
    assert said.endswith(f"/bin/pitr {' '.join(words)}"), "the way of whoever has no controller any more"


@pytest.mark.parametrize(("held", "more"), [(None, {}), (1801, {}), (0, {"boot": "another"}), (0, {"passing": True})], ids=["free", "stale", "reboot", "site"])
def test_it_is_done_where_nobody_works(called, held, more):
    assert called.pitr("exchange", "/opt/copy", held=held, **more) == 0
    assert called.found == [["pitr", "exchange", "/opt/copy"]]


def test_what_only_looks_is_done_at_any_time(called):
    for words in (["list"], ["check"], ["restore", "--to", "latest"]):
        assert called.pitr(*words) == 0
