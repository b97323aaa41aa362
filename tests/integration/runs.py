"""Runs of a playbook that something happens to."""

import contextlib
import os
import signal
import subprocess
import time

from stack import ROOT

# A connection that is gone is noticed after six seconds instead of a minute, and not tried again
IMPATIENT = {
    "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=60s -o ServerAliveInterval=2 -o ServerAliveCountMax=3",
    "ANSIBLE_SSH_RETRIES": "0",
    "ANSIBLE_TIMEOUT": "5",
}


class Run:
    """One run of a playbook in a process group of its own."""

    def __init__(self, command, variables):
        self.begin = time.monotonic()
        self.process = subprocess.Popen(command, cwd=ROOT, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        text=True, start_new_session=True)  # fmt: skip

    def signal(self, number):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def end(self, timeout=400):
        try:
            self.output = self.process.communicate(timeout=timeout)[0]
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            self.output = self.process.communicate()[0]
            raise AssertionError(f"not at its end after {timeout} s: {self.output[-3000:]}") from None
        self.code, self.wall = self.process.returncode, time.monotonic() - self.begin
        self.said = " ".join(self.output.split())
        return self

    def expect(self):
        assert self.code == 0, f"exit {self.code}: {self.output[-6000:]}"
        return self
