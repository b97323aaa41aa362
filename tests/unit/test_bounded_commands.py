"""What programs of the service user's say to a playbook has an end, and is printable: whoever is that user has put another program in their place."""

import json
import pathlib
import re
import subprocess
import sys

import pytest
import yaml
from ansible_collections.senex.trader.plugins.module_utils.host import child
from ansible_collections.senex.trader.plugins.modules import bounded_command
from test_outside_words import ENDLESS, RED, tasks_of

ROOT = pathlib.Path(__file__).parents[2]
# Tasks whose command says what the service user or a container likes: by where it is, whose it is, or who starts it
THEIRS = re.compile(r"senex_home|runuser|--machine=|systemd-run|podman|_as_user|_backup_command|_pitr_program|_rotate_backup|become_user|item\.argv|before\.sh")
OWN = {"Let the service user linger": "loginctl is root's, and asks root's manager"}


def given(**more):
    return {"stdin": "", "chdir": "/", "timeout": 20.0, **more}


def test_one_that_never_stops_printing_is_ended(monkeypatch):
    monkeypatch.setattr(child, "SAID", 1_000_000)
    done = bounded_command.run(given(argv=list(ENDLESS)))
    assert done == {"rc": 125, "stdout": "", "stderr": "printed more than 1000000 bytes"}


def test_one_that_does_not_end_is_ended_and_one_that_is_not_there_told():
    assert bounded_command.run(given(argv=["sleep", "30"], timeout=0.3)) == {"rc": 124, "stdout": "", "stderr": "no end after 0.3 s"}
    assert bounded_command.run(given(argv=["/nowhere/pitr"]))["rc"] == 127


def test_it_has_no_terminal_on_which_the_module_answers():
    words = [sys.executable, "-c", "import os; print(os.getsid(0) == os.getpid(), os.readlink('/proc/self/fd/0'))"]
    assert bounded_command.run(given(argv=words))["stdout"] == "True /dev/null"


def test_what_it_says_is_printable_and_whole():
    plan = json.dumps({"dump": RED, "many": "x" * 100_000})
    done = bounded_command.run(given(argv=["sh", "-c", "cat; printf 'no \\033[2J\\nwhy\\n' >&2; exit 4"], stdin=f"{RED}\n{plan}\n"))
    assert (done["rc"], done["stderr"], done["stdout"].split("\n")) == (4, "no ?[2J\nwhy", ["?[31mred??", plan])


@pytest.mark.parametrize(("argv", "check", "found"), [
    (["sh", "-c", "echo well"], False, {"rc": 0, "stdout": "well", "changed": True}), (["false"], False, {"rc": 1, "failed": True}),
    (["sh", "-c", "echo out; exit 3"], False, {"rc": 3, "msg": "ended with 3: out", "stdout": "out"}), (["false"], True, {"rc": 0, "skipped": True}),
])  # fmt: skip
def test_it_answers_as_a_command_of_ansibles_own(argv, check, found):
    arguments = {"ANSIBLE_MODULE_ARGS": {"argv": argv, "_ansible_check_mode": check, "_ansible_remote_tmp": "/tmp"}}  # noqa: S108
    done = subprocess.run([sys.executable, bounded_command.__file__], input=json.dumps(arguments), capture_output=True, text=True, check=False, cwd=ROOT,
                          env={"PYTHONPATH": f"{ROOT}:" + ":".join(sys.path), "PATH": "/usr/bin:/bin"})  # fmt: skip
    said = json.loads(done.stdout)
    assert found.items() <= said.items(), said


def test_every_command_of_theirs_is_asked_so():
    bare, seen = [], 0
    for path in [*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("roles/*/handlers/*.yml"), *ROOT.glob("playbooks/**/*.yml")]:
        for task in tasks_of(yaml.safe_load(path.read_text(encoding="utf-8"))):
            seen += "senex.trader.bounded_command" in task
            for kind in ("command", "shell", "raw", "script"):
                if f"ansible.builtin.{kind}" in task and THEIRS.search(yaml.safe_dump(task, width=10_000)) and task["name"] not in OWN:
                    bare.append(f"{path.relative_to(ROOT)}: {task['name']}")
    assert bare == [] and seen > 13


def test_what_may_fail_is_told_all_the_same(tmp_path):
    """That no instance heard that it stops was for nobody to see."""
    arguments = {"argv": ["sh", "-c", "echo 'no \033[2J' >&2; exit 5"], "failure_warning": "web-1 was not told", "_ansible_remote_tmp": str(tmp_path)}
    done = subprocess.run([sys.executable, bounded_command.__file__], input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}), capture_output=True, text=True,
                          check=False, cwd=ROOT, env={"PYTHONPATH": f"{ROOT}:" + ":".join(sys.path), "PATH": "/usr/bin:/bin"})  # fmt: skip
    said = json.loads(done.stdout)
    assert said["rc"] == 5 and not said.get("failed") and "web-1 was not told (ended with 5: no ?[2J)" in str(said["warnings"])


def test_the_hook_of_instances_behind_another_hosts_nginx_is_such_a_command():
    hooks = [task for task in tasks_of(yaml.safe_load((ROOT / "roles/django/tasks/leave.yml").read_text())) if "__django_pre_stop_hook" in str(task)]
    told = [task["senex.trader.bounded_command"] for task in hooks if "senex.trader.bounded_command" in task]
    assert len(told) == 1 and "__django_stopping" in told[0]["failure_warning"] and not any("failed_when" in task for task in hooks)
