"""Secrets of hostile characters on a host of their own: they arrive as they are, and show nowhere else.

Two converges, the second with all secrets changed. Each secret begins and ends with random hexadecimal digits that no quoting, escaping
or encoding of an address changes; these canaries are looked for.
"""

import base64
import hashlib
import json
import os
import re
import secrets
import shlex
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from doors import DOORS
from stack import APPLICATION, AS_USER, HOME, LAB, ROOT, SSH_CONFIG, UID, UNITS, Stack, environment

HOST = "secrets"
NAMES = ("senex_secret_key", "senex_database_password", "senex_redis_password")
HOSTILE = """$A${B} "q" 'r' #s %t\\u =v{w};x&y éß漢 \\\\ $$%%"""
ENVIRONMENT_FILE = f"{HOME}/.config/containers/systemd/.env"
# Every command line of the host, as `ps -ef` has it, until standard input ends. Often, for some processes live no longer than 50 ms.
SAMPLER = """
import json, os, select, sys
seen = set()
while not select.select([sys.stdin], [], [], 0.02)[0]:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as handle:
                seen.add(handle.read())
        except OSError:
            pass
json.dump([line.replace(b"\\0", b" ").decode(errors="replace") for line in seen], sys.stdout)
"""


def hostile():
    """64 characters; a value that Ansible would take for a template can't be given this way, so no two braces meet."""
    head, tail = secrets.token_hex(5), secrets.token_hex(5)
    return head + HOSTILE + "z" * (64 - len(HOSTILE) - 20) + tail


def canaries(value):
    """Ways in which a leaked secret would be recognised: plain or escaped in any manner, and as base64 at each of the three offsets."""
    ends = [value[:10], value[-10:]]
    encoded = [base64.b64encode(b"x" * offset + end.encode())[4:-4].decode() for end in ends for offset in range(3)]
    return ends + encoded


