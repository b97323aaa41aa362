"""What the programs on a host share, and files that go from one component to another."""

import ast
import json
import os
import re
import stat
import threading
import time
from pathlib import Path

import hostlib
import pytest
import yaml
from ansible_collections.senex.trader.plugins.filter.building import backup_job_files
from ansible_collections.senex.trader.plugins.module_utils.engine import quadlet_check, system_transaction
from ansible_collections.senex.trader.plugins.module_utils.engine.system_transaction import ApplyError, SystemComponent, SystemTransaction
from ansible_collections.senex.trader.plugins.module_utils.host import fileset, host_layout, release_record, user_manager
from ansible_collections.senex.trader.plugins.module_utils.host.fileset import Manifest, WantedFile
from ansible_collections.senex.trader.plugins.plugin_utils import components
from test_engine_system import OWN, System
from watched import senex_ops

assert senex_ops  # on the path by that
from senex_host import files, lock, process, status  # noqa: E402
from senex_ops import checks_backups, checks_release, command  # noqa: E402

ROOT = Path(__file__).parents[2]


# --- A file that another component takes over


@pytest.fixture
def system(monkeypatch, tmp_path):
    fake = System()
    monkeypatch.setattr(system_transaction, "command", fake)
    monkeypatch.setattr(system_transaction, "ASIDE", str(tmp_path / "state/aside"))
    monkeypatch.setattr(system_transaction, "Manifest", lambda component: Manifest(component, str(tmp_path / "state")))
    return fake


def component(tmp_path, name, **contents):
    wanted = [WantedFile(str(tmp_path / "etc" / file), text.encode(), 0o644, *OWN, notify=["service"]) for file, text in contents.items()]
    return SystemComponent(name, wanted, handlers={"service": {"unit": f"{name}.service"}})


def apply(component, present=True):
    return SystemTransaction(component, present).run(False)


def there(tmp_path):
    return {path.name: path.read_text() for path in (tmp_path / "etc").iterdir()}


def test_a_file_goes_from_one_component_to_another_and_is_never_missing(system, tmp_path, monkeypatch):
    """As /usr/local/bin/senex does, from watchdog to operator_cli, with the first run of a version that has the second."""
    apply(component(tmp_path, "watchdog", senex="old", daemon="1"))
    gone = []
    monkeypatch.setattr(fileset.os, "unlink", lambda path, real=os.unlink: (gone.append(os.path.basename(path)), real(path)))
    apply(component(tmp_path, "operator_cli", senex="new"))
    apply(component(tmp_path, "watchdog", daemon="2"))
    assert there(tmp_path) == {"senex": "new", "daemon": "2"} and "senex" not in gone
    assert not (tmp_path / "state/aside").exists(), "what another component has put there is nobody's original"
    manifests = {name: [os.path.basename(path) for path in Manifest(name, str(tmp_path / "state")).files] for name in ("watchdog", "operator_cli")}
    assert manifests == {"watchdog": ["daemon"], "operator_cli": ["senex"]}
    for one in (component(tmp_path, "operator_cli", senex="new"), component(tmp_path, "watchdog", daemon="2")):
        assert apply(one)["changed"] is False
    apply(SystemComponent("watchdog"), present=False)
    assert there(tmp_path) == {"senex": "new"}
    apply(SystemComponent("operator_cli"), present=False)
    assert there(tmp_path) == {}


def test_the_old_component_that_comes_first_does_take_it_away(system, tmp_path):
    """So role watchdog imports operator_cli before it applies its own."""
    apply(component(tmp_path, "watchdog", senex="old", daemon="1"))
    apply(component(tmp_path, "watchdog", daemon="1"))
    assert there(tmp_path) == {"daemon": "1"}
    tasks = yaml.safe_load((ROOT / "roles/watchdog/tasks/main.yml").read_text(encoding="utf-8"))
    kinds = ["import" if task.get("ansible.builtin.import_role") else "put" if "senex.trader.system_files" in task else "" for task in tasks]
    assert [kind for kind in kinds if kind] == ["import", "put"]
    assert not any("when" in task for task in tasks if "ansible.builtin.import_role" in task)


def test_what_was_taken_over_by_a_run_that_failed_is_the_old_ones_again(system, tmp_path):
    apply(component(tmp_path, "watchdog", senex="old"))
    new = component(tmp_path, "operator_cli", senex="new")
    new.checks, system.refuse = [["refuse"]], ("refuse",)
    with pytest.raises(ApplyError):
        apply(new)
    assert there(tmp_path) == {"senex": "old"} and not Manifest("operator_cli", str(tmp_path / "state")).found
    apply(SystemComponent("watchdog"), present=False)
    assert there(tmp_path) == {}


