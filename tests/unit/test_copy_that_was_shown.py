"""What comes into the place of the data is the copy that was shown: all restores make theirs in the same place, and nobody may take another's for his own."""

import os
import subprocess

import pytest
import rendered
from test_pitr_by_hand import program  # noqa: F401  (a fixture)
from test_pitr_removal import conf, copy  # noqa: F401  (the fixtures)

from pitr import jobs, removal, restore  # isort: skip
from pitr.jobs import PitrError  # isort: skip

NOTED = {"proven": "2026-11-28T12:00:00Z", "base": "20261128T110000", "to": "2026-11-28 11:30:00+00"}
OF_PLAYBOOK = {**NOTED, "name": "restore-20261128T115500Z", "operation": True}
BY_HAND = {**NOTED, "name": "by-hand-20261128T115900Z", "operation": False}


@pytest.fixture
def still(conf, monkeypatch):  # noqa: F811
    """Nothing may be stopped, and the data stays where it is."""
    for module in (restore, restore.database):
        monkeypatch.setattr(module, "systemctl", lambda *_, **__: pytest.fail("nothing may be stopped"))
    yield
    assert os.path.exists(f"{conf.data}/canary") and not restore.kept_aside(conf)


@pytest.mark.parametrize(
    ("noted", "name", "said"),
    [
        (BY_HAND, OF_PLAYBOOK["name"], r"holds the copy by-hand-20261128T115900Z \(as of 2026-11-28 11:30.*in the place of restore-20261128T115500Z"),
        (NOTED, OF_PLAYBOOK["name"], "holds the copy unknown"),
        (OF_PLAYBOOK, "restore-20261128T120000Z", "holds the copy restore-20261128T115500Z"),
        (OF_PLAYBOOK, "", "was prepared by the operation restore-20261128T115500Z .* or put it in place by hand with --name restore-20261128T115500Z"),
    ],
    ids=["made by hand since", "made by an older program", "of another operation", "taken by hand"],
)
def test_another_copy_does_not_become_the_data(conf, copy, still, noted, name, said):  # noqa: F811
    removal.note(copy, noted)
    with pytest.raises(PitrError, match=said):
        restore.exchange(conf, copy, name=name)


@pytest.mark.parametrize(("noted", "name"), [(OF_PLAYBOOK, OF_PLAYBOOK["name"]), (BY_HAND, ""), (BY_HAND, BY_HAND["name"]), (NOTED, "")])
def test_the_one_that_is_meant_does(conf, copy, monkeypatch, capsys, noted, name):  # noqa: F811
    removal.note(copy, noted)
    for module in (restore, restore.database):
        monkeypatch.setattr(module, "systemctl", lambda *_, **__: None)
    aside = restore.exchange(conf, copy, name=name)
    assert os.path.exists(f"{aside}/canary") and os.path.exists(f"{conf.data}/copied")
    said = capsys.readouterr()
    assert "as of 2026-11-28 11:30:00+00, of base backup 20261128T110000" in said.err and said.out == ""


def test_it_is_looked_at_when_nobody_else_can_make_one(conf, copy, still):  # noqa: F811
    """Between the look and the exchange another restore had time to put its own copy there."""
    with jobs.alone(conf, "restore"), pytest.raises(PitrError, match="restore is running already"):
        restore.exchange(conf, copy)


def test_a_copy_that_somebody_looks_into_is_not_removed_for_another(conf, copy, monkeypatch):  # noqa: F811
    """A server that was started on it had its files removed below it."""
    said = {"ps": "looking\n", "inspect": f"{copy}\n"}
    monkeypatch.setattr(removal, "podman", lambda word, *_, **__: subprocess.CompletedProcess([], 0, said[word], ""))
    monkeypatch.setattr(restore, "podman", lambda *_, **__: None)
    with pytest.raises(PitrError, match="looking works on the copy that is there"):
        restore.restore(conf, "latest", restore.usual(conf))
    assert os.path.exists(f"{copy}/copied")


STOPPED = {**OF_PLAYBOOK, "to": "latest", "last": "2026-11-28 11:59:58", "stopped": "0/5000060"}


@pytest.mark.parametrize(("runs", "at"), [(True, "0/5000060"), (False, "0/50000D8")], ids=["it runs", "it ran"])
def test_a_copy_of_the_latest_is_that_no_more_where_the_database_was_started_since(conf, copy, still, monkeypatch, runs, at):  # noqa: F811
    """Whoever restarted a web instance while the copy was made started the database with it: what was written then was in the replaced data alone."""
    removal.note(copy, STOPPED)
    monkeypatch.setattr(restore.database, "podman", lambda *_, **__: subprocess.CompletedProcess([], 0, f"{runs}\n".lower(), ""))
    monkeypatch.setattr(restore, "control", lambda *_: {"Latest checkpoint location": at})
    with pytest.raises(PitrError, match="somebody has started that since: what it wrote then is not in the copy. Nothing was exchanged; make it again"):
        restore.exchange(conf, copy, name=OF_PLAYBOOK["name"])


