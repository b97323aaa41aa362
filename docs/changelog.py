#!/usr/bin/env python3
"""Moves the fragments of changelogs/fragments to the end of their sections below the newest heading of CHANGELOG.md."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
CHANGELOG, PLACE = ROOT / "CHANGELOG.md", ROOT / "changelogs"


def sections() -> dict[str, str]:
    """Name in a fragment -> heading, in their order."""
    return dict(yaml.safe_load((PLACE / "config.yaml").read_text(encoding="utf-8"))["sections"])


def fragments() -> list[Path]:
    """All that are there; names that begin with a dot are none."""
    return sorted(path for path in (PLACE / "fragments").glob("*.y*ml") if not path.name.startswith("."))


def collected(changelog: str, entries: list[dict]) -> str:
    """The changelog with these entries."""
    whole = re.split(r"(?m)^(?=## )", changelog)
    newest = re.split(r"(?m)^(?=### )", whole[1])
    for name, heading in sections().items():
        lines = "".join(f"- {line}\n" for entry in entries for line in entry.get(name, []))
        if not lines:
            continue
        at = next((number for number, part in enumerate(newest) if part.startswith(f"### {heading}\n")), None)
        if at is None:
            order = list(sections().values())
            before = [number for number, part in enumerate(newest) if part[4:].partition("\n")[0] not in order[order.index(heading) :]]
            at = before[-1] + 1
            newest.insert(at, f"### {heading}\n")
            newest[at - 1] = newest[at - 1].rstrip("\n") + "\n\n"
        newest[at] = newest[at].rstrip("\n") + f"\n{lines}\n"
    whole[1] = "".join(newest)
    return "".join(whole).rstrip("\n") + "\n"


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()  # whoever asks for help, or misspells something, has moved nothing
    found = fragments()
    entries = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in found]
    CHANGELOG.write_text(collected(CHANGELOG.read_text(encoding="utf-8"), entries), encoding="utf-8")
    for path in found:
        path.unlink()