def test_a_program_starts_anew_with_the_library_that_another_component_brings(system, tmp_path):
    """The library is put in place first: the service's own component then finds nothing to change in it."""

    def run(text):
        system.log.clear()
        apply(component(tmp_path, "host-library", lock=text))
        apply(component(tmp_path, "watchdog", lock=text, daemon="1"))
        return "systemctl try-restart watchdog.service" in system.log

    assert run("1") and not run("1") and run("2") and not run("2")
    (tmp_path / "etc/lock").write_text("by hand")
    assert run("2"), "and where the other component has undone what somebody did by hand"
    assert not run("2")
    apply(SystemComponent("watchdog"), present=False)
    assert there(tmp_path) == {"lock": "2"}


# --- The library


def test_one_waits_and_says_so_and_gives_up(tmp_path):
    told, held, done = [], threading.Event(), threading.Event()

    def first():
        with lock.exclusive(str(tmp_path / "new"), "dump"):
            held.set()
            done.wait(5)

    thread = threading.Thread(target=first)
    thread.start()
    held.wait(5)
    with pytest.raises(lock.Busy), lock.exclusive(str(tmp_path / "new"), "dump"):
        pytest.fail("both at once")
    assert told == [], "who does not wait tells nobody of waiting"
    with lock.exclusive(str(tmp_path / "new"), "redis"):
        pass
    threading.Timer(0.3, done.set).start()
    began = time.monotonic()
    with lock.exclusive(str(tmp_path / "new"), "dump", 5, lambda: told.append("waits")):
        assert told == ["waits"] and time.monotonic() - began < 4
    thread.join()
    assert stat.S_IMODE(os.stat(tmp_path / "new").st_mode) == 0o700


def test_an_error_within_is_not_taken_for_a_lock_that_is_held(tmp_path):
    from pitr import jobs

    conf = type("Settings", (), {"status": str(tmp_path)})()
    with pytest.raises(lock.Busy, match="of somebody else's"), jobs.alone(conf, "base"):
        raise lock.Busy("of somebody else's")
    with lock.exclusive(str(tmp_path), "base"), pytest.raises(jobs.PitrError, match="base is running already"), jobs.alone(conf, "base"):
        pytest.fail("both at once")


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = str(tmp_path / "a")
    files.replace(path, "one\n", mode=0o644)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o644
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space"):
            files.replace(path, "two\n")
        files.replace(path, "three\n", durable=False)
    assert Path(path).read_text() == "three\n" and os.listdir(tmp_path) == ["a"] and stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_the_watchdog_reads_what_jobs_write(tmp_path):
    """One schema for all of them."""
    place = tmp_path / host_layout.STATUS
    jobs = components.every_job()
    for job in jobs:
        assert status.read(str(place), job) is None
        status.write(str(place), job, 60, result="ok", finished="2026-11-29T10:00:00Z", bytes=7)
    config = type("Config", (), {"home": str(tmp_path), "jobs": jobs, "jobs_of_others": []})()
    found = checks_backups.read_backups(None, config)
    assert {one["job"] for one in found} == set(jobs)
    assert {(one["result"], one["bytes"], one["max_age_seconds"]) for one in found} == {("ok", 7, 60)}
    written = json.loads((place / "dump.json").read_text())
    assert list(written) == ["job", "result", *status.FIELDS, "max_age_seconds"]
    said = "".join((ROOT / path).read_text() for path in ("roles/backup/files/senex_backup/common.py", "roles/pitr/files/pitr/jobs.py"))
    results = {*re.findall(r'"result": "(\w+)"', said), *re.findall(r'result="(\w+)"', said), "unverified", "never"}
    assert {checks_backups.status_of({"result": one}, "dump")["result"] for one in results} == results == set(status.RESULTS)


def test_a_program_is_read_as_it_says_it():
    done = process.run(["printf", "a\\r\\n\\377"])
    assert (done.returncode, done.stdout) == (0, "a\r\n\ufffd")
    assert process.run(["cat"], "x").stdout == "x" and process.run(["cat"]).stdout == ""
    assert process.printable("a\x1b[2J\tb\n") == "a?[2J\tb\n"


