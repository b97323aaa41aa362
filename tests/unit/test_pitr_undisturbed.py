"""An exchange that a person at a terminal interrupts goes on to its end: there is no database between its two renames."""

import os
import signal
import subprocess

import pytest
from test_pitr_removal import conf, copy  # noqa: F401  (the fixtures)

from pitr import jobs, restore  # isort: skip

KINDS = [signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("moment", [("stop", "postgres.service"), ("start", "postgres.service")], ids=lambda words: words[0])
def test_an_exchange_goes_on_to_its_end(conf, monkeypatch, copy, kind, moment):  # noqa: F811
    told = []

    def systemctl(*words, **_):
        told.append(words)
        if words[:2] == moment:
            os.kill(os.getpid(), kind)
            # A terminal sends it to what is called as well
            told.append(subprocess.run(["sh", "-c", f"kill -{kind.value} $$; echo lives"], capture_output=True, text=True, check=False).stdout)

    monkeypatch.setattr(restore, "systemctl", systemctl)
    monkeypatch.setattr(restore.database, "systemctl", systemctl)
    aside = restore.exchange(conf, copy)
    assert os.path.exists(f"{aside}/canary") and os.path.exists(f"{conf.data}/copied")
    assert "lives\n" in told and ("start", "postgres.service") in told and told[-1] == ("start", "pitr-receive.service")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_afterwards_it_may_be_ended_again(kind):
    came = []
    before = signal.signal(kind, lambda number, _: came.append(number))
    try:
        with jobs.undisturbed():
            os.kill(os.getpid(), kind)
        assert came == [], "what was typed meanwhile is forgotten"
        os.kill(os.getpid(), kind)
        assert came == [kind]
    finally:
        signal.signal(kind, before)
