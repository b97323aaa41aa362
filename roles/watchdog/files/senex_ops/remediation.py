"""The restarts themselves. Each runs in a thread of its own, for it may take minutes."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from senex_host import host_layout, untrusted

from . import checks_release, decide
from .findings import age

PAUSE = "/var/lib/senex-watchdog/paused"
LONGEST_PAUSE = 86400
NO_CURE = (301, 302, 308, 400, 401, 403, 404)  # answers of a process that lives and is configured wrongly


@dataclass(frozen=True)
class Remediation:
    """What a restart would be of, and how."""

    part: str
    scope: str
    unit: str
    container: str = ""  # killed first, where it answers nothing
    test: tuple[str, ...] = ()  # must succeed before anything is stopped
    needed: int = 3  # failures in a row
    resolver: bool = False  # not the unit, but the resolver of its network
    patience: int = 1  # how many times the failures are needed while it works hard: slow is not hung


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    decision: decide.Decision
    good: bool = False
    seconds: float = 0.0
    said: str = ""


def paused_until(now: float) -> float:
    """Until when `senex watchdog pause` asked for quiet; 0 for not at all. What is over goes, for scale.yml leaves a pause alone that is there."""
    try:
        with open(PAUSE, encoding="utf-8") as handle:
            found = json.load(handle)
        until, begin = float(found["until"]), float(found.get("at", now))
    except OSError:
        return 0.0
    except (ValueError, KeyError, TypeError, AttributeError):
        until, begin = 0.0, now
    # A clock that was set back would make it last; a file that says nothing is none
    if begin - 60 < now < until <= now + LONGEST_PAUSE:
        return until
    with contextlib.suppress(OSError):
        os.unlink(PAUSE)
    return 0.0


def in_maintenance(unit: str, place: str = host_layout.STOPPED_UNITS) -> bool:
    """Whether a release has stopped the unit for its migrations, and has not come to its end: what is started now may meet tables of another release."""
    try:
        with open(place, encoding="utf-8", errors="replace") as handle:
            words = handle.read(1 << 16).split()
    except OSError:
        return False
    return words[:1] == [host_layout.MAINTENANCE] and unit in words


def is_cpu_bound(host, cure: Remediation, seconds: float = 2.0) -> bool:
    """Whether the unit uses most of a core right now."""

    def used() -> int:
        return int(host.systemctl(cure.scope, "show", "--property=CPUUsageNSec", "--value", cure.unit).out.strip() or 0)

    before, began = used(), time.monotonic()
    time.sleep(seconds)
    return (used() - before) / 1e9 > 0.5 * (time.monotonic() - began)


def gone(host, cure: Remediation, seconds: float = 10.0) -> bool:
    """Whether systemd has seen the end of a container that was killed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if host.units(cure.scope, [cure.unit])[cure.unit]["ActiveState"] != "active":
            return True
        time.sleep(0.2)
    return False


def attempt(host, config, part: decide.Part, cure: Remediation, starved: bool, now: float, begun: Callable[[], None] = lambda: None) -> Outcome:
    """Decide with what is so now, and restart where that is the decision. `begun` is called before anything is touched: it writes down that it will be."""
    try:
        found = {"ActiveState": "active"} if cure.resolver else host.units(cure.scope, [cure.unit]).get(cure.unit, {})
        state = decide.GONE if found.get("LoadState") == "not-found" else found.get("ActiveState", "unknown")
        holder = checks_release.read_release(host, config)
    except (OSError, ValueError) as error:
        return Outcome(decide.Decision(decide.WAIT, str(error)))
    situation = decide.Situation(state, checks_release.under_way(holder, now), paused_until(now) > 0, starved, in_maintenance(cure.unit))
    decision = decide.decide(part, now, cure.needed, config.restart, situation)
    if decision.what != decide.RESTART:
        return Outcome(decision)
    if cure.patience > 1 and part.failures < cure.needed * cure.patience and is_cpu_bound(host, cure):
        return Outcome(decide.Decision(decide.WAIT, "it works hard, so it may be slow and not hung"))
    if cure.test:
        tested = host.run("systemd-run", "--quiet", "--pipe", "--wait", "--collect", *cure.test, timeout=30)
        if tested.code:
            return Outcome(decide.Decision(decide.ESCALATE, f"a restart would not start it again: {tested.said}"))
    begun()
    began = time.monotonic()
    try:
        done = cured(host, config, cure, state)
    except Exception as error:  # of a manager that is not root's: the restart was tried, and counts
        return Outcome(decision, False, time.monotonic() - began, untrusted.plain(f"{type(error).__name__}: {error}", 300))
    return Outcome(decision, done.code == 0, time.monotonic() - began, done.said if done.code else "")


def cured(host, config, cure: Remediation, state: str):
    """The restart itself; how it ended."""
    if cure.resolver:
        return host.revive_resolver(config.network, host.unit_image(config.user_units))
    verb = "restart"
    if cure.container and state == "active" and host.kill_container(cure.container).code == 0 and gone(host, cure):
        verb = "start"  # systemd is about to do so by itself; `restart` would stop that start first
    return host.systemctl(cure.scope, verb, cure.unit, timeout=config.restart.timeout)


def told(part: str, says: str, outcome: Outcome) -> str:
    """The restart in a line."""
    if outcome.good:
        return f"DONE  {part}: restarted because: {says}; ready after {age(outcome.seconds)}"
    return f"FAIL  {part}: restarted because: {says}; it did not come up in {age(outcome.seconds)}: {outcome.said}"
