"""Whether to restart a part, to wait, or to give up and call somebody. No clock and no host of its own."""

from __future__ import annotations

from dataclasses import dataclass, field

HOUR = 3600
WAIT, RESTART, ESCALATE = "wait", "restart", "escalate"
MOVING = ("activating", "deactivating", "reloading")
GONE = "gone"  # no file of it: a playbook took it away, and has not told the watchdog yet


@dataclass
class Part:
    """What is known of one thing that a restart may cure."""

    name: str
    failures: int = 0
    since: float | None = None
    says: str = ""
    restarts: list[float] = field(default_factory=list)
    escalated: bool = False
    quiet_until: float = 0.0

    def passed(self) -> None:
        """A probe was answered."""
        self.failures, self.since, self.says, self.escalated = 0, None, "", False

    def failed(self, now: float, says: str) -> None:
        """A probe was not answered."""
        if now < self.quiet_until:
            return
        self.failures += 1
        self.since = now if self.since is None else self.since
        self.says = says

    def restarted(self, now: float, ended: float) -> None:
        """A restart was done, which was counted when it began; what was asked before its end tells nothing."""
        self.restarts = [*self.restarts[:-1], now]
        self.failures, self.since, self.quiet_until = 0, None, ended


@dataclass(frozen=True)
class Situation:
    """What else is so at the moment."""

    state: str  # ActiveState of the unit that would be restarted, or GONE
    release: bool = False
    paused: bool = False
    starved: bool = False
    maintenance: bool = False


@dataclass(frozen=True)
class Decision:
    """What to do, and why, in words for the log."""

    what: str
    why: str = ""


def pause_after(count: int, pause: float) -> float:
    """Seconds to leave a part alone after its nth restart within the hour: each time twice as long."""
    return pause * 2 ** max(0, count - 1)


def recent(restarts: list[float], now: float) -> list[float]:
    """Those of the last hour."""
    return [moment for moment in restarts if now - HOUR < moment <= now]


def decide(part: Part, now: float, needed: int, restart, situation: Situation) -> Decision:
    """The one rule of restarts. `needed` failures in a row, `restart` the limits of the configuration."""
    if part.failures < needed:
        return Decision(WAIT)
    if situation.starved:
        return Decision(WAIT, "the watchdog itself gets too little of the CPU to judge")
    if situation.release:
        return Decision(WAIT, "a release is under way")
    if situation.maintenance:
        return Decision(WAIT, "a release in maintenance has stopped it: run that release again")
    if situation.paused:
        return Decision(WAIT, "the watchdog is paused")
    if situation.state in MOVING:
        return Decision(WAIT, f"its unit is {situation.state}")
    if situation.state == GONE:
        return Decision(WAIT, "this host has no such unit: when no playbook is under way, run site.yml")
    # A clock that was set back must not hold a restart for ever
    done = recent(part.restarts, now)
    if len(done) >= restart.per_hour:
        return Decision(ESCALATE, f"{len(done)} restarts within the hour did not cure it")
    if done and now < done[-1] + pause_after(len(done), restart.pause):
        return Decision(WAIT, f"restarted {now - done[-1]:.0f} s ago, next at {pause_after(len(done), restart.pause):.0f} s")
    return Decision(RESTART, part.says)
