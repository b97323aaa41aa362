"""An exchange that a person at a terminal interrupts goes on to its end: there is no database between its two renames."""

import os
import signal
import subprocess
import threading

import pytest
from test_pitr_removal import conf, copy  # noqa: F401  (the fixtures)

from pitr import jobs, restore  # isort: skip


def to_this_thread(kind):
    """The program has one thread; the tests' process may have others, which the kernel gives a signal that this one has blocked."""
    signal.pthread_kill(threading.get_ident(), kind)


KINDS = [signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("moment", [("stop", "postgres.service"), ("start", "postgres.service")], ids=lambda words: words[0])
def test_an_exchange_goes_on_to_its_end(conf, monkeypatch, copy, kind, moment):  # noqa: F811
    told = []

    def systemctl(*words, **_):
        told.append(words)
        if words[:2] == moment:
            to_this_thread(kind)
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
            to_this_thread(kind)
        assert came == [], "what was typed meanwhile is forgotten"
        to_this_thread(kind)
        assert came == [kind]
    finally:
        signal.signal(kind, before)