@pytest.mark.parametrize("control", [{"Latest checkpoint location": "0/5000060"}, {}], ids=["as it was", "its data is lost"])
def test_one_that_still_is_comes_into_its_place_and_says_until_when(conf, copy, monkeypatch, capsys, control):  # noqa: F811
    removal.note(copy, STOPPED)
    for module in (restore, restore.database):
        monkeypatch.setattr(module, "systemctl", lambda *_, **__: None)
    monkeypatch.setattr(restore.database, "podman", lambda *words, **_: subprocess.CompletedProcess(words, 1, "", ""))
    monkeypatch.setattr(restore, "control", lambda *_: control)
    restore.exchange(conf, copy, name=OF_PLAYBOOK["name"])
    assert os.path.exists(f"{conf.data}/copied") and "as of latest, whose last transaction is of 2026-11-28 11:59:58 UTC" in capsys.readouterr().err


@pytest.mark.parametrize("undone", [False, True], ids=["exchange", "undo"])
def test_what_somebody_has_a_server_on_does_not_become_the_data(conf, copy, still, monkeypatch, undone):  # noqa: F811
    """Both servers wrote to one directory: each is process 1 of its container, and takes the other's lock file for its own."""
    kept = f"{conf.data}.before-restore-20261128T110000Z"
    os.mkdir(kept)
    working = kept if undone else copy
    said = {"ps": "rows\n", "inspect": f"{working}\n"}
    monkeypatch.setattr(removal, "podman", lambda word, *_, **__: subprocess.CompletedProcess([], 0, said[word], ""))
    with pytest.raises(PitrError, match=f"{working}: rows works on it, .* stop it first"):
        restore.exchange_back(conf, kept) if undone else restore.exchange(conf, copy)
    os.rmdir(kept)


@pytest.mark.parametrize("typed", ["postgres", "postgres.restored", "postgres.before-restore-20261128T100000Z"])
def test_who_undoes_what_is_not_kept_is_told_what_is(conf, copy, still, typed):  # noqa: F811
    """Typed a second time, an undo said that 'pitr restore' makes what the first one had put in place."""
    with pytest.raises(PitrError, match=f"data/{typed}: is no data that a restore kept aside; there is: none"):
        restore.exchange_back(conf, typed)


def test_the_playbook_puts_in_place_what_it_has_prepared(program):  # noqa: F811
    """What both of its tasks call, as the program takes it."""
    said = {"pitr_restore": {"id": "restore-x", "fetched": False}, "restore_to": "latest", "senex_home": "/h", "senex_uid": 1, "senex_user": "senex"}

    for name, verb in (("restore_prepare", "restore"), ("restore_switch", "exchange")):
        words = rendered.value("pitr", "argv", argv=argv_of(name, verb), **said)
        wanted = program.parse(words[words.index("/h/bin/pitr") + 1 :])
        assert (wanted.verb, wanted.name) == (verb, "restore-x")


@pytest.mark.parametrize("said", ["pitr: restore: somebody has started that since", "pitr: restore: somebody has started that since.\n"])
def test_why_there_is_no_copy_is_a_sentence_of_its_own(said):
    """`… start nothing meanwhile The data is what it was`."""
    (block,) = [task for task in rendered.loaded(rendered.ROLES / "pitr/tasks/restore_prepare.yml") if "rescue" in task]
    (fails,) = [task for task in block["rescue"] if task["name"] == "Fail if no copy was restored"]
    shown = rendered.value("pitr", "shown", shown=fails["ansible.builtin.fail"]["msg"], **fails["vars"], __pitr_copy={"stderr": said}, __pitr_again={"rc": 0})
    assert shown.strip() == "pitr: restore: somebody has started that since. The data is what it was."


def test_a_program_of_before_that_is_found_by_the_plan():
    """It would be told a name that it does not know when the application is stopped already."""
    plan = rendered.loaded(rendered.ROLES / "pitr/tasks/restore_plan.yml")
    (fails,) = [task for task in plan if task["name"] == "Fail if the target time cannot be restored"]
    assert "'--name'" in str(plan)
    for said, told in (("pitr: error: unrecognized arguments: --name a restore", True), ("pitr: plan: there is no base backup", False)):
        inputs = {"__pitr_planned": {"rc": 2, "stderr": said}, "__pitr_fetched": {}, **fails["vars"]}
        shown = rendered.value("pitr", "shown", shown=fails["ansible.builtin.fail"]["msg"], **inputs)
        assert said in shown and ("run site.yml --tags pitr first" in shown) is told and shown.endswith("Nothing was changed.")


def argv_of(name, verb):
    """The argument list of the task that calls this verb."""
    lists = rendered.loaded(rendered.ROLES / f"pitr/tasks/{name}.yml")
    copied = "{{ senex_home ~ '/' ~ __pitr_data ~ '.restored' }}"
    every = [one["senex.trader.release"]["argv"] for task in lists for one in task.get("block", [task]) if "senex.trader.release" in one]
    every = [text.replace("__pitr_copied", copied.strip("{} ")) for text in every]
    return next(argv for argv in every if f"'{verb}'" in argv)
