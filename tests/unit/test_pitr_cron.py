"""The cron job that Barman's package brings: out of force where nothing needs it, and the package's own again where the archive is removed."""

import re
from pathlib import Path

import jinja2
import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from rendered import trusted

ROLE = Path(__file__).parents[2] / "roles/pitr"
# As Debian's and Ubuntu's packages have it
PACKAGE = """\
# /etc/cron.d/barman: crontab entries for the barman package
MAILTO=root
* * * * * barman [ -x /usr/bin/barman ] && /usr/bin/barman -q cron
"""
JOB = "/etc/cron.d/barman"
OWN = "[barman]\nbarman_home = /var/lib/barman\n;[commented]\n"


def converged(files, state="present"):
    """What the two tasks make of the files of a host, by the words of the role; no file that was there goes."""
    variables = yaml.safe_load((ROLE / "vars/main.yml").read_text())
    tasks = {task["name"]: task for task in yaml.safe_load((ROLE / "tasks/cron.yml").read_text())}
    look, act = (next(task for task in tasks.values() if module in task) for module in ("ansible.builtin.find", "ansible.builtin.replace"))

    def told(text, **more):
        rendered = jinja2.Environment(extensions=[]).from_string(text)  # noqa: S701  (words, not HTML)
        return rendered.render({**variables, "pitr_state": state, **more})

    contains = told(look["ansible.builtin.find"]["contains"])
    found = [path for path, text in files.items() if any(re.match(contains, line) for line in text.splitlines())]
    others = [path for path in found if re.match(r"/etc/barman([.]conf$|[.]d/)", path)]
    assert "/etc/barman([.]conf$|[.]d/)" in variables["__pitr_cron_served"]
    assert act["when"] == ["__pitr_cron_job in __pitr_cron.files | default([]) | map(attribute='path')", "__pitr_cron_served | length == 0"]
    if JOB not in found or others:
        return files
    pattern, replacement = (told(act["ansible.builtin.replace"][word]) for word in ("regexp", "replace"))
    return {**files, JOB: re.sub(pattern, replacement, files[JOB], flags=re.MULTILINE)}


def in_force(text):
    return [line for line in text.splitlines() if "barman" in line and not line.startswith("#")]


@pytest.mark.parametrize("line", [PACKAGE.splitlines()[-1], "*/5 * * * *  root  test -e /usr/bin/barman && exec /usr/bin/barman cron"])
def test_it_does_not_run_and_comes_back_as_it_was(line):
    before = {JOB: PACKAGE.replace(PACKAGE.splitlines()[-1], line), "/etc/barman.conf": OWN}
    assert in_force(before[JOB])
    after = converged(before)
    assert not in_force(after[JOB]) and "MAILTO=root\n" in after[JOB], "dpkg sees a changed conffile, and keeps it"
    assert converged(after) == after, "once is enough"
    assert converged(after, "absent") == before, "to dpkg it is the package's own again"
    assert converged(before, "absent") == before


@pytest.mark.parametrize("path", ["/etc/barman.conf", "/etc/barman.d/other.conf"])
def test_it_stays_in_force_for_somebody_elses_server(path):
    files = {JOB: PACKAGE, "/etc/barman.conf": OWN}
    files[path] = files.get(path, "") + "\n[other]\nstreaming_archiver = on\n"
    assert converged(files) == files


def test_a_host_without_it_has_nothing_to_change():
    for files in ({}, {"/etc/barman.conf": OWN, "/etc/other.conf": "[section]\n"}):
        assert converged(files) == files


@pytest.mark.parametrize(
    ("state", "installed", "unchanged", "looked_for"),
    [("present", False, True, False), ("present", False, False, True), ("present", True, True, True), ("absent", False, True, True)],
)
def test_it_is_looked_for_where_it_may_have_come(state, installed, unchanged, looked_for):
    """Barman that was removed and is installed again has its job again, and the files of the role are as they were."""
    (task,) = [task for task in yaml.safe_load((ROLE / "tasks/prepare.yml").read_text()) if task.get("ansible.builtin.include_tasks") == "cron.yml"]
    values = {"pitr_state": state, "__pitr_apt": {"changed": installed}, "senex_host_snapshot": {"unchanged": {"pitr": {}} if unchanged else {}}}
    assert Templar(loader=DataLoader(), variables=trusted(values)).template(trusted("{{ (" + task["when"] + ") | bool }}")) is looked_for
