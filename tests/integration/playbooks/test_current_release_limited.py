"""Which release an environment runs is not guessed where a host that may know is left out. What hosts say: tests/unit/test_current_release.py."""

import json
import pathlib
import sys

import forked
import pytest
from controller import ROOT
from test_current_release import record


@pytest.fixture
def limited(tmp_path):
    """Runs what validate.yml asks on one web host of two, of which the other does not answer."""
    tasks = (ROOT / "playbooks/tasks/current_release.yml").read_text()
    assert "timeout: 10" in tasks
    (tmp_path / "tasks.yml").write_text(tasks.replace("timeout: 10", "timeout: 1"))
    hosts = {"one": {"ansible_connection": "local"}, "two": {"ansible_host": "127.0.0.1", "ansible_port": 1}}
    variables = {"ansible_python_interpreter": sys.executable, "senex_image_tag": "1", "senex_registry": "r", "senex_image": "app"}
    (tmp_path / "hosts.json").write_text(json.dumps({"web": {"hosts": hosts, "vars": variables}}))
    play = {"hosts": "web", "gather_facts": False, "any_errors_fatal": True, "roles": ["senex.trader.senex"]}
    tasks = [{"include_tasks": str(tmp_path / "tasks.yml")}, {"debug": {"msg": "it runs {{ senex_image_reference }}"}}]
    (tmp_path / "play.yml").write_text(json.dumps([{**play, "tasks": tasks}]))

    def run(*words, **known):
        command = ["ansible-playbook", "-i", str(tmp_path / "hosts.json"), *words, "-e", json.dumps(known), str(tmp_path / "play.yml")]
        environment = {"PATH": f"{pathlib.Path(sys.executable).parent}:/usr/bin:/bin", "ANSIBLE_COLLECTIONS_PATH": str(ROOT), "HOME": str(tmp_path),
                       "LC_ALL": "C.UTF-8", "ANSIBLE_CONFIG": str(tmp_path / "none"), "COLUMNS": "400"}  # fmt: skip
        return forked.run(command, tmp_path, environment)

    return run


def test_a_host_that_is_left_out_and_does_not_answer_may_be_the_only_one_that_knows(limited):
    refused = limited("--limit", "one")
    assert refused.returncode and "two cannot be asked, so nobody knows whether 1 is what runs" in refused.stdout, refused.stdout + refused.stderr
    known = limited("--limit", "one", senex_release=record("2", 20))
    assert "two did not answer: where a later release than 2 (20261120-120000-beef)" in " ".join(known.stdout.split()), known.stdout
    assert known.returncode == 0 and "it runs r/app:2" in known.stdout, known.stdout + known.stderr
