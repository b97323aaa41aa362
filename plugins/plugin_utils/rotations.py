"""How far the rotations of a vault are, as a host is told of it: moments and stages, and no value. A host keeps it (module_utils/host/rotation_mark.py)."""

from __future__ import annotations

import datetime

STAGES = ("accept", "use", "refuse", "done")
FORM = "%Y-%m-%dT%H:%M:%SZ"


def at(text: object) -> datetime.datetime | None:
    """A moment in one of the ways in which vault, dumps and restores write it; None for what is none."""
    try:
        found = datetime.datetime.fromisoformat(str(text).replace(" UTC", "+00:00"))
    except ValueError:
        return None
    return found if found.tzinfo else None


def later(now: str, last: object) -> str:
    """This moment, or the second after the last one where the clock of this controller is behind that of the one before it: moments tell what is newer."""
    moment, before = at(now), at(last)
    return (before + datetime.timedelta(seconds=1)).astimezone(datetime.UTC).strftime(FORM) if moment and before and moment <= before else now


def states(under_way: dict | None, ended: dict | None) -> dict[str, list]:
    """For each secret that was rotated: the moment, and the number of the stage. What is read again beside the value of now is no newer vault."""
    found = {str(name): (at(moment), len(STAGES) - 1) for name, moment in (ended or {}).items()}
    found |= {
        str(name): (at(entry.get("back") or entry.get("since")), STAGES.index(entry["stage"]))
        for name, entry in (under_way or {}).items()
        if not entry.get("again") and entry.get("stage") in STAGES
    }
    return {name: [moment.astimezone(datetime.UTC).strftime(FORM), stage] for name, (moment, stage) in found.items() if moment}
