"""Sequences of a restored database: none goes back below a number that was handed out after its moment."""

import contextlib
import os
import pathlib
import re
import subprocess
import sys
import types

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "roles/pitr/files"))

from ansible_collections.senex.trader.plugins.module_utils.postgresql import sequences  # noqa: E402  (the path above must come first)
from ansible_collections.senex.trader.plugins.module_utils.postgresql.session import PATIENT_17  # noqa: E402
from pitr import restore  # noqa: E402
from pitr.jobs import PitrError  # noqa: E402
from test_backup_command import WANTED, cluster, command, settings  # noqa: E402, F401  (fixtures)
from test_pitr_removal import conf, copy  # noqa: E402, F401  (fixtures)

NAME = 'public."Order_id_seq"'


@pytest.mark.parametrize(("now", "then", "wanted"), [(90, 50, {NAME: 1090}), (90, 0, {NAME: 1090}), (50, 90, {}), (50, 50, {}), (0, 0, {}), (90, None, {})])
def test_no_number_is_handed_out_twice(now, then, wanted):
    """One that nobody had used at that moment is raised too; one that was not there then has no place. Nobody stands still while it is asked."""
    assert sequences.raised({NAME: now}, {} if then is None else {NAME: then}) == wanted


@pytest.mark.parametrize(("now", "then", "wanted"), [(90, 90, {NAME: 1090}), (90, 91, {}), (0, 0, {})])
def test_where_it_is_asked_for_numbers_meanwhile_one_that_stands_where_it_stood_is_raised_too(now, then, wanted):
    assert sequences.raised({NAME: now}, {NAME: then}, served=True) == wanted


def test_a_name_is_handed_to_sql_as_it_is():
    said = sequences.script({'public."it\'s"': 1007})
    assert said.startswith("select setval('public.\"it''s\"'::regclass, case when 1007 < seqmax then 1007 else 7 end)") and sequences.script({}) == ""
    assert sequences.held([[NAME, "7"], ["a line of something else"]]) == {NAME: 7}


# A restored dump
@pytest.mark.parametrize(("way", "raised"), [({}, True), ({"sequences": "raise"}, True), ({"sequences": "restored"}, False)])
def test_a_dump_goes_on_where_the_database_had_come_to(cluster, command, settings, monkeypatch, capsys, way, raised):  # noqa: F811
    said, sql = [], cluster.restore.sql

    def answering(given, text, database=None, **more):
        said.append((database, text))
        return sql(given, text, database, **more)

    monkeypatch.setattr(cluster.restore, "sql", answering)
    monkeypatch.setattr(cluster.restore, "rows", lambda _given, _text, database: [[NAME, "90" if database == "senex" else "50"], ["public.other", "1"]])
    cluster.restore.swap(settings, {**WANTED, "machine": None, **way})
    assert [text for database, text in said if "setval" in text] == ([sequences.script({NAME: 1090})] if raised else [])
    assert not raised or said[0][0] == "new", "before it is the one in use"
    assert (f"{NAME} at 1090" in capsys.readouterr().out) is raised


def test_a_database_that_does_not_answer_is_replaced_all_the_same(cluster, command, settings, monkeypatch, capsys):  # noqa: F811
    def broken(*_):
        raise command.common.BackupError("could not read block 3")

    monkeypatch.setattr(cluster.restore, "rows", broken)
    cluster.restore.swap(settings, {**WANTED, "machine": None})
    assert set(cluster.open) == {"old", "senex"} and "sequences are as restored: could not read block 3" in capsys.readouterr().out


# A moment
@pytest.mark.parametrize(("runs", "exact", "raised"), [(True, False, True), (True, True, False), (False, False, False)])
def test_a_moment_goes_on_where_the_database_had_come_to(conf, copy, monkeypatch, runs, exact, raised):  # noqa: F811
    """It is asked before it stops, and the numbers are there before the application is."""
    order, up = [], [runs]

    def podman(*words, check=True, stdin=None, **_):
        if "psql" in words:
            stdin = stdin.removeprefix(PATIENT_17)
            if stdin == restore.SESSIONS:
                return subprocess.CompletedProcess(words, 0, "0\n", "")
            order.append("ask" if stdin == sequences.HELD else "set")
            old = not any(word == "start" for word in order)
            rows = f'"public.""Order_id_seq""",{90 if old else 50}\n' if stdin == sequences.HELD else ""
            assert stdin in (sequences.HELD, sequences.script({NAME: 1090}))
            if check and not up[0]:
                raise PitrError("no such container")
            return subprocess.CompletedProcess(words, 0 if up[0] else 125, rows if up[0] else "", "")
        return subprocess.CompletedProcess(words, 0, "", "")

    def systemctl(*words, check=True):
        order.append(words[0])
        up[0] = runs or words[0] == "start"

    monkeypatch.setattr(restore, "podman", podman)
    monkeypatch.setattr(restore.database, "podman", podman)
    monkeypatch.setattr(restore, "systemctl", systemctl)
    monkeypatch.setattr(restore.database, "systemctl", systemctl)
    restore.removal.note(copy, {"proven": "2026-11-28T12:00:00Z", "name": "restore-x", "operation": True})
    restore.exchange(conf, copy, exact=exact, name="restore-x")
    assert ("set" in order) is raised and order.index("stop") >= (0 if exact else 1)
    assert not raised or order == ["ask", "stop", "stop", "start", "ask", "set", "start"], order


