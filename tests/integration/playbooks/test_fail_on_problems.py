"""The action that refuses, in a real run."""

import json

import pytest
from controller import run


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"problems": []}, None),
        ({"problems": [], "heading": "Not ready:"}, None),
        ({"problems": ["a: wrong", "b: none"]}, "a: wrong\nb: none"),
        ({"problems": ["a: wrong"], "heading": "Not ready:"}, "Not ready:\na: wrong"),
        ({"problems": "{{ ['a: is ' ~ inventory_hostname] }}"}, "a: is localhost"),
        # What is no list holds for nothing
        ({"problems": ""}, "problems is a list of lines"),
        ({}, "problems is a list of lines"),
        ({"problems": [], "that": True}, "that"),
    ],
)
def test_fails_if_there_is_one(tmp_path, arguments, says):
    done = played(tmp_path, arguments)
    assert (done.returncode == 0) == (says is None), done.stdout
    lines = "\n".join(line.strip() for line in done.stdout.splitlines())
    assert not says or says in lines, lines


def test_makes_the_list_once(tmp_path):
    done = played(tmp_path, {"problems": "{{ lookup('ansible.builtin.pipe', 'echo >> ' ~ counted) | split }}"}, counted=str(tmp_path / "counted"))
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "counted").read_text() == "\n"


def played(tmp_path, arguments, **variables):
    task = {"name": "Check", "senex.trader.fail_on_problems": arguments}
    (tmp_path / "play.yml").write_text(json.dumps([{"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": variables, "tasks": [task]}]))
    return run("ansible-playbook", "-i", "localhost,", tmp_path / "play.yml", "--check")
