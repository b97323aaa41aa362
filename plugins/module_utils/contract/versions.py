"""Versions of what faces visitors that have known holes. Not a scanner: it knows the packages that this collection puts behind nginx."""

from __future__ import annotations

import re

# package -> (versions below this one [, of the series that begins so], why). The watchdog has those of the servers too, for what runs
BAD = {
    "daphne": [("4.2.2", "", "takes WebSocket messages of any size (CVE-2026-44545), headers out of the values of others (CVE-2026-44546)")],
    "gunicorn": [("22.0.0", "", "lets requests be smuggled past nginx (CVE-2024-1135, CVE-2024-6827)")],
    "uvicorn": [("0.11.7", "", "lets headers be split (CVE-2020-7695)")],
    "django": [
        ("5.2", "", "gets no security fixes any more"),
        ("5.2.11", "5.2", "SQL injection (CVE-2026-1287, CVE-2026-1312), denial of service under ASGI (CVE-2025-14550)"),
        ("6.0.2", "6.0", "SQL injection (CVE-2026-1287, CVE-2026-1312), denial of service under ASGI (CVE-2025-14550)"),
    ],
}


def numbers(version: str) -> tuple[int, ...]:
    """1.2.3 of 1.2.3rc1."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()


def holes(package: str, version: str) -> list[tuple[str, str]]:
    """(first version without it, what it is) of each hole of this version."""
    here = numbers(version)
    return [
        (first, why)
        for first, series, why in BAD.get(package, [])
        if here and here < numbers(first) and (not series or here[: len(numbers(series))] == numbers(series))
    ]
