"""What others let grow without end: output, files, names, units. It is ended, or cut, and pushes nothing else out."""

import json
import re
import subprocess
import sys
import time

import pytest
import yaml
from ansible_collections.senex.trader.plugins.module_utils.checks import preflight
from ansible_collections.senex.trader.plugins.module_utils.host import child, release_record, service_user, untrusted
from ansible_collections.senex.trader.plugins.modules import release
from ansible_collections.senex.trader.plugins.plugin_utils import components
from test_bounded import door as door  # noqa: F401  (a fixture)
from watched import host, settings

from senex_ops import checks_backups, checks_certificates, checks_containers, checks_host, doctor  # isort: skip
from test_outside_words import ENDLESS, ROOT, fact, user  # noqa: F401  (fixtures)


@pytest.mark.parametrize("where", ["", ">&2"])
def test_a_command_that_never_stops_printing_is_ended(where):
    began = time.monotonic()
    with pytest.raises(OSError, match="printed more than 1000000 bytes"):
        untrusted.told(["sh", "-c", f"exec cat /dev/zero {where}"], timeout=20, limit=1_000_000)
    assert time.monotonic() - began < 5


def test_a_command_is_told_apart_from_its_input_and_its_end():
    whole = "x" * (1 << 20)
    done = untrusted.told(["sh", "-c", "cat; echo no >&2; exit 3"], whole, 20)
    assert (done.returncode, done.stdout, done.stderr) == (3, whole, "no\n")
    assert untrusted.told(["true"], whole, 20).returncode == 0, "one that does not read its input"
    assert untrusted.told(["printf", "a\\r\\nb\\rc\\377"], timeout=20).stdout == "a\nb\nc\ufffd"
    with open(__file__, encoding="utf-8") as handle:
        assert "apart from its input" in untrusted.told(["cat"], handle, 20).stdout


@pytest.mark.parametrize("script", ["sleep 30", "exec >&- 2>&-; sleep 30"])
def test_a_command_that_does_not_end_is_ended(script):
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        untrusted.told(["sh", "-c", script], timeout=0.3)
    assert time.monotonic() - began < 8


def test_the_watchdog_keeps_no_more_of_an_answer_than_it_has_room_for(monkeypatch):
    monkeypatch.setattr(host, "PRINTED", 1_000_000)
    done = host.Host._run(list(ENDLESS), 20, None)
    assert done.code and "printed more than 1000000 bytes" in done.said


def test_the_engine_keeps_no_more_of_an_answer_than_it_has_room_for(user, monkeypatch):  # noqa: F811
    monkeypatch.setattr(child, "SAID", 1_000_000)
    done = user.run(list(ENDLESS), check=False, timeout=20)
    assert done.returncode == 125 and "printed more than" in done.stderr
    with pytest.raises(service_user.CommandError, match="printed more than"):
        user.run(list(ENDLESS), timeout=20)


def test_a_line_of_a_journal_may_be_of_any_length(monkeypatch, tmp_path):
    program = tmp_path / "journalctl"
    program.write_text(f"#!{sys.executable}\nprint('x' * (3 << 20))\n")
    program.chmod(0o755)
    told = untrusted.told
    monkeypatch.setattr(untrusted, "told", lambda words, **more: told([str(program), *words[1:]], **more))
    assert len(service_user.journal("web-1.service", 1000, 0)) < 200


def test_a_mail_server_that_never_comes_to_its_end_is_left_alone(monkeypatch):
    monkeypatch.setattr(preflight, "TIMEOUT", 0.3)
    listening = subprocess.Popen(
        [sys.executable, "-c", "import socket, time\ns = socket.create_server(('127.0.0.1', 0))\nprint(s.getsockname()[1], flush=True)\n"
         "c, _ = s.accept()\nwhile True:\n    c.sendall(b'220-more\\r\\n')\n    time.sleep(0.1)"], stdout=subprocess.PIPE, text=True)  # fmt: skip
    try:
        began = time.monotonic()
        found = preflight.mail("127.0.0.1", int(listening.stdout.readline()), "none", "", "")
        assert found["level"] == "FAIL" and "no answer" in found["says"] and time.monotonic() - began < 5
    finally:
        listening.kill()
        listening.wait()
        listening.stdout.close()


def test_a_command_of_a_release_fills_no_disk(monkeypatch, tmp_path):
    monkeypatch.setattr(child, "SAID", 1_000_000)
    monkeypatch.setattr(release_record, "BOOT", str(tmp_path / "boot"))
    ledger = release_record.Ledger(str(tmp_path))
    monkeypatch.setattr(ledger, "_write", lambda name, text, mode: (tmp_path / name).write_text(text))
    ledger.begin({"id": "r", "what": "restore", "who": "me"})
    with pytest.raises(OSError, match="printed more than"):
        release.run({"id": "r", "what": "restore", "argv": list(ENDLESS)}, ledger)
    done = release.run({"id": "r", "what": "restore", "argv": ["sh", "-c", "echo '{}'; printf 'no \\033[2J\\nwhy' >&2; exit 4"]}, ledger)
    assert (done["rc"], done["stdout"], done["stderr"]) == (4, "{}", "no ?[2J\nwhy")


