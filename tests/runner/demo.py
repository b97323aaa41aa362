"""The whole stack on a local test host."""

import subprocess
import time

from common import LAB, Failure, call, need, say, seconds
from prepare import lab_directory

CONVERGE = "site.yml, phase 1"
SUMMARY = """
The demo is up: https://demo.senex.test

  in a browser    add "10.203.0.10 demo.senex.test" to /etc/hosts; the certificate is signed by the demo's own CA
  with curl       curl -k --resolve demo.senex.test:443:10.203.0.10 https://demo.senex.test/
  on the host     ssh -F {ssh_config} demo
  remove it       make demo-down

  versions        {versions}
"""

VERSIONS = r"""
. /etc/os-release; printf '%s, ' "$PRETTY_NAME"
podman --version | tr '\n' ','; printf ' '; nginx -v 2>&1 | tr '\n' ','; printf ' images'
cd /; runuser -u senex -- env XDG_RUNTIME_DIR=/run/user/987 podman ps --format '{{.Image}}' |
    sort -u | sed 's#.*5000/# #' | tr -d '\n'
"""


def _steps():
    yield "test host and registry images", [[LAB, "images", "host"], [LAB, "registry"]]
    yield "test host up", [[LAB, "up", "demo"]]
    yield CONVERGE, [["ansible-playbook", "site.yml", "-i", "inventory/demo", "--tags", "phase1"]]


def up():
    """Bring the demo up; {step: seconds}."""
    times = []
    for name, commands in _steps():
        say(f"==== {name}")
        start = time.monotonic()
        for command in commands:
            if call(*command):
                if command[0] != LAB:
                    raise Failure(f"exit code not 0 from: {' '.join(map(str, command))}")
                say("the lab did not come up; once more after a reset")
                need(LAB, "reset")
                if command[1] == "up":
                    need(LAB, "registry")
                need(*command)
        times.append((name, time.monotonic() - start))
    ssh_config = lab_directory() / "ssh" / "config"
    versions = subprocess.run(
        ["ssh", "-F", ssh_config, "demo", "sh", "-s"], input=VERSIONS, capture_output=True, text=True, check=False
    ).stdout.strip()
    say(SUMMARY.format(ssh_config=ssh_config, versions=versions))
    for name, wall in times:
        say(f"  {name:32}{seconds(wall):>10}")
    return dict(times)


def down():
    return call(LAB, "down", "demo")
