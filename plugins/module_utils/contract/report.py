"""What a check of an image found, and how it is said."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ansible_collections.senex.trader.plugins.module_utils.host import untrusted

PASSED, FAILED, SKIPPED = "passed", "failed", "not applicable"


@dataclass(frozen=True)
class Finding:
    """One point: what was seen, and what to change where it failed. The image's own words are among it, so each is one printable line."""

    state: str
    says: str
    do: str = ""
    point: str = ""

    def __post_init__(self) -> None:
        for name in ("says", "do"):
            object.__setattr__(self, name, untrusted.plain(getattr(self, name), 1000))


def passed(says: str) -> Finding:
    """The point is met."""
    return Finding(PASSED, says)


def failed(says: str, do: str) -> Finding:
    """It is not, and what would meet it."""
    return Finding(FAILED, says, do)


def skipped(says: str) -> Finding:
    """It cannot be told of this image, or it is none of its points."""
    return Finding(SKIPPED, says)


def lines(findings: list[Finding]) -> list[str]:
    """One line a point, and below what failed what to change."""
    width = max((len(found.point) for found in findings), default=0)
    said = []
    for found in findings:
        said.append(f"{found.state:<14}  {found.point:<{width}}  {found.says}")
        said += [f"{'':<14}  {'':<{width}}  change: {found.do}"] if found.do else []
    return said


def summary(image: str, findings: list[Finding]) -> str:
    """The last line."""
    counts = {state: sum(found.state == state for found in findings) for state in (PASSED, FAILED, SKIPPED)}
    names = [found.point for found in findings if found.state == FAILED]
    return f"{image}: {', '.join(f'{count} {state}' for state, count in counts.items())}" + (f" ({', '.join(names)})" if names else "")


def as_dictionaries(findings: list[Finding]) -> list[dict]:
    """For the answer of the module."""
    return [asdict(found) for found in findings]
