"""Who this ansible-playbook is to a host's lock, and whether another one of this controller still lives."""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path

from ansible import context


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
    pid = str(holder.get("pid"))
    return bool(machine()) and holder.get("machine") == machine() and pid.isdecimal() and started(int(pid)) != holder.get("started")


def identity() -> dict:
    """The process that all workers of this run have as their parent."""
    pid = os.getppid()
    return {"who": f"{getpass.getuser()}@{socket.gethostname()}", "machine": machine(), "pid": pid, "started": started(pid)}


def own_lock() -> dict:
    """Name of the lock of a run that is no operation by itself, and what it is to a person."""
    given = list((context.CLIARGS or {}).get("args") or [])
    what = os.path.basename(str(given[0])) if given else "a playbook"
    pid = os.getppid()
    return {"id": f"run-{pid}-{started(pid)}", "what": what}
