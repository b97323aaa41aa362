"""Runs of Ansible by forks of one process: each has its own words, environment, output and end, as if it had been started alone."""

import json

from controller import NO_CLIENTS, run

TASKS = [
    {"set_fact": {"kept": "{{ kept | default('') + lookup('env', 'STUB_WORD') }}"}},
    {"debug": {"msg": "kept {{ kept }}"}},
    {"fail": {"msg": "it was asked for"}, "when": "wrong | default(false) | bool"},
]


def test_no_run_sees_what_another_one_did(tmp_path):
    (tmp_path / "play.json").write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": TASKS}]))

    def said(word, *words):
        done = run("ansible-playbook", "-i", "localhost,", tmp_path / "play.json", *words, home=tmp_path, STUB_WORD=word, COLUMNS="600", **NO_CLIENTS)
        assert f"kept {word}" in done.stdout, done.stdout + done.stderr
        return done.returncode, "it was asked for" in " ".join((done.stdout + done.stderr).split())

    assert (said("one"), said("two", "-e", "wrong=true"), said("three")) == ((0, False), (2, True), (0, False))
    assert len([*(tmp_path / ".ansible/tmp").iterdir()]) == 1, "that of the process itself, which is there until the last run"


def test_what_a_directory_says_of_its_groups_is_read(tmp_path):
    """The process has loaded plugins beforehand, and each kind must be as it is in a process of its own."""
    inventory = tmp_path / "inventory"
    (inventory / "group_vars/all").mkdir(parents=True)
    (inventory / "hosts.yml").write_text(json.dumps({"all": {"hosts": {"one": {}}}}))
    (inventory / "group_vars/all/main.yml").write_text(json.dumps({"said": "of the group"}))
    (tmp_path / "play.json").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [{"debug": {"msg": "heard {{ said }}"}}]}]))
    done = run("ansible-playbook", "-i", inventory, tmp_path / "play.json", COLUMNS="600", **NO_CLIENTS)
    assert "heard of the group" in done.stdout, done.stdout + done.stderr
