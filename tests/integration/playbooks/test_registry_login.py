"""The registry login of role podman, run against a podman that writes down what it is given."""

import json
import sys

import pytest
import yaml
from controller import BIN, ROOT, run

PASSWORD = """a $B "c" 'd' #e %f\\g =h;i&j é Qz0123zQ"""
PODMAN = f"""#!{sys.executable}
import json, os, sys
with open("/proc/%d/cmdline" % os.getppid(), "rb") as parent:
    above = parent.read().decode(errors="replace")
with open(os.environ["PODMAN_SEEN"], "a") as seen:
    seen.write(json.dumps({{"argv": sys.argv[1:], "given": sys.stdin.buffer.read().decode(), "environment": dict(os.environ), "above": above}}) + "\\n")
if os.environ.get("PODMAN_REFUSES"):
    sys.stderr.write("Error: unauthorized: " + os.environ["PODMAN_REFUSES"])
    sys.exit(125)
"""
RUNUSER = """#!/bin/sh
[ "$1 $2 $3" = "--user senex --" ] || exit 99
shift 3
exec "$@"
"""
PLAY = [
    {
        "hosts": "localhost", "connection": "local", "gather_facts": False,
        "tasks": [{"ansible.builtin.include_role": {"name": "senex.trader.podman", "tasks_from": "login"}}],
    }
]  # fmt: skip


@pytest.fixture
def login(tmp_path):
    podman = tmp_path / "podman"
    podman.write_text(PODMAN)
    podman.chmod(0o755)
    # In the place of the one that becomes the service user, which is not here
    (tmp_path / "runuser").write_text(RUNUSER)
    (tmp_path / "runuser").chmod(0o755)
    (tmp_path / "play.yml").write_text(yaml.safe_dump(PLAY))
    settings = {
        "senex_registry": "registry.example.com:5000/team", "senex_registry_login": {"username": "ci", "password": PASSWORD}, "senex_domain": "x.example.com",
        "senex_uid": 65533, "senex_home": str(tmp_path), "ansible_become": False, "ansible_python_interpreter": sys.executable,
        "ansible_facts": {"ansible_local": {}},
    }  # fmt: skip
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    seen = tmp_path / "seen"

    def once(refuses=""):
        result = run(
            "ansible-playbook", "-i", "localhost,", tmp_path / "play.yml", "-e", f"@{tmp_path / 'settings.json'}", "-vvv", "--diff", cwd=ROOT,
            PATH=f"{tmp_path}:{BIN}:/usr/local/bin:/usr/bin:/bin", PODMAN_SEEN=str(seen), PODMAN_REFUSES=refuses, HOME=str(tmp_path),
        )  # fmt: skip
        return result.returncode, result.stdout + result.stderr, [json.loads(line) for line in seen.read_text().splitlines()]

    return once


def test_the_password_goes_by_standard_input_alone(login):
    code, said, calls = login()
    assert code == 0, said
    (call,) = [call for call in calls if "login" in call["argv"]]
    assert call["given"] == PASSWORD
    assert call["environment"]["XDG_RUNTIME_DIR"] == "/run/user/65533"
    assert call["argv"][-1] == "registry.example.com:5000" and "--username=ci" in call["argv"] and "--password-stdin" in call["argv"]
    for place in (*call["argv"], *call["environment"].values(), call["above"], said):
        assert PASSWORD not in place and "Qz0123zQ" not in place
    assert "changed=0" in said, "trying a login changes nothing"


def test_what_the_registry_says_is_said_without_the_password(login):
    code, said, _calls = login(refuses=f"bad password {PASSWORD}")
    assert code != 0
    assert "registry.example.com:5000 does not take senex_registry_login (user ci)" in said and "Error: unauthorized: bad password ***" in said
    assert "Qz0123zQ" not in said


def test_no_task_gives_a_password_to_a_command_line():
    """Neither a word of a command nor a module that makes one of its parameters."""
    for path in [*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("playbooks/**/*.yml")]:
        text = path.read_text()
        assert "podman_login" not in text.replace("__podman_login", ""), path
        assert "--password=" not in text and "--password," not in text, path
