"""Check of the lock that a release holds, and what it means for the watchdog."""

from __future__ import annotations

import json
import os
import time

from senex_host.host_layout import BOOT, LEASE
from senex_host.host_layout import DEPLOY_LOCK as LOCK

from .findings import Check, Finding, Sample, age, fail, is_number, ok, warn


def read_release(host, config) -> dict | None:
    """Which operation holds the lock. site.yml, which restarts only what it changes and puts back what does not come up, is none."""
    found = read_lock()
    return None if found and found.get("passing") else found


def read_lock() -> dict | None:
    """Who holds the lock; of a damaged file, that it lies there and since when."""
    try:
        with open(LOCK, encoding="utf-8") as handle:
            written = os.fstat(handle.fileno()).st_mtime
            found = json.load(handle)
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not is_number(found.get("renewed")):
        return {"what": "a release whose lock is damaged", "renewed": written}
    return found


def free_in(holder: dict, now: float) -> float:
    """Seconds for which a lock still keeps others out: also after a start of the host, for the controller may go on."""
    return max(0.0, lease(holder) - unrenewed(holder, now))


def left(holder: dict | None, now: float) -> float:
    """Seconds for which a lock still keeps the watchdog from restarts; 0 where there is none, where nobody renewed it, or where the host has started since:
    that start has begun everything anew, and a run that goes on renews it.
    """
    return 0.0 if holder is None or of_before(holder) else free_in(holder, now)


def lease(holder: dict) -> float:
    """Seconds that a lock bears without being renewed."""
    return holder["lease"] if is_number(holder.get("lease")) else LEASE


def of_before(holder: dict) -> bool:
    """Whether a lock was last renewed before the host's last start."""
    return is_number(holder.get("uptime")) and isinstance(holder.get("boot"), str) and holder["boot"] != this_boot()


def unrenewed(holder: dict, now: float) -> float:
    """Seconds since a lock was renewed, as plugins/module_utils/host/release_record.py judges it: by a clock that nobody sets, where the lock has that; one of
    before the host's start is at least as old as that.
    """
    uptime = time.clock_gettime(time.CLOCK_BOOTTIME)
    if of_before(holder):
        return max(now - holder["renewed"], uptime)
    if is_number(holder.get("uptime")) and isinstance(holder.get("boot"), str):
        return max(0.0, uptime - holder["uptime"])
    return max(0.0, now - holder["renewed"])


def this_boot() -> str:
    """As plugins/module_utils/host/release_record.py notes it with a lock: gone after a reboot."""
    try:
        with open(BOOT, encoding="utf-8") as handle:
            return handle.read(100).strip()
    except (OSError, ValueError):
        return ""


def under_way(holder: dict | None, now: float) -> bool:
    """Whether a release goes on, by a lock that is renewed."""
    return left(holder, now) > 0


# By the first word of what an operation calls itself; all others are releases
PLAYBOOKS = {"restore": "restore", "upgrade": "upgrade_postgresql", "rotation": "rotate", "update": "update_images", "data": "checksums", "removal": "remove",
             "rollback": "rollback"}  # fmt: skip


def again(holder: dict) -> str:
    """What whoever began an operation types once more, for it to come to its end."""
    first = str(holder.get("what", "")).partition(" ")[0]
    return f"the same ansible-playbook playbooks/{PLAYBOOKS.get(first, 'deploy')}.yml … again takes its lock over and comes to an end"


def unfinished(holder: dict, now: float) -> Finding:
    """An operation that is not over, where something on this host does not serve: by all that is known here it may go on, or have been killed."""
    what = f"{holder.get('what', 'a release')} by {holder.get('who', 'somebody')} has not come to its end"
    says = f"{what}: at '{holder.get('step', '?')}', last seen {age(unrenewed(holder, now))} ago. What it has stopped stays so until then"
    do = f"where it still runs, wait for its end; where it was ended, {again(holder)} (from another machine with -e release_take_over=true)"
    return fail("release", says, do)


def judge_release(data: dict | None, config, now: float) -> list[Finding]:
    """No release, one under way, or the lock of a dead one."""
    if data is None:
        return [ok("release", "none under way")]
    what = f"{data.get('what', 'a release')} by {data.get('who', 'somebody')}, at '{data.get('step', '?')}'"
    if under_way(data, now):
        return [ok("release", f"under way: {what}; nothing is restarted meanwhile")]
    old = unrenewed(data, now)
    cut = f", cut off by a start of this host {age(time.clock_gettime(time.CLOCK_BOOTTIME))} ago" if of_before(data) else ""
    if cut and lease(data) > old:
        free = age(lease(data) - old)
        says = f"{what}{cut}, last renewed {age(old)} ago; whether it goes on elsewhere is not known here. Its lock keeps others out for another {free}"
        do = "where its machine still runs it, wait for its end; where not, run the same command again, with -e release_take_over=true from another machine"
        return [warn("release", says, do)]
    return [fail("release", f"its lock is stale, last renewed {age(old)} ago: {what}{cut}", f"{again(data)}; senex releases says what else was done here")]


def measure_release(data: dict | None, now: float) -> list[Sample]:
    """Whether one goes on."""
    return [Sample("release_under_way", under_way(data, now))]


CHECKS = [Check("release", read_release, judge_release, interval=lambda probe: min(10, probe.slow_interval), measure=measure_release)]
