"""One screen about this host: all checks at once, their findings in order, and an exit status."""

from __future__ import annotations

import collections
import json
import sys
import threading
import time

from . import availability, checks, checks_release, remediation
from .findings import FAIL, OK, WARN, Check, Finding, fail, ok, warn, worst

COLOURS = {OK: "32", WARN: "33", FAIL: "31"}
EXIT = {OK: 0, WARN: 0, FAIL: 2}
SAID = "/run/senex-watchdog/status.json"
RELEASE = "release"  # the check of what is under way
PATIENCE = 150.0  # seconds for all checks together


def read_watchdog(host, config) -> dict:
    """Is the watchdog itself there, and what does it say of itself?"""
    state = host.units("system", ["senex-watchdog.service"]).get("senex-watchdog.service", {})
    said: dict = {}
    if state.get("ActiveState") == "active":
        with open(SAID, encoding="utf-8") as handle:
            said = json.load(handle)
        # Of this very moment: the watchdog writes down what it knows each five seconds
        said["paused_until"] = remediation.paused_until(time.time())
    return {"state": state.get("ActiveState", "unknown"), "said": said}


def judge_watchdog(data: dict, config, now: float) -> list[Finding]:
    """It runs, is not paused, and what it says goes out."""
    said = data["said"]
    if data["state"] != "active":
        return [fail("watchdog", f"is {data['state']}", "systemctl restart senex-watchdog; journalctl -u senex-watchdog -n 30")]
    if now - said.get("at", 0) > 60:
        return [fail("watchdog", "has not said anything for a minute", "systemctl restart senex-watchdog")]
    if said.get("paused_until", 0) > now:
        return [warn("watchdog", f"is paused for {(said['paused_until'] - now) / 60:.0f} min", "senex watchdog resume")]
    stuck = [f"{name} ({one['trouble']})" for name, one in said.get("waiting", {}).items() if one["trouble"]]
    if stuck:
        return [warn("watchdog", f"cannot tell anybody by {', '.join(stuck)}", "senex logs watchdog; watchdog_smtp_*, watchdog_webhook_url")]
    count = sum(1 for moments in said.get("restarts", {}).values() for moment in moments if now - moment < 3600)
    return [ok("watchdog", f"watches; {count} restarts within the hour" if count else "watches")]


CHECKS = [*checks.every(), *availability.CHECKS, Check("watchdog", read_watchdog, judge_watchdog)]


def look(host, config, checks: list[Check] | None = None) -> list[tuple[str, Finding]]:
    """Every finding, with the name of its check, in the order of the checks."""
    wanted = [check for check in (CHECKS if checks is None else checks) if check.applies(config)]
    waiting, found = collections.deque(enumerate(wanted)), {}

    def work() -> None:
        while True:
            try:
                number, check = waiting.popleft()
            except IndexError:
                return
            found[number] = check.find(host, config, time.time())

    # Daemons, so that one that never ends keeps nobody waiting
    threads = [threading.Thread(target=work, daemon=True) for _ in range(6)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + PATIENCE
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return caused([(check.name, one) for number, check in enumerate(wanted) for one in found.get(number, unanswered(check.name))], host, config)


def caused(found: list[tuple[str, Finding]], host, config) -> list[tuple[str, Finding]]:
    """An operation that has not come to its end is why other things are as they are: it comes before them, and is no good news beside trouble."""
    if RELEASE in dict(found) and any(one.level == FAIL for name, one in found if name != RELEASE):
        holder, now = checks_release.read_release(host, config), time.time()
        if holder and checks_release.free_in(holder, now) > 0:
            found = [(name, checks_release.unfinished(holder, now) if name == RELEASE else one) for name, one in found]
    return sorted(found, key=lambda row: row[0] != RELEASE or row[1].level == OK)


def unanswered(name: str) -> list[Finding]:
    """In the place of what a check would have said."""
    return [fail(name, f"has not ended within {PATIENCE:.0f} s", "senex doctor; then look at what it names")]


def as_json(found: list[tuple[str, Finding]], config) -> str:
    """For machines."""
    rows = [{"check": name, "key": one.key, "level": one.level, "says": one.says, "do": one.do} for name, one in found]
    level = worst([one for _, one in found])
    return json.dumps({"host": config.host, "environment": config.environment, "at": int(time.time()), "level": level, "findings": rows}, indent=1)


def as_text(found: list[tuple[str, Finding]], config, colour: bool) -> str:
    """For a person: a line a finding, and below what is not well what to do about it."""
    wide = max((len(one.key) for _, one in found), default=0)
    lines = []
    for _, one in found:
        word = f"\033[{COLOURS[one.level]}m{one.level:4}\033[0m" if colour else f"{one.level:4}"
        lines.append(f"{word}  {one.key:{wide}}  {one.says}")
        if one.do:
            lines.append(f"{'':6}{'':{wide}}  -> {one.do}")
    counts = {level: sum(1 for _, one in found if one.level == level) for level in (FAIL, WARN, OK)}
    summary = ", ".join(f"{count} {level}" for level, count in counts.items() if count)
    return "\n".join([f"{config.host} ({config.environment}): {summary}", *lines])


def show(host, config, machine: bool, checks: list[Check] | None = None, only_bad: bool = False) -> int:
    """Look and print; 0 for healthy, 2 for not."""
    found = look(host, config, checks)
    if only_bad:
        found = [(name, one) for name, one in found if one.level != OK]
    print(as_json(found, config) if machine else as_text(found, config, sys.stdout.isatty()))
    return EXIT[worst([one for _, one in found])]