@pytest.mark.parametrize("end", ["\u2028", "\x85", "\x0b", "\r"])
def test_a_unit_says_what_it_is_by_lines_alone(end):
    said = f"Id=web-1.service\nDescription=x{end}ActiveState=active\nActiveState=failed\n\nId=web-2.service\nActiveState=active\n"
    assert [unit["ActiveState"] for unit in user_manager.properties(said)] == ["failed", "active"] and user_manager.properties("\n") == []


def test_no_program_has_its_own_of_what_the_library_has():
    """A second lock, status file, parser or environment is one that a repair of the first does not reach."""
    apart = {("dead_locks.py", "flock")}  # shared, and each restic inherits it
    words, wrong = ("flock", "DBUS_SESSION_BUS_ADDRESS", "unix:path=", 'split("=", 1) for line in block'), []
    for path in [path for role in ("backup", "pitr", "watchdog", "operator_cli") for path in ROOT.glob(f"roles/{role}/files/**/*") if path.is_file()]:
        if "__pycache__" not in path.parts:
            text = path.read_text(encoding="utf-8")
            wrong += [f"{path.name}: {word}" for word in words if word in text and (path.name, word) not in apart]
    assert wrong == []


# --- Where things lie


def test_engine_and_programs_go_by_one_layout():
    assert (release_record.LOCK, release_record.RECORDS, release_record.LEASE, release_record.BOOT) == (
        host_layout.LOCK, host_layout.RECORDS, checks_release.LEASE, checks_release.BOOT,
    )  # fmt: skip
    assert f"{fileset.MANIFESTS}/{release_record.LOCK}" == checks_release.LOCK and f"{fileset.MANIFESTS}/{release_record.RECORDS}" == command.RECORDS
    fact = (ROOT / "roles/common/files/senex_fact.py").read_text(encoding="utf-8")  # one file, which imports nothing
    assert host_layout.RELEASES in fact and all(f'"{path}"' in fact for path in quadlet_check.GENERATORS)
    nginx = yaml.safe_load((ROOT / "roles/nginx/vars/main.yml").read_text(encoding="utf-8"))
    assert nginx["__nginx_closing"] == host_layout.CLOSING
    assert yaml.safe_load((ROOT / "roles/senex/defaults/main.yml").read_text(encoding="utf-8"))["__senex_library"] == host_layout.LIBRARY
    assert yaml.safe_load((ROOT / "roles/pitr/defaults/main.yml").read_text(encoding="utf-8"))["pitr_status_directory"] == host_layout.STATUS


def test_units_of_jobs_are_called_what_roles_call_them():
    backup = (ROOT / "roles/backup/vars/main.yml").read_text(encoding="utf-8")
    assert "__backup_jobs | senex.trader.backup_job_files" in backup and backup_job_files(["dump"])[1]["dest"] == host_layout.job_unit("dump", "timer")
    assert host_layout.job_unit("offsite-wal", "timer") == "backup-offsite-wal.timer"
    pitr = (ROOT / "roles/pitr/tasks/main.yml").read_text(encoding="utf-8")
    timers = {host_layout.job_unit(job, "timer") for job in host_layout.RECOVERY_JOBS}
    assert set(re.findall(r"name: (pitr-\w+[.]\w+)", pitr)) == {host_layout.RECEIVER, *timers}


def test_no_second_place_knows_where_roots_state_lies():
    wrong = []
    apart = {"host_layout.py", "senex_fact.py", "nginx_upstream.py"}  # the last: a place of an earlier version
    for path in [*ROOT.glob("plugins/module_utils/*/*.py"), *ROOT.glob("plugins/modules/*.py"), *ROOT.glob("roles/*/files/**/*.py")]:
        if path.name not in apart:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            for node in ast.walk(tree):
                text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose else ""
                if re.match(r"/(var/lib|run)/senex\.trader\b|backups/status\b", text):
                    wrong.append(f"{path.name}: {text}")
    assert wrong == ["owned.py: backups/status"], "what is never removed is named by itself"


def test_the_library_is_roots_and_nobody_elses():
    tasks = (ROOT / "roles/senex/tasks/host_library.yml").read_text(encoding="utf-8")
    assert "senex.trader.system_files" in tasks and "owner" not in tasks and 'mode: "0755"' in tasks
    assert set(hostlib.modules()) >= {"lock", "status", "process", "files", "bounded", "untrusted", "user_manager", "host_layout"}
