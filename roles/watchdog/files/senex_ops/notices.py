"""What is told to people: a problem once, its end once, all that happens close together as one message."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from senex_host import untrusted

from .findings import FAIL, OK, Finding

HOUR = 3600
MOST = 20  # lines of a kind in a message: what the service user can bring about again and again pushes nothing else out of it


@dataclass
class Open:
    """A problem that goes on."""

    level: str
    says: str
    do: str
    since: float
    told: float | None = None  # None: not yet
    seen: int = 1


@dataclass
class Notices:
    """Takes findings, gives messages. Times are seconds since the epoch, for they outlive the process."""

    digest: float
    gap: float
    reminder: float
    per_hour: int = 6
    open: dict[str, Open] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    waiting_since: float | None = None
    sent: list[float] = field(default_factory=list)
    urgent: bool = False
    kinds: dict[str, int] = field(default_factory=dict)  # lines of each kind since the last message

    def finding(self, one: Finding, now: float, needed: int = 1) -> str:
        """Take one finding: `opened`, `closed`, or nothing. It counts when seen `needed` times in a row."""
        known = self.open.get(one.key)
        if one.level == OK:
            if known is None:
                return ""
            del self.open[one.key]
            if known.told is None and known.seen < needed:
                return ""
            self._say(f"OK    {one.key}: {one.says} (was: {known.says}; for {now - known.since:.0f} s)", now, one.key)
            return "closed"
        if known is None:
            known = self.open[one.key] = Open(one.level, one.says, one.do, now)
        else:
            worse = one.level == FAIL != known.level
            known.seen, known.says, known.do, known.level = known.seen + 1, one.says, one.do, one.level
            if known.told is not None and (worse or now - known.told >= self.reminder):
                known.told = now
                self._say(f"{one.level:5} {one.key}: {one.says}{'' if worse else f' (for {(now - known.since) / HOUR:.0f} h)'}. {one.do}", now, one.key)
                return "opened" if worse else ""
        if known.told is None and known.seen >= needed:
            known.told = now
            self._say(f"{one.level:5} {one.key}: {one.says}. What to do: {one.do}", now, one.key)
            return "opened"
        return ""

    def discard_unconfirmed(self) -> None:
        """What was seen and not told yet does not count."""
        self.open = {key: one for key, one in self.open.items() if one.told is not None}

    def event(self, text: str, now: float, urgent: bool = False) -> None:
        """Something the watchdog did, or gave up."""
        self.urgent = self.urgent or urgent
        self._say(text, now)

    def _say(self, line: str, now: float, key: str = "") -> None:
        kind = key.partition(" ")[0]  # of an event none: the watchdog's own restarts have a limit
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        if kind and self.kinds[kind] > MOST:
            return
        # Events are no findings; here all that is told comes by
        self.lines.append(untrusted.printable(line, 2000))
        self.waiting_since = now if self.waiting_since is None else min(self.waiting_since, now)

    def message(self, now: float, hold: bool) -> list[str] | None:
        """The lines of a message that is due. `hold` waits for a restart under way, so that its outcome is in the same one."""
        if self.waiting_since is None:
            return None
        waited = now - self.waiting_since
        self.sent = [moment for moment in self.sent if now - HOUR < moment <= now]
        # More than so many messages an hour is a flood: then one each quarter of an hour
        gap = self.gap if len(self.sent) < self.per_hour else max(self.gap, HOUR / 4)
        if 0 <= waited < self.digest or (hold and 0 <= waited < self.digest + 180) or (self.sent and now - self.sent[-1] < gap and not self.urgent):
            return None
        more = [f"WARN  {kind}: and {count - MOST} more lines like these: senex status" for kind, count in self.kinds.items() if kind and count > MOST]
        lines, self.lines, self.kinds, self.waiting_since, self.urgent = [*self.lines, *more], [], {}, None, False
        self.sent.append(now)
        return lines

    def saved(self) -> dict:
        """What a restart of the watchdog must not lose."""
        return {"open": {key: asdict(one) for key, one in self.open.items()}, "lines": self.lines, "waiting_since": self.waiting_since, "sent": self.sent}

    def load(self, data: dict) -> None:
        """What the process before knew."""
        self.open = {key: Open(**one) for key, one in data.get("open", {}).items()}
        self.lines, self.waiting_since, self.sent = data.get("lines", []), data.get("waiting_since"), data.get("sent", [])


def subject(lines: list[str], environment: str, host: str) -> str:
    """The subject of a message: how bad, where, what."""
    bad = [line for line in lines if not line.startswith("OK")]
    first = (bad or lines)[0].split(". What to do:")[0]
    more = f" (+{len(lines) - 1})" if len(lines) > 1 else ""
    return f"[{environment}] {host}: {' '.join(first.split())[:110]}{more}"
