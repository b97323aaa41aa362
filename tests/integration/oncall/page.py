"""docs/operations/runbook.md as a program reads it: situations, and what to type in each."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[3] / "docs/operations/runbook.md"


def situations():
    """{situation: commands}."""
    rows = re.findall(r"^\| \*\*(.+?)\*\* \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {title: [part.strip().strip("`") for part in text.split(" · ")] for title, text in rows}