@pytest.fixture
def served(conf, monkeypatch):  # noqa: F811
    """A database with clients, a server beside it on what is to take its place, and the order of what is done to both."""
    found = types.SimpleNamespace(order=[], sessions="3", fails="")

    def asked(_settings, text):
        found.order.append({sequences.HELD: "ask", restore.SESSIONS: "clients"}.get(text, text))
        return [[found.sessions]] if text == restore.SESSIONS else [[NAME, "90" if "start" not in found.order else "1090"]]

    @contextlib.contextmanager
    def beside(_settings, directory, _name):
        if found.fails:
            raise PitrError(found.fails)
        found.order.append(f"beside on {os.path.basename(directory)}")
        yield types.SimpleNamespace(rows=lambda text: found.order.append("held" if text == sequences.HELD else text) or [[NAME, "50"]])
        found.order.append("end")

    monkeypatch.setattr(restore.database, "asked", asked)
    monkeypatch.setattr(restore.recovery, "beside", beside)
    for module in (restore, restore.database):
        monkeypatch.setattr(module, "systemctl", lambda *words, **_: found.order.append(words[0]))
    monkeypatch.setattr(restore, "podman", lambda *words, **_: subprocess.CompletedProcess(words, 0, "", ""))
    return found


def test_numbers_are_raised_before_clients_are_served_again(conf, copy, served):  # noqa: F811
    """Typed on the host, an exchange leaves the application running: in the second between the start and the raise it was given ten numbers a second time."""
    restore.exchange(conf, copy)
    assert served.order[: served.order.index("stop")] == ["ask", "beside on postgres.restored", "held", sequences.script({NAME: 1090}), "end", "ask"]
    assert "start" in served.order and served.order.count(sequences.script({NAME: 1090})) == 1


def test_what_cannot_be_raised_beside_is_not_put_in_place(conf, copy, served):  # noqa: F811
    served.fails = "the server could not be started: no such image"
    with pytest.raises(PitrError, match="no such image. The sequences of .*postgres.restored were not raised, and nothing was exchanged; --exact"):
        restore.exchange(conf, copy)
    assert "stop" not in served.order and os.path.exists(f"{conf.data}/canary")
    restore.exchange(conf, copy, exact=True)
    assert os.path.exists(f"{conf.data}/copied")


@pytest.mark.parametrize(("sessions", "beside"), [("0", False), ("3", True)])
def test_an_operation_that_has_stopped_the_application_waits_for_no_server_beside(conf, copy, served, sessions, beside):  # noqa: F811
    served.sessions = sessions
    restore.removal.note(copy, {"proven": "2026-11-28T12:00:00Z", "name": "restore-x", "operation": True})
    restore.exchange(conf, copy, name="restore-x")
    assert ("beside on postgres.restored" in served.order) is beside


def test_what_is_restored_and_cannot_be_raised_is_told(conf, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setattr(restore.database, "asked", lambda *_: None)
    restore.raise_sequences(conf, {NAME: 90})
    assert "numbers will be handed out again" in capsys.readouterr().err
    restore.raise_sequences(conf, {})
    assert capsys.readouterr().err == ""


# What is asked of a person
def test_each_way_hands_the_answer_over():
    plan = (ROOT / "roles/backup/tasks/restore_plan.yml").read_text(encoding="utf-8")
    assert "'sequences': restore_sequences | default('raise')" in plan
    switch = (ROOT / "roles/pitr/tasks/restore_switch.yml").read_text(encoding="utf-8")
    assert "(['--exact'] if restore_sequences | default('raise') == 'restored' else [])" in switch
    for role in ("backup/tasks", "pitr/tasks"):
        assert "restore_sequences=restored" in (ROOT / f"roles/{role}/restore_plan.yml").read_text(encoding="utf-8"), "the plan says it"
    text = (ROOT / "playbooks/restore.yml").read_text(encoding="utf-8")
    assert re.search(r"restore_sequences \| default\('raise'\) not in \['raise', 'restored'\]", text) and yaml.safe_load(text)


def test_what_the_programs_import_lies_beside_them():
    for role in ("backup", "pitr"):
        assert "sequences" in yaml.safe_load((ROOT / f"roles/{role}/vars/main.yml").read_text(encoding="utf-8"))[f"__{role}_postgresql_modules"]
