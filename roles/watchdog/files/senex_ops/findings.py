"""What a check finds: a level, a sentence, and what to do about it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field

from senex_host import untrusted

OK, WARN, FAIL = "OK", "WARN", "FAIL"
MOST = 20  # findings of a kind
RANK = {OK: 0, WARN: 1, FAIL: 2}


@dataclass(frozen=True)
class Finding:
    """One line of a status page. `key` stays the same for as long as the trouble does. Whoever's words they are, each is one printable line."""

    key: str
    level: str
    says: str
    do: str = ""

    def __post_init__(self) -> None:
        """The one place where text becomes a finding, so it is cleaned here."""
        for name, most in (("key", 150), ("says", 1000), ("do", 500)):
            object.__setattr__(self, name, untrusted.plain(getattr(self, name), most))


def named(text: str) -> str:
    """A name for a command that root may paste; a stand-in for what is no name."""
    return shlex.quote(text) if re.fullmatch(r"[A-Za-z0-9@:._\\][A-Za-z0-9@:._\\-]*", text) else "NAME"


def ok(key: str, says: str) -> Finding:
    """All well."""
    return Finding(key, OK, says)


def warn(key: str, says: str, do: str) -> Finding:
    """Not yet trouble."""
    return Finding(key, WARN, says, do)


def fail(key: str, says: str, do: str) -> Finding:
    """Trouble."""
    return Finding(key, FAIL, says, do)


@dataclass(frozen=True)
class Sample:
    """A figure for whoever keeps figures. Labels hold whatever a reading has for a name."""

    name: str
    value: float
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """A reading of the host, and what is to be thought of it. Only `read` touches anything."""

    name: str
    read: Callable
    judge: Callable
    applies: Callable = staticmethod(lambda config: True)
    interval: Callable = staticmethod(lambda probe: probe.slow_interval)  # seconds between two runs of the watchdog's, by what is configured
    measure: Callable = staticmethod(lambda data, now: [])  # what of a reading is a figure

    def look(self, host, config, now: float) -> tuple[list[Finding], list[Sample]]:
        """Read once, judge and measure; what cannot be read is a finding too, and no figure."""
        try:
            data = self.read(host, config)
            return self.judge(data, config, now), self.measure(data, now)
        except Exception as error:  # a check that breaks must neither end the watchdog nor pass for good news
            reason = str(error) or type(error).__name__
            return [fail(self.name, f"cannot be read: {reason}", "senex doctor; then look at what it names")], []

    def find(self, host, config, now: float) -> list[Finding]:
        """What is to be thought of it alone."""
        return self.look(host, config, now)[0]


def few(found: list[Finding], key: str, do: str) -> list[Finding]:
    """Of what the service user can have any number of, so many as a message bears: a flood of them must not push all else out of it."""
    more = len(found) - MOST
    return found if more <= 0 else [*found[:MOST], fail(key, f"and {more} more", do)]


def worst(findings: list[Finding]) -> str:
    """The highest level of all."""
    return max((one.level for one in findings), key=RANK.get, default=OK)


def is_number(value: object) -> bool:
    """One that can be reckoned with and shown."""
    return type(value) in (int, float) and abs(value) < 1e15


def age(seconds: float) -> str:
    """A duration for a person."""
    for size, word in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {word}"
    return f"{seconds:.0f} s"


def size(count: float) -> str:
    """Bytes for a person."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}"
        count /= 1000
    return ""