def test_a_command_whose_children_live_on_is_not_waited_for_for_ever():
    began = time.monotonic()
    assert untrusted.told(["sh", "-c", "sleep 30 & echo done"]).stdout == "done\n" and time.monotonic() - began < 5


def test_a_full_disk_is_not_asked_for_as_many_places_as_a_user_names(user, monkeypatch):  # noqa: F811
    asked = []
    monkeypatch.setattr(user, "podman", lambda *_, **__: subprocess.CompletedProcess([], 0, "\n".join(f"/x/{one}" for one in range(1000)), ""))
    monkeypatch.setattr(service_user, "room", lambda paths: asked.extend(paths) or "")
    user.cannot_pull("x", "y", "no space left on device")
    assert asked == ["/x/0", "/x/1"]


def test_many_files_are_no_more_than_one_that_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(untrusted, "TOTAL", 250)
    for number in range(5):
        (tmp_path / f"{number}.json").write_text("x" * 100)
    found = untrusted.matching([f"{tmp_path}/*.json"])
    assert [len(one.get("content", b"")) for one in found.values()] == [100, 100, 0, 0, 0] and "move some away" in str(
        untrusted.problem(found[f"{tmp_path}/4.json"])
    )
    assert sum("content" in one for one in untrusted.read([f"{tmp_path}/{number}.json" for number in range(5)]).values()) == 2


@pytest.mark.parametrize("pattern", ["*.json", "*/*.json"])
def test_a_directory_of_a_user_is_not_looked_through_for_ever(tmp_path, monkeypatch, pattern):
    monkeypatch.setattr(untrusted, "NAMES", 10)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(6):
            (tmp_path / name / f"{number}.json").touch()
            (tmp_path / f"{name}{number}.json").touch()
    (found,) = untrusted.matching([f"{tmp_path}/{pattern}"]).values()
    assert "more than 10 names" in str(untrusted.problem(found))


def test_a_flood_of_units_or_containers_pushes_nothing_else_out():
    many = [("user", f"x{number}.service") for number in range(500)]
    data = {"user": {}, "system": {}, "failed": [*many, ("system", "cron.service")], "uptime": 1.0}
    found = checks_host.judge_units(data, settings(user_units=[], system_units=[]), 0)
    assert len(found) == 22 and "unit cron.service" in [one.key for one in found] and found[-1].says == "and 480 more"
    said = 'quadlet[9]: converting "x.container": unsupported key\n' * 500
    seen = {"version": "podman version 5.4.2", "generator": True, "said": said, "code": 0, "ours": ["x.container"]}
    assert len(doctor.judge_podman(seen, settings(), 0)) == 21
    rows = [{"name": f"x{number}", "state": "exited", "status": ""} for number in range(500)]
    assert len(checks_containers.judge_containers(rows, settings(), 0)) == 21 == len(checks_containers.judge_containers(rows[:20], settings(), 0)) + 1


# How many things a user has
def test_a_flood_of_status_files_pushes_nothing_else_out(tmp_path):
    status = tmp_path / "backups/status"
    status.mkdir(parents=True)
    for number in range(300):
        (status / f"a{number}.json").write_text(json.dumps({"result": "failed", "error": "look here"}))
    (status / "dump.json").write_text(json.dumps({"result": "failed", "error": "disk full"}))
    found = checks_backups.judge_backups(checks_backups.read_backups(None, settings(home=str(tmp_path))), settings(), 0)
    assert [one.key for one in found] == ["backup dump"] and "disk full" in found[0].says


def test_every_job_has_its_place_in_the_status():
    jobs = yaml.safe_load((ROOT / "roles/backup/vars/main.yml").read_text())["__backup_own"]  # noqa: F811
    timers = re.findall(r"name: pitr-(\w+)[.]timer", (ROOT / "roles/pitr/tasks/main.yml").read_text())
    assert {*jobs, *timers} <= set(components.every_job()) and set(timers) == set(checks_backups.RECOVERY_JOBS)


def test_a_flood_of_certificates_is_no_flood_of_processes(tmp_path, fact, monkeypatch):  # noqa: F811
    below = {}
    for number in range(300):
        (tmp_path / f"{number:03}.crt").write_text("x")
        below[f"/home/config/x/tls/{number:03}.crt"] = {"content": b"x"}
    asked = []
    asking = type("Host", (), {"run": lambda self, *argv, stdin: asked.append(stdin) or host.Ended(1, "", "no")})()
    config = settings(certificates=[f"{tmp_path}/*.crt"], public=None)
    found = checks_certificates.judge_certificates(checks_certificates.read_certificates(asking, config), config, 0)
    assert len(asked) == checks_certificates.CERTIFICATES == len(found) - 1
    assert any("leads to 300 files" in one.says for one in found)
    assert len(fact["certificates_of_homes"](below)) == fact["MANY"]
