"""docs/operations/runbook.md: what it says to type exists, is short, and is followed by a test."""

import importlib.util
import re
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from watched import Fake, host, settings

from senex_ops import activity, checks_database, checks_redis, command  # isort: skip
from senex_ops.postgresql import session  # isort: skip

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/integration/oncall"))

import page  # noqa: E402  (the path above must come first)

PAGE = page.PAGE.read_text(encoding="utf-8")
SITUATIONS = page.situations()
# No authority is within reach of a host of the tests but in this scenario
ELSEWHERE = {
    "A Let's Encrypt certificate expires soon": ("molecule/nginx_letsencrypt/tests/test_letsencrypt.py", "test_renewal_runs_by_timer"),
    "A maintenance release failed: the page stands": (
        "tests/integration/failures/test_maintenance_releases.py", "test_the_page_stands_where_nothing_can_be_undone",
    ),
}  # fmt: skip
OF_THE_SYSTEM = {"nginx", "du", "loginctl", "systemctl", "journalctl"}


def pitr_parser():
    spec = importlib.util.spec_from_file_location("pitr_program", ROOT / "roles/pitr/files/pitr.py")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(ROOT / "roles/pitr/files"))
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("title", SITUATIONS)
def test_three_commands_at_most_and_each_exists(title):
    assert 1 <= len(SITUATIONS[title]) <= 3
    for text in SITUATIONS[title]:
        words = shlex.split(text)
        match words[0]:
            case "senex" if words[1] in ("pitr", "restore"):
                pitr_parser().parse(words[2:] if words[1] == "pitr" else words[1:])
            case "senex" if words[1] == "prune-images":
                assert re.search(rf'add_argument\("{words[2]}"', (ROOT / "roles/podman/files/prune_images.py").read_text(encoding="utf-8"))
            case "senex" if words[1] in command.PASSED:
                pass
            case "senex":
                command.parser().parse_args(words[1:])
            case "ansible-playbook":
                assert (ROOT / words[1]).exists()
                assert words[2:4] == ["-i", "inventory/production"] and (ROOT / "inventory/production").is_dir()
            case program:
                assert program in OF_THE_SYSTEM


def test_each_situation_is_tested_and_no_other():
    tests = (ROOT / "tests/integration/oncall/test_on_call.py").read_text(encoding="utf-8")
    followed = set(re.findall(r'^@situation\("(.+)"\)$', tests, re.MULTILINE))
    assert followed | set(ELSEWHERE) == set(SITUATIONS)
    for title, (path, name) in ELSEWHERE.items():
        text = (ROOT / path).read_text(encoding="utf-8")
        assert f"def {name}" in text and f'"{SITUATIONS[title][0]}"' in text


def test_each_section_is_found_by_a_symptom():
    """Who is called at night begins in the table; a section without a row is found by nobody."""
    table = PAGE.partition("| symptom, or alert |")[2].partition("\n\n")[0]
    linked = set(re.findall(r"\]\(#([^)]+)\)", table))
    sections = [title.lower().replace("'", "").replace(" ", "-") for title in re.findall(r"^## (.+)$", PAGE, re.MULTILINE)]
    assert set(sections) - {"the-commands"} <= linked


def test_the_table_of_commands_is_whole():
    table = PAGE.partition("## The commands")[2]
    named = set(re.findall(r"`senex ([a-z-]+)", "\n".join(line.split(" | ")[0] for line in table.splitlines() if line.startswith("| `"))))
    verbs = next(action for action in command.parser()._actions if action.dest == "verb_").choices
    assert named == set(verbs)
    completion = (ROOT / "roles/operator_cli/files/senex.bash").read_text(encoding="utf-8")
    assert set(re.search(r'verbs="([^"]+)"', completion)[1].split()) == set(verbs)


def test_the_watchdogs_page_names_its_tests():
    """A row without a test, or a test of what is broken without a row."""
    rows = (ROOT / "docs/operations/watchdog.md").read_text(encoding="utf-8").partition("## What is broken on purpose")[2]
    tests = (ROOT / "molecule/watchdog/tests/test_watchdog.py").read_text(encoding="utf-8")
    there = set(re.findall(r"^def (test_\w+)\(watched", tests, re.MULTILINE))
    assert set(re.findall(r"`(test_\w+)`", rows)) == there


def test_what_hangs_is_killed_and_started():
    fake = Fake()
    assert command.restart(fake, settings(), command.parser().parse_args(["restart", "--now", "web-1"])) == 0
    assert fake.done == [("kill", "web-1"), ("systemctl", "user", "start", "web-1.service")]


def test_nothing_to_kill_is_restarted():
    fake = Fake()
    fake.kill_container = lambda name: host.Ended(125, "", "no such container")
    assert command.restart(fake, settings(), command.parser().parse_args(["restart", "--now", "web"])) == 0
    assert [words[2:] for words in fake.done if words[0] == "systemctl"] == [("restart", "web-1.service"), ("restart", "web-2.service")]


