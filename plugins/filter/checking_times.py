# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""What is wrong with times and spans, as systemd has them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

OFTEN = r"(minute|hour|dai|week|month|year|quarter|annual|(semi|bi)-?annual)ly"
DAY = r"(mon(day)?|tue(sday)?|wed(nesday)?|thu(rsday)?|fri(day)?|sat(urday)?|sun(day)?)"
PART = r"[0-9*][0-9*,./]*"

# Of systemd.time(7): days of the week, a date, a time; one at least, and a zone behind it
CALENDAR = re.compile(
    rf"({OFTEN}|@[0-9.]+|(?=\S)({DAY}((,|\.\.|-){DAY})*,?(\s+|$))?({PART}([-~]{PART}){{1,2}}(\s+|$))?(?P<time>{PART}(:{PART}){{1,2}})?)(\s+[a-z][a-z0-9_+/-]*)?\s*",
    re.IGNORECASE,
)


def is_time(value: str) -> bool:
    """Whether systemd takes it for OnCalendar=. It has the last word on the host; what it would refuse in the middle of a run ends it here."""
    found = CALENDAR.fullmatch(value)
    if not found or re.search(r"[\r\n]", value):
        return False
    for part, most in zip((found["time"] or "").split(":"), (23, 59, 59), strict=False):
        if any(int(number) > most for one in part.split(",") for number in re.findall(r"(?<![0-9/.])[0-9]+|(?<=\.\.)[0-9]+", one)):
            return False
    return True


def schedule_problems(values: Mapping[str, Any]) -> list[str]:
    """One line for each value that is no time of a timer."""
    said = "is no time as systemd knows it, such as *-*-* 03:30:00 UTC"
    return [f"{name}: '{value}' {said}" for name, value in values.items() if not is_time(str(value))]


def odd_overrides(overrides: Mapping[str, Any], jobs: Mapping[str, Any]) -> list[str]:
    """One line for each entry of backup_overrides that role backup cannot use."""
    found = []
    for job, given in overrides.items():
        if job not in jobs:
            found.append(f"backup_overrides: {job} is no job without inputs of its own; those are {', '.join(jobs) or 'none'}")
        elif not isinstance(given, Mapping) or set(given) - {"schedule", "days", "max_age"}:
            found.append(f"backup_overrides.{job}: {given} is not some of schedule, days and max_age")
        else:
            found += schedule_problems({f"backup_overrides.{job}.schedule": given["schedule"]} if "schedule" in given else {})
            found += [f"backup_overrides.{job}.{name}: {given[name]} must be a whole number above 0" for name in ("days", "max_age")
                      if name in given and not re.fullmatch("[1-9][0-9]*", str(given[name]))]  # fmt: skip
    return found


# Of systemd.time(7)
SPAN_UNIT = r"(usec|us|msec|ms|seconds?|sec|s|minutes?|min|m|hours?|hr|h|days?|d|weeks?|w|months?|M|years?|y)"
SPAN = re.compile(rf"[0-9]+(\.[0-9]+)?( *{SPAN_UNIT})?( *[0-9]+(\.[0-9]+)? *{SPAN_UNIT})*")


def no_spans(values: Mapping[str, Any]) -> list[str]:
    """One line for each value that is no length of time. systemd would leave it out with a line in the journal."""
    said = "is no length of time as systemd knows it, such as 30s or 1min 30s"
    return [f"{name}: '{value}' {said}" for name, value in values.items() if not SPAN.fullmatch(str(value))]


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "schedule_problems": schedule_problems,
            "odd_overrides": odd_overrides,
            "no_spans": no_spans,
        }
