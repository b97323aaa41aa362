"""A virtual machine, for a container of the lab has no memory of its own to limit. The stack's host is given the limits of a small host
while it is a container still, for that is quick, and goes on as the machine, with its database and Redis."""

import os
import re
import subprocess

import pytest
from ansible.plugins.loader import init_plugin_loader
from own_host import stack_on
from stack import AS_USER, LAB, LAB_DIRECTORY, ROOT, Stack

init_plugin_loader([str(ROOT)])  # makes the collection importable

# The smallest host that is promised; kernel and firmware keep some of it
NAME, SOLD_MB, REPORTED_MB = "memory", 2048, 1970


class Machine(Stack):
    """Reached through a port of loopback; emulated, so everything takes its time."""

    def __init__(self, port):
        self.name, self.port, self.address, self.inventory = NAME, port, "127.0.0.1", ROOT / "inventory/demo"
        self.options = ["-i", f"{LAB_DIRECTORY}/ssh/id_ed25519", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
                        "-o", "LogLevel=ERROR", "-o", "BatchMode=yes", "-o", "ConnectTimeout=60", "-o", "ControlMaster=auto",
                        "-o", f"ControlPath={LAB_DIRECTORY}/ssh/%C", "-o", "ControlPersist=120"]  # fmt: skip

    def ssh_command(self, script):
        return ["ssh", *self.options, "-p", self.port, "root@127.0.0.1", script]

    def ssh(self, script, timeout=300):
        return super().ssh(script, timeout)

    def sh(self, script, timeout=300):
        return super().sh(script, timeout)

    def user(self, *argv, timeout=300):
        return super().user(*argv, timeout=timeout)

    def in_cgroup(self, unit, command):
        """What a command says in the directory of a unit of the service user."""
        return self.sh(f"cd /sys/fs/cgroup/$({AS_USER} systemctl --user show --property ControlGroup --value {unit}) && {command}")

    def limits(self, unit):
        """{name: bytes} that the kernel has for a unit."""
        names = ("max", "high", "swap.max")
        return dict(zip(names, self.in_cgroup(unit, f"cat {' '.join(f'memory.{name}' for name in names)}").split(), strict=True))

    def killed(self, unit):
        """How often the kernel ended a process of a unit for want of memory."""
        return int(re.search(r"^oom_kill (\d+)$", self.in_cgroup(unit, "cat memory.events"), flags=re.MULTILINE)[1])


@pytest.fixture(scope="session")
def machine():
    """Up, with the limits of its memory; or the one that is up already, at the port that SENEX_TEST_MACHINE names."""
    if port := os.environ.get("SENEX_TEST_MACHINE"):
        yield Machine(port)
        return
    try:
        for stack in stack_on(NAME):
            stack.play(tags="postgresql,redis,django,celery", variables={"senex_memory_mb": REPORTED_MB}).expect()
            for words in (["stop", stack.name], ["machine", stack.name, "--memory", str(SOLD_MB)]):
                done = subprocess.run([LAB, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900, check=False)
                assert done.returncode == 0, done.stdout + done.stderr[-4000:]
            yield Machine(done.stdout.split()[-1])
    finally:
        subprocess.run([LAB, "machine-down", os.environ.get("SENEX_TEST_HOST", NAME)], capture_output=True, check=False)