class Hostile:
    """The host, what was given to it, and what was seen meanwhile."""

    def __init__(self, directory):
        self.directory, self.given, self.output, self.seen = directory, [], "", []
        self.control = secrets.token_hex(10)
        self.address = subprocess.run([LAB, "up", HOST, "--image", "host-ready"], capture_output=True, text=True, check=True).stdout.split()[-1]

    def ssh(self, command, text=None, timeout=90):
        argv = ["ssh", "-F", SSH_CONFIG, "-o", "BatchMode=yes", HOST, command]
        done = subprocess.run(argv, input=text or "", capture_output=True, text=True, timeout=timeout, check=False)
        assert done.returncode == 0, f"exit {done.returncode} from {command[:200]}: {done.stderr[-2000:]}"
        return done.stdout

    def converge(self, tags="phase1"):
        """With new secrets, as wordy as Ansible gets in practice, while the host's processes are looked at."""
        self.given.append({name: hostile() for name in NAMES})
        path = self.directory / f"secrets-{len(self.given)}.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps({"ansible_host": self.address, **self.given[-1]}), encoding="utf-8")
        argv = ["ansible-playbook", f"{ROOT}/site.yml", "-i", f"{ROOT}/inventory/demo", "--tags", tags, "-e", f"@{path}", "-vvv", "--diff"]
        sampler = subprocess.Popen(["ssh", "-F", SSH_CONFIG, HOST, f"python3 -c {shlex.quote(SAMPLER)}"],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # fmt: skip
        try:
            done = subprocess.run(argv, cwd=ROOT, env=environment() | {"ANSIBLE_STDOUT_CALLBACK": "default"}, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=400, check=False)  # fmt: skip
            self.output += done.stdout
            self.ssh(f"python3 -c 'import time; time.sleep(0.3)' {self.control}")
        finally:
            self.seen += json.loads(sampler.communicate("", timeout=30)[0] or "[]")
        assert done.returncode == 0, done.stdout[-4000:]

    @property
    def tokens(self):
        """{name: canaries} of all secrets, the replaced ones too, and a control that is to be found."""
        named = {f"{name} {number}": canaries(value) for number, given in enumerate(self.given, 1) for name, value in given.items()}
        return named | {"control": [self.control]}

    def names_in(self, text):
        return sorted(name for name, needles in self.tokens.items() if any(needle in text for needle in needles))

    def hunt(self):
        question = {"tokens": self.tokens, "uid": UID, "user": "senex", "home": HOME}
        program = (Path(__file__).parent / "hunt.py").read_text(encoding="utf-8")
        self.ssh(f"logger {self.control}; echo {self.control} >/etc/senex-control; chmod 644 /etc/senex-control")
        return json.loads(self.ssh(f"python3 -c {shlex.quote(program)}", json.dumps(question), timeout=300))


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    subprocess.run([LAB, "down", HOST], capture_output=True, check=False)
    try:
        host = Hostile(tmp_path_factory.mktemp("secrets"))
        host.converge()
        host.converge("postgresql,redis,django,celery")  # all that are given them
        yield host
    finally:
        subprocess.run([LAB, "down", HOST], capture_output=True, check=False)


@pytest.fixture(scope="module")
def found(host):
    return host.hunt()


def secret_names(names):
    return [name for name in names if name != "control"]


def test_secrets_are_what_they_are_meant_to_be(host):
    for given in host.given:
        for value in given.values():
            assert len(value) == 64 and set("$\"'#%\\={} ;&éß漢") <= set(value)
    assert len({value for given in host.given for value in given.values()}) == 6


def test_stack_is_well(host):
    stack = Stack(HOST)
    stack.ready()
    assert stack.task_runs() < 30


@pytest.mark.parametrize("container", APPLICATION)
def test_application_has_them_intact(host, container):
    for variable, name in (("SECRET_KEY", NAMES[0]), ("DB_PASSWORD", NAMES[1])):
        printed = host.ssh(f"{AS_USER} podman exec {container} python /app/manage.py envcheck {variable}")
        assert printed.strip() == hashlib.sha256(host.given[-1][name].encode()).hexdigest(), variable


def test_database_and_redis_take_the_new_ones_alone(host):
    """Asked over the network: the new password, the one before, a wrong one, none."""
    database, redis = ([host.given[-1][name], host.given[0][name], "wrong", None] for name in NAMES[1:])
    answer = host.ssh(f"{AS_USER} podman exec -i web-1 python -c {shlex.quote(DOORS)}", json.dumps({"database": database, "redis": redis}))
    assert json.loads(answer) == {"database": ["open", *["refused"] * 3], "redis": ["open", *["refused"] * 3], "told": True}


def test_command_lines_of_processes(host):
    assert len(host.seen) > 200 and any("podman" in line for line in host.seen)
    leaks = [(names, re.sub("[0-9a-f]{10}", "…", line)[:300]) for line in host.seen if (names := secret_names(host.names_in(line)))]
    assert leaks == []
    assert any("control" in host.names_in(line) for line in host.seen), "the sampler missed a process that lived 0.3 s"


def test_output_of_ansible(host):
    assert host.output.count("PLAY RECAP") == 2 and "--- before" in host.output
    lines = [re.sub("[0-9a-f]{10}", "…", line)[:300] for line in host.output.splitlines() if secret_names(host.names_in(line))]
    assert lines == []


def test_podman_inspect(found):
    """Nothing but the application's own environment, in its own place."""
    assert set(found["inspect"]) == set(UNITS) - {"nginx"}
    for container, where in found["inspect"].items():
        assert where["rest"] == [], container
        expected = [f"{name} 2" for name in sorted(NAMES)] if container in APPLICATION else []
        assert where["environment"] == sorted(expected), container


def test_environment_of_processes_in_containers(found):
    """Neither server has the application's password: Redis has its hash, and redis-cli there logs in as another user."""
    assert found["environment"]["postgres"] == found["environment"]["redis"] == []


def test_journal(found):
    assert found["journal_bytes"] > 100_000
    assert found["journal"]["control"] > 0
    assert found["journal"]["leaks"] == []


def test_units_as_systemd_has_them(found):
    assert found["units"] == []


def test_files(found):
    """The .env alone, besides the closed storage of Podman and its run-time directory."""
    assert any(hit["path"] == "/etc/senex-control" and hit["open"] for hit in found["files"])
    hits = [hit for hit in found["files"] if secret_names(hit["names"])]
    assert [hit for hit in hits if hit["open"]] == []
    places = {hit["path"]: hit["mode"] for hit in hits if not hit["path"].startswith((f"{HOME}/.local/share/containers/", f"/run/user/{UID}/"))}
    assert places == {ENVIRONMENT_FILE: "0o600"}
    assert {name for hit in hits if hit["path"] == ENVIRONMENT_FILE for name in hit["names"]} == {f"{name} 2" for name in NAMES}


def test_podmans_storage_is_closed(found):
    assert found["storage_open"] == []


def test_machine_that_drives_keeps_no_copy(host):
    """Ansible's temporary files are gone, and what the test wrote itself is its own."""
    temporary = Path(os.environ.get("HOME", "/root"), ".ansible", "tmp")
    told = []
    # Other runs on the same machine clear their own files away meanwhile: os.walk passes over a directory that is gone, Path.rglob does not
    for path in (Path(directory, name) for directory, _, names in os.walk(temporary) for name in names):
        with suppress(FileNotFoundError):
            if path.is_file() and secret_names(host.names_in(path.read_text(encoding="utf-8", errors="replace"))):
                told.append(str(path))
    assert told == []
