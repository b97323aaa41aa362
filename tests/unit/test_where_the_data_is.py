"""An exchange of data that cannot go on says which data is in place, where the other one lies, and what to type."""

import os
import shutil
import subprocess

import pytest
from test_backup_command import cluster, command, settings  # noqa: F401  (fixtures)
from test_pg_upgrade_swap import exchanged  # noqa: F401  (a fixture)
from test_pitr_by_hand import program  # noqa: F401  (a fixture)
from test_pitr_removal import conf, copy  # noqa: F401  (the fixtures)

from pitr import restore  # isort: skip
from pitr.jobs import PitrError  # isort: skip

GONE = r"The user manager does not answer, .*: as root, systemctl start user@\d+.service"


@pytest.fixture
def dying(conf, monkeypatch):  # noqa: F811
    """The user manager, which answers up to a command, and never again; for as long as it is said to."""
    told = []

    def dies(at, times=1000):
        def systemctl(*words, check=True):
            told.append(words)
            gone = at in told and told.index(at) + times > told.index(words)
            if gone and check:
                raise PitrError("systemctl --user: Failed to connect to bus: Connection refused")
            return subprocess.CompletedProcess(words, int(gone), "", "")

        monkeypatch.setattr(restore, "systemctl", systemctl)
        monkeypatch.setattr(restore.database, "systemctl", systemctl)

    return dies


@pytest.mark.parametrize(
    ("at", "said"),
    [
        (("stop", "pitr-receive.service"), r"In place \(\S+/data/postgres\) is the data from before; what was to take its place lies in \S+/postgres.restored"),
        (("stop", "postgres.service"), r"In place \(\S+/data/postgres\) is the data from before; what was to take its place lies in \S+/postgres.restored"),
        (("start", "postgres.service"), r"In place \(\S+/data/postgres\) is the data from before; what was to take its place lies in \S+/postgres.restored"),
        (("start", "pitr-receive.service"), r"is what was to be put there; the data from before lies in (\S+): senex pitr undo \1 puts it back"),
    ],
    ids=[" ".join(words) for words in (("before",), ("no stop",), ("no start",), ("after",))],
)
def test_an_exchange_without_a_user_manager(conf, copy, dying, at, said):  # noqa: F811
    """It said that systemctl had failed, also where the data had been exchanged already."""
    dying(at)
    with pytest.raises(PitrError, match=f"Failed to connect.*{said}.*{GONE}"):
        restore.exchange(conf, copy)
    assert os.path.exists(f"{conf.data}/{'copied' if 'receive' in at[1] and at[0] == 'start' else 'canary'}"), "as it says"


def test_one_that_was_killed_between_its_renames_is_found_on_the_disk(conf, copy, dying, program, capsys):  # noqa: F811
    dying(("never",))
    aside = f"{conf.data}.before-restore-20261130T070000Z"

    def said(since="20261130T065900Z"):
        assert program.act(conf, program.parse(["where", copy, "--since", since])) == 0
        return capsys.readouterr().out

    assert "is the data from before; what was to take its place lies in" in said()
    os.rename(conf.data, aside)
    text = said()
    assert text.startswith("Nothing is in place (") and f"senex pitr undo {aside} puts it back. What was to take its place lies in {copy}" in text
    os.rename(copy, conf.data)
    assert f"is what was to be put there; the data from before lies in {aside}: senex pitr undo" in said()
    assert "there was no data before" in said("20261130T070001Z"), "of an earlier restore"


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("answers", [False, True])
def test_a_swap_of_databases_whose_server_ends_over_it(command, settings, cluster, monkeypatch, swapped, answers):  # noqa: F811
    """What was told came from a question that failed as well; and it was taken for granted that nothing had changed."""
    sql = cluster.restore.sql

    def ends(given, text, *words, **more):
        if "rename" in text:
            if swapped and "old" not in cluster.open:
                sql(given, text, *words, **more)
            cluster.gone = True
        if getattr(cluster, "gone", False) and ("rename" in text or not answers):
            raise command.common.BackupError("podman exec postgres ended with 125: no such container.")
        return sql(given, text, *words, **more)

    monkeypatch.setattr(cluster.restore, "sql", ends)
    monkeypatch.setattr(cluster.restore, "raise_sequences", lambda *_: None)
    monkeypatch.setattr(cluster.restore, "rows", lambda *words, **more: ends(*words, **more) and [[name] for name in cluster.open])
    with pytest.raises(command.common.BackupError) as failed:
        cluster.restore.swap(settings, {"database": "senex", "restored": "new", "aside": "old", "machine": None})
    told = str(failed.value)
    assert "ended with 125" in told
    if not answers:
        assert "PostgreSQL does not answer" in told and "if there is a database old, that is the one from before" in told and "allow_connections true" in told
    elif swapped:
        assert told.endswith("senex is the restored database now, and the one from before is kept as old") and cluster.open == {"old": True, "senex": True}
    else:
        assert told.endswith("senex is what it was; new holds what was restored") and cluster.open["senex"]


def test_an_upgrade_that_cannot_be_taken_back(exchanged):  # noqa: F811
    exchange, pending = exchanged.exchange, exchanged.state.data["pending"]["data"]
    assert exchange.whereabouts() == f"In place ({exchanged.data}) is the other cluster, and the cluster from before (PostgreSQL 15) lies in {pending}"
    os.rename(exchanged.data, exchanged.state.data["comes"])
    assert exchange.whereabouts().startswith(f"Nothing is in place ({exchanged.data}): the cluster from before (PostgreSQL 15) lies in {pending}, the other")
    os.rename(pending, exchanged.data)
    assert exchange.whereabouts().startswith(f"In place ({exchanged.data}) is the cluster from before (PostgreSQL 15); the other one lies in")
    exchanged.state.put(phase="finishing")
    assert exchange.whereabouts() == ""
    shutil.rmtree(exchanged.data)
