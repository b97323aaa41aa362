"""What is typed on the host while an operation of a controller works with it: nothing that it would work with changes below it."""

import argparse
import json
import sys
import time
from types import SimpleNamespace

import pytest
from test_backup_command import command as backup  # noqa: F401  (a fixture)
from test_pitr_by_hand import program  # noqa: F401  (a fixture)
from test_redis_repair import program as redis
from watched import settings

from senex_ops import checks_release, command, occupied  # isort: skip

HOLDER = {"id": "x", "what": "upgrade of PostgreSQL 15 to 17", "who": "anna@desk", "step": "copy", "lease": 1800}
PROGRAMS = {"pitr": "pitr", "restore": "pitr", "backup": "backup", "redis": "redis", "prune-images": "senex-prune-images"}


@pytest.fixture
def called(monkeypatch, tmp_path):
    """What of the programs was called, and a lock that says so."""
    found = []
    monkeypatch.setattr(command, "become", lambda _host, argv, *_: found.append(argv) or 0)
    monkeypatch.setattr(command.untrusted, "look", lambda paths: {paths[0]: {"mode": 0o755}})
    monkeypatch.setattr(checks_release, "LOCK", str(tmp_path / "deploy.lock"))
    monkeypatch.setattr(checks_release, "BOOT", str(tmp_path / "boot"))
    (tmp_path / "boot").write_text("b\n")

    def lock(held=0.0, **more):
        now = {"since": time.time() - 60, "renewed": time.time() - held, "uptime": time.clock_gettime(time.CLOCK_BOOTTIME) - held, "boot": "b"}
        (tmp_path / "deploy.lock").write_text(json.dumps({**HOLDER, **now, **more}))

    def typed(verb, *arguments):
        return command.PASSED[verb](None, settings(), SimpleNamespace(arguments=list(arguments)))

    return SimpleNamespace(found=found, typed=typed, lock=lock)


CHANGES = [
    "pitr exchange /opt/copy", "pitr undo /opt/kept", "pitr --archive 15-x reset", "pitr restore --to latest", "restore --to latest", "pitr fetch --to latest",
    "backup restore load {}", "backup fetch", "redis repair", "prune-images --keep 1", "prune-images --keep=1",
]  # fmt: skip
LOOKS = [
    "pitr list", "pitr check", "pitr plan --to latest", "pitr restore --help", "pitr fetch --to latest --plan", "backup list", "backup dump", "pitr base",
    "redis check", "prune-images --keep 1 --dry-run",
]  # fmt: skip


@pytest.mark.parametrize("held", [{}, {"passing": True, "what": "site.yml"}, {"boot": "another", "lease": 1e9}], ids=["operation", "site", "after a reboot"])
@pytest.mark.parametrize("line", CHANGES)
def test_it_waits_for_the_end_of_the_operation(called, line, held):
    """A restore by hand took the place of the copy that a playbook had shown, and the playbook put that one into production."""
    called.lock(**held)
    verb, *words = line.split()
    with pytest.raises(command.CliError) as caught:
        called.typed(verb, *words)
    said = str(caught.value)
    assert called.found == []
    assert said.startswith(f"{held.get('what', HOLDER['what'])} by anna@desk is under way, at 'copy'. Wait for its end.")
    assert "If it is known to be dead: systemd-run --user" in said and f"/bin/{PROGRAMS[verb]} " in said, "the way of whoever has no controller any more"


@pytest.mark.parametrize("held", [None, {"held": 1801}], ids=["free", "stale"])
@pytest.mark.parametrize("line", CHANGES)
def test_it_is_done_where_nobody_works(called, line, held):
    if held is not None:
        called.lock(**held)
    verb, *words = line.split()
    assert called.typed(verb, *words) == 0
    (argv,) = called.found
    assert argv[0].endswith(f"/bin/{PROGRAMS[verb]}") and argv[-len(words) :] == words


@pytest.mark.parametrize(
    "line", ["pitr drop-slot", "pitr server stop", "pitr take-back x", "pitr --archive x set-aside y", "backup exchange swap x", "backup rekey refuse"]
)
def test_a_step_of_a_playbook_is_none_for_a_person(called, line):
    """Typed alone, one stopped the database, and one let go of the WAL that the archive had not got yet."""
    verb, *words = line.split()
    with pytest.raises(command.CliError, match=f"playbooks and units call it.*senex {verb} --help"):
        called.typed(verb, *words)
    assert called.found == []


@pytest.mark.parametrize("name", occupied.CALLED)
def test_those_are_the_ones_that_the_programs_do_not_offer(name, backup, program):  # noqa: F811
    assert occupied.CALLED[name] == {"pitr": program.CALLED, "backup": backup.cli.CALLED - {"restore"}}[name]


@pytest.mark.parametrize("line", LOOKS)
def test_what_only_looks_or_has_a_lock_of_its_own_is_done_at_any_time(called, line):
    called.lock()
    verb, *words = line.split()
    assert called.typed(verb, *words) == 0


@pytest.mark.parametrize(("state", "refused"), [("inactive", True), ("active", False), ("failed", False)])
def test_what_an_operation_has_stopped_is_not_started_by_hand(called, state, refused):
    """The application would write to the database that a restore is about to replace: what it wrote would be kept aside, and in use nowhere."""
    called.lock()
    told = []
    host = SimpleNamespace(
        units=lambda _scope, units: {unit: {"ActiveState": state} for unit in units},
        systemctl=lambda *words, **_: told.append(words) or SimpleNamespace(code=0, said=""),
    )
    options = SimpleNamespace(part="web", now=False)
    if refused:
        with pytest.raises(command.CliError, match=r"is under way, .* known to be dead: systemctl --user -M \S+@ start web-1.service"):
            command.restart(host, settings(), options)
        assert told == []
    else:
        assert command.restart(host, settings(), options) == 0 and told


# What a job of its own kind is kept from by its own lock, and what only looks
OTHERS = {
    "pitr": {"base", "wal", "check", "verify", "drill", "drills", "list", "plan", "receive", "install", "where"},
    "backup": {"dump", "offsite", "offsite-wal", "offsite-check", "restic", "try-keys", "prove", "list", "verify", "accept", "prepare", "failed"},
    "redis": {"check"},
}


@pytest.mark.parametrize("name", OTHERS)
def test_every_verb_of_a_program_is_one_that_waits_or_not(name, backup, program, monkeypatch):  # noqa: F811
    """One that is new has to be looked at: whether an operation of a controller may be at work with what it changes."""
    verbs = set()
    made = argparse._SubParsersAction.add_parser
    monkeypatch.setattr(argparse._SubParsersAction, "add_parser", lambda self, verb, **more: verbs.add(verb) or made(self, verb, **more))
    with pytest.raises(SystemExit):
        {"pitr": program.parse, "backup": backup.cli.parse, "redis": redis.main}[name](["--help"])
    kinds = sys.modules["senex_backup.kinds"].every() if name == "backup" else {}
    assert verbs == occupied.CHANGES[name] | OTHERS[name] | set(kinds)
