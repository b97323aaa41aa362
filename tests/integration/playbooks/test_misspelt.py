"""What is misspelt on the command line ends a run, which would go without it otherwise and say that all is well."""

import json
import re
import sys

import pytest
import yaml
from controller import NO_CLIENTS, ROOT, run
from patterns import WHOLE

HOST = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}


def play(tmp_path, playbook, name, words, group="elsewhere"):
    """One play of a playbook, on a host where it changes nothing."""
    (found,) = [one for one in yaml.safe_load((ROOT / "playbooks" / playbook).read_text()) if one["name"] == name]
    (tmp_path / "hosts.json").write_text(json.dumps({name: {"hosts": {"one": HOST}} for name in ("postgresql", "redis", group)}))
    found["tasks"] = [task for task in found["tasks"] if not str(task.get("ansible.builtin.import_tasks")).startswith("tasks/")]
    files = {"vars_files": [str(ROOT / "playbooks" / file) for file in found.get("vars_files", [])]}
    (tmp_path / "play.yml").write_text(json.dumps([found | files]))
    command = ["ansible-playbook", "-i", str(tmp_path / "hosts.json"), str(tmp_path / "play.yml"), *words]
    done = run(*command, COLUMNS="600", **NO_CLIENTS)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--tags", "phase1"], None),
        (["--tags", "redis,pitr"], None),
        (["--skip-tags", "common"], None),
        (["--skip-tags", "molecule-notest,notest,molecule-idempotence-notest"], None),
        ([], None),
        (["--tags", "postgres"], "there is no postgres; there are backup, celery, common,"),
        (["--tags", "phase1,phase_2"], "there is no phase_2;"),
        (["--skip-tags", "postgres"], "there is no postgres;"),
    ],
)
def test_a_tag_that_nothing_has_is_no_success(tmp_path, words, says):
    status, said = play(tmp_path, "site.yml", "Check the tags", words)
    assert (status != 0) is (says is not None) and (says or "") in said, said


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, None),
        ({"restore_dump": "newest", "restore_confirm": True}, None),
        ({"restore_from": "pitr", "restore_to": "latest", "restore_base": "x", "restore_queue": "aside"}, None),
        ({"restore_dump": "newest", "restore_queu": "aside"}, "restore_queu: is no variable of a restore; they are restore_base,"),
        ({"restore_dmup": "newest", "restore_confirm": True}, "restore_dmup: is no variable"),
        ({"restore_to": "latest", "restore_confirm": True}, "restore_to: needs -e restore_from=pitr"),
        ({"restore_confirm": True}, "restore_confirm: there is no plan to confirm"),
    ],
)
def test_a_restore_takes_no_variable_that_it_does_not_know(tmp_path, given, says):
    status, said = play(tmp_path, "restore.yml", "Choose the kind of restore", ["-e", json.dumps(given)], "postgresql_primary")
    assert (status != 0) is (says is not None) and (says or "") in said, said


@pytest.mark.parametrize(
    ("words", "shows", "refused"), [([], "restore_confirm", False), (["--check"], "restore_confirm", True), ([], None, False), (["--check"], None, False)]
)
def test_what_shows_a_plan_is_not_tried_in_check_mode(tmp_path, words, shows, refused):
    given = {"required_confirmation": shows} if shows else {}
    status, said = play(
        tmp_path, "require_hosts.yml", "Check that the run includes every host that the operation needs", [*words, "-e", json.dumps(given)], "postgresql"
    )
    assert (status != 0) is refused and ("without -e restore_confirm=true the playbook shows" in said) is refused, said


@pytest.mark.parametrize("name", ["deploy", "new_environment", "preflight", "status"])
@pytest.mark.parametrize("words", [["--tags", "postgresql"], ["--skip-tags", "nginx"]], ids=["tags", "skip-tags"])
def test_a_playbook_without_tags_refuses_them(tmp_path, name, words):
    """It would leave everything out, or one step, and end well. Each kind of beginning; that all begin so: tests/unit/test_tags_refused.py."""
    groups = {group: {"hosts": {"one": HOST}} for group in ("postgresql", "redis", "web", "celery", "celery_beat", "nginx", "backup", "watchdog")}
    (tmp_path / "hosts.json").write_text(json.dumps(groups))
    done = run("ansible-playbook", "-i", str(tmp_path / "hosts.json"), str(ROOT / "playbooks" / f"{name}.yml"), *words, COLUMNS="600", **NO_CLIENTS)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode and f"run it without {words[1]}" in said and "ok=1 " not in said, said


@pytest.mark.parametrize("name", sorted({*WHOLE, "site"} - {"secrets", "check_image", "new_environment"}))
def test_a_run_without_an_inventory_is_no_success(tmp_path, name):
    """One that is not there is the same to Ansible: it skips every play, and a deploy would end well."""
    words = ["-i", str(tmp_path / "prodution"), "-e", "secret=redis_password"]
    done = run("ansible-playbook", str(ROOT / "playbooks" / f"{name}.yml"), *words, COLUMNS="600", **NO_CLIENTS)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode and re.search("the inventory has no host: .* Give -i inventory/NAME|no inventory is given: give -i inventory/NAME", said), said


def test_a_checker_needs_no_inventory():
    for words in (["--syntax-check"], ["--list-tasks"]):
        assert run("ansible-playbook", str(ROOT / "playbooks/status.yml"), *words, **NO_CLIENTS).returncode == 0
