"""The whole stack on a local test host."""

import contextlib
import secrets
import subprocess
import sys
import time
from pathlib import Path

from common import LAB, Failure, call, need, say, seconds
from prepare import lab_directory

CONVERGE = "site.yml, phase 1"
SUMMARY = """
The demo is up: https://demo.senex.test

  in a browser    add "10.203.0.10 demo.senex.test" to /etc/hosts; the certificate is signed by the demo's own CA
  log in          https://demo.senex.test/accounts/login/ as demo, password {password}
  with curl       curl -k --resolve demo.senex.test:443:10.203.0.10 https://demo.senex.test/
  on the host     ssh -F {ssh_config} demo
  remove it       make demo-down

  versions        {versions}
"""

VERSIONS = r"""
. /etc/os-release; printf '%s, ' "$PRETTY_NAME"
podman --version | tr '\n' ','; printf ' '; nginx -v 2>&1 | tr '\n' ','; printf ' images'
systemd-run --user -M senex@ --pipe --wait -qG podman ps --format '{{.Image}}' |
    sort -u | sed 's#.*5000/# #' | tr -d '\n'
"""

# The password comes by standard input and goes on by environment, so that no process list shows it
LOGIN = r"""
read -r DEMO_PASSWORD; export DEMO_PASSWORD
systemd-run --user -M senex@ --pipe --wait -qG --setenv=DEMO_PASSWORD podman exec -e DEMO_PASSWORD web-1 python3 manage.py shell -v 0 -c '
import os
from django.contrib.auth import get_user_model
user, made = get_user_model().objects.get_or_create(username="demo", defaults={"is_staff": True, "is_superuser": True})
user.set_password(os.environ["DEMO_PASSWORD"])
user.save()'
"""


def _on_host(script, stdin=""):
    """What a shell script prints on the demo host; its own input follows it."""
    config = lab_directory() / "ssh" / "config"
    return subprocess.run(["ssh", "-F", config, "demo", script], input=stdin, capture_output=True, text=True, check=False)


def _login():
    """A fresh password for the demo's person."""
    password = secrets.token_urlsafe(12)
    result = _on_host(LOGIN, password + "\n")
    if result.returncode:
        raise Failure(f"the demo's login could not be made: {result.stderr.strip()}")
    return password


def _steps():
    yield "test host and registry images", [[LAB, "images", "host"], [LAB, "registry"]]
    yield "test host up", [[LAB, "up", "demo"]]
    yield CONVERGE, [["ansible-playbook", "site.yml", "-i", "inventory/demo", "--tags", "phase1"]]


@contextlib.contextmanager
def held():
    """While the demo's host is this run's. The lab's directory must be known."""
    sys.path.append(str(LAB.parent))
    from shell import LabError, demo_held

    try:
        with demo_held():
            yield
    except LabError as error:
        raise Failure(str(error)) from error


def _others():
    """Hosts that run beside the demo: a reset would take them from whoever works with them. Where the lab does not answer, none do."""
    listed = [LAB, "run", "--", "podman", "ps", "--format", "{{.Pid}} {{.Names}}"]
    done = subprocess.run(listed, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    found = [line.split() for line in done.stdout.splitlines()] if done.returncode == 0 else []
    # Of a container whose processes were killed Podman still says that it runs
    return sorted(name for pid, name in found if name not in ("demo", "registry") and Path("/proc", pid).exists())


def _reset():
    """Recover from what a killed run left."""
    if others := _others():
        raise Failure(f"the lab did not come up, and a reset would remove {', '.join(others)}; when nobody needs them: tests/lab/lab reset")
    say("the lab did not come up; once more after a reset")
    need(LAB, "reset")


def up():
    """Bring the demo up; {step: seconds}."""
    with held():
        return _up()


def _up():
    times = []
    for name, commands in _steps():
        say(f"==== {name}")
        start = time.monotonic()
        for command in commands:
            if call(*command):
                if command[0] != LAB:
                    raise Failure(f"exit code not 0 from: {' '.join(map(str, command))}")
                _reset()
                if command[1] == "up":
                    need(LAB, "registry")
                need(*command)
        times.append((name, time.monotonic() - start))
    versions = _on_host(VERSIONS).stdout.strip()
    say(SUMMARY.format(ssh_config=lab_directory() / "ssh" / "config", versions=versions, password=_login()))
    for name, wall in times:
        say(f"  {name:32}{seconds(wall):>10}")
    return dict(times)


def down():
    with held():
        return call(LAB, "down", "demo")
