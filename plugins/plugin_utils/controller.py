"""The run of Ansible that works here, as a lock on a host names it: so that another run can tell whether it still lives."""

from __future__ import annotations

import functools
import getpass
import json
import os
import socket
from pathlib import Path

import yaml
from ansible import context
from ansible.module_utils.parsing.convert_bool import boolean

COLLECTION = Path(__file__).parents[2]


def machine() -> str:
    """What tells this boot of this machine from every other; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def namespace() -> str:
    """What tells the processes that are seen here from those of other containers on the same machine; empty where nobody says."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def started(pid: int) -> str:
    """When a process began, in ticks of the system; empty when that is not shown. A pid alone may be somebody else's by now."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def identity() -> dict:
    """Who runs this."""
    pid = os.getppid()  # a worker's parent is ansible-playbook itself
    who = f"{getpass.getuser()}@{socket.gethostname()}"
    return {"who": who, "machine": machine(), "namespace": namespace(), "pid": pid, "started": started(pid)}


def dead(holder: dict) -> bool:
    """Whether the holder ran on this controller and does not any more.

    Only one that would be seen if it lived can be called dead; any other is waited for until its lease ends.
    """
    here = (machine(), namespace())
    if not all(here) or (holder.get("machine"), holder.get("namespace")) != here:
        return False
    try:
        pid = int(holder.get("pid") or 0)
        if pid <= 0:
            return False
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # another user's
    except (OverflowError, TypeError, ValueError):
        return False
    now = started(pid)  # where /proc hides what others run, nothing
    return bool(now and holder.get("started")) and now != holder["started"]


def run_name() -> str:
    """This run and no other."""
    return "{machine} {namespace} {pid} {started}".format(**identity())


def operation(task_vars: dict) -> str:
    """The id under which this run has the lock of the host, empty without one. A cache of facts may remember an earlier run's."""
    held = (task_vars.get("ansible_facts") or {}).get("senex_operation") or {}
    return str(held["id"]) if held.get("id") and held.get("run") == run_name() else ""


def own_lock() -> dict:
    """Name of the lock of a run that is no operation by itself, and what it is to a person."""
    given = list((context.CLIARGS or {}).get("args") or [])
    what = os.path.basename(str(given[0])) if given else "a playbook"
    pid = os.getppid()
    return {"id": f"run-{pid}-{started(pid)}", "what": what}


@functools.cache
def version() -> str:
    """This collection's version: of galaxy.yml, or of what Galaxy makes of it in an archive."""
    try:
        found = yaml.safe_load((COLLECTION / "galaxy.yml").read_text(encoding="utf-8"))
    except FileNotFoundError:
        found = json.loads((COLLECTION / "MANIFEST.json").read_text(encoding="utf-8"))["collection_info"]
    return str(found["version"])


def collection(downgrade: object, vault: dict | None = None) -> dict:
    """What a host is told of the collection that is about to change it, and of its vault; `downgrade` is the value of senex_allow_downgrade."""
    return {"version": version(), "downgrade": boolean(downgrade, strict=False), **({"vault": vault} if vault else {})}
