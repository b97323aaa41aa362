"""A virtual machine, for a container of the lab has no memory of its own to limit: the stack's host as the snapshot kept it, with its database and Redis."""

import re
import subprocess

import pytest
from stack import AS_USER, LAB, LAB_DIRECTORY, UID, Stack

NAME, MEMORY_MB = "memory", 2048
# The firewall and what looks at logs stay off, for each costs half a minute and is no matter here
INPUTS = {
    "common_firewall_enabled": False,
    "common_fail2ban_enabled": False,
    "common_unattended_upgrades_enabled": False,
    "common_swap_mb": 256,
}  # fmt: skip
SLICE = f"/sys/fs/cgroup/user.slice/user-{UID}.slice/user@{UID}.service"


class Machine(Stack):
    """Reached through a port of loopback; emulated, so everything takes its time."""

    def __init__(self, port):
        self.name, self.port, self.address = NAME, port, "127.0.0.1"
        self.options = ["-i", f"{LAB_DIRECTORY}/ssh/id_ed25519", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
                        "-o", "LogLevel=ERROR", "-o", "BatchMode=yes", "-o", "ConnectTimeout=60",
                        "-o", "ControlMaster=auto", "-o", f"ControlPath={LAB_DIRECTORY}/ssh/%C", "-o", "ControlPersist=120"]  # fmt: skip

    def ssh_command(self, script):
        return ["ssh", *self.options, "-p", self.port, "root@127.0.0.1", script]

    def ssh(self, script, timeout=300):
        return super().ssh(script, timeout)

    def sh(self, script, timeout=300):
        return super().sh(script, timeout)

    def limits(self, unit):
        """{name: bytes} that the kernel has for a unit of the service user."""
        place = self.sh(f"{AS_USER} systemctl --user show --property ControlGroup --value {unit}").strip()
        names = ("max", "high", "swap.max")
        return dict(zip(names, self.sh(f"cd /sys/fs/cgroup{place} && cat {' '.join(f'memory.{name}' for name in names)}").split(), strict=True))

    def killed(self, unit):
        """How often the kernel ended a process of a unit for want of memory."""
        place = self.sh(f"{AS_USER} systemctl --user show --property ControlGroup --value {unit}").strip()
        return int(re.search(r"^oom_kill (\d+)$", self.sh(f"cat /sys/fs/cgroup{place}/memory.events"), flags=re.MULTILINE)[1])

    def memory_mb(self):
        return int(self.sh("awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo"))


@pytest.fixture(scope="session")
def machine():
    """Up, and left to nobody."""
    try:
        for words in (["snapshot", "stack"], ["machine", NAME, "--from", "stack", "--memory", str(MEMORY_MB), "--parts", "postgres,redis"]):
            done = subprocess.run([LAB, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900, check=False)
            assert done.returncode == 0, done.stdout + done.stderr[-4000:]
        yield Machine(done.stdout.split()[-1])
    finally:
        subprocess.run([LAB, "machine-down", NAME], capture_output=True, check=False)


@pytest.fixture(scope="session")
def converged(machine):
    """The snapshot is of a larger host: the next run sees the memory of this one."""
    variables = {"ansible_port": int(machine.port), "ansible_timeout": 120, **INPUTS}
    machine.play(tags="common,postgresql,redis", variables=variables, timeout=1200).expect()
    return machine