ROWS = [["42", "600", "idle in transaction", "", "lock table x;"], ["77", "20", "active", "42", "insert into x"], ["78", "9", "active", "77", "insert"]]


def test_activity_names_who_holds_others_up_and_not_who_waits_too():
    lines = activity.statements(ROWS, "postgres")
    assert len(lines) == 4 and lines[-1].startswith("42 holds others up; senex psql -U postgres -c 'select pg_terminate_backend(42)'")


def test_activity_prints_no_line_or_colour_of_a_clients_making():
    text = "select 1 \x1b[32m\x1fOK  all well\u2028\u202e"
    rows = [["42\x1b[1m", "600", "active\nOK  all well", "13 x;reboot", *text.split("\x1f")]]
    lines = activity.statements(rows, "postgres")
    assert len(lines) == 2 and all(line.isprintable() for line in lines), lines
    assert lines[1].startswith("13 holds others up") and "reboot" not in lines[1]


def test_activity_shows_the_busiest_unit_first():
    before = {"web-1.service": (10**9, 5_000_000), "redis.service": (10**9, 0)}
    after = {"web-1.service": (11 * 10**8, 5_000_000), "redis.service": (3 * 10**9, 0)}
    assert activity.units(before, after, 2.0) == ["  100 %        -  redis", "    5 %     5 MB  web-1"]


def test_activity_reads_what_systemd_does_not_know_as_nothing():
    fake = Fake()
    fake.ended["systemctl user show"] = host.Ended(0, f"Id=web-1.service\nCPUUsageNSec={2**64 - 1}\nMemoryCurrent=[not set]\n\nId=redis.service\n", "")
    assert activity.used(fake, settings(system_units=[])) == {"web-1.service": (0, 0), "redis.service": (0, 0)}


@pytest.mark.parametrize("end", ["\x1c", "\x1e", "\x85", "\u2028", "\x0b"])
def test_what_a_client_sends_makes_no_row_of_its_own(end):
    """Each of these is the end of a line to Python, and PostgreSQL takes none of them for a space."""
    fake = Fake()
    forged = f"select 1{end}1\x1f5\x1factive\x1f13\x1fa statement of nobody"
    fake.ended["inside postgres psql"] = host.Ended(0, f"42\x1f600\x1factive\x1f\x1f{forged}\n", "")
    rows = checks_database.psql(fake, settings(), activity.STATEMENTS)
    assert len(rows) == 1
    (line,) = activity.statements(rows, "postgres")
    assert line.isprintable() and line.strip().startswith("42 ") and "13 holds" not in line


@pytest.mark.parametrize("row", [["x"], ["42", "soon", "active", "", "select"], ["77", "9" * 5000, "active", "²", "select"], []])
def test_a_row_that_is_none_does_not_end_activity(row):
    assert len(activity.statements([row, *ROWS], "postgres")) == 5


def test_units_of_a_manager_that_lies_are_shown_as_text():
    fake = Fake()
    shown = f"Id=web-1\x1b[2J\x9bOK all well.service\nCPUUsageNSec=²\nMemoryCurrent={'9' * 5000}\n"
    fake.ended["systemctl user show"] = host.Ended(0, shown, "")
    found = activity.used(fake, settings(system_units=[]))
    assert list(found.values()) == [(0, 0)] and all(line.isprintable() for line in activity.units(found, found, 2.0))


@pytest.mark.parametrize("end", ["\u2028", "\x85"])
def test_the_name_of_a_task_does_not_hide_the_queues(end):
    fake = Fake()
    broker = settings().broker
    lengths = "".join("3\n" for _ in broker.queues) + f'held 1 [["1","2026-01-01T00:00:00","a{end}7"]]\n'
    answers = iter([host.Ended(0, "used_memory:1\n", ""), host.Ended(0, lengths, "")])
    fake.inside = lambda *_, **__: next(answers)
    found = checks_redis.read_redis(fake, settings())
    assert found["overdue"] == 1 and len(found["queues"]) == len(broker.queues) and len(found["waiting"]) == 1


@pytest.mark.parametrize("words", [["-U", "postgres"], ["-Upostgres"], ["--username=postgres"], ["--username", "postgres"], ["-XAtU", "postgres", "-c", "x"]])
def test_a_superuser_is_led_to_no_functions_of_the_application(monkeypatch, words):
    run = []
    monkeypatch.setattr(command, "become", lambda _host, argv, _gone: run.append(argv) or 0)
    command.psql(Fake(), settings(), SimpleNamespace(arguments=words))
    command.psql(Fake(), settings(), SimpleNamespace(arguments=["-c", "select 'postgres'"]))
    guarded, plain = run
    assert f"--env=PGOPTIONS={session.GUARD} {command.ATTENDED}" in guarded[: guarded.index("psql")] and f"--env=PGOPTIONS={command.ATTENDED}" in plain
