"""Controller side of senex.trader.release: says who releases, and knows whether another release of this controller is dead."""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path

from ansible.plugins.action import ActionBase


def machine() -> str:
    """What tells this boot of this machine from every other; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def started(pid: int) -> str:
    """When a process began, in ticks of the system; empty when there is none. A pid alone may be somebody else's by now."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def dead(holder: dict) -> bool:
    """Whether the holder ran on this controller and does not any more."""
    return bool(machine()) and holder.get("machine") == machine() and started(int(holder.get("pid", 0))) != holder.get("started")


class ActionModule(ActionBase):
    """Adds the identity to `begin`, and takes a dead holder's lock over."""

    def run(self, tmp=None, task_vars=None):
        """See plugins/modules/release.py."""
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if arguments.get("step") != "begin":
            return self._execute_module(module_name="senex.trader.release", module_args=arguments, task_vars=task_vars)
        pid = os.getppid()  # a worker's parent is ansible-playbook itself
        arguments["identity"] = {
            "who": f"{getpass.getuser()}@{socket.gethostname()}",
            "machine": machine(),
            "pid": pid,
            "started": started(pid),
        }
        for _attempt in range(2):
            result = self._execute_module(module_name="senex.trader.release", module_args=arguments, task_vars=task_vars)
            holder = result.get("busy")
            if not holder:
                return result
            if not dead(holder):
                break
            arguments["take_over"] = holder["id"]
        return {"failed": True, "changed": False, "busy": holder, "msg": f"{task_vars['inventory_hostname']}: {result['message']}"}
