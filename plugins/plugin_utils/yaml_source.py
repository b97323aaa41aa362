"""Numbers and times that are not what somebody wrote: 0123 is read as 83, 1.10 as 1.1, 1:30 as 90, 2026-01-01T10:00:00Z with a space."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Any

try:  # from ansible-core 2.19 on; before it, a number does not know where it was written
    from ansible._internal._datatag._tags import Origin
except ImportError:
    Origin = None

QUOTE = "is an unquoted number that is not read as it is written; put it in quotes"


def written(value: Any) -> str | None:
    """How a number stands in its file; None where that is not known."""
    origin = Origin.get_tag(value) if Origin else None
    if origin is None or not origin.path or not origin.line_num or not origin.col_num:
        return None
    try:
        lines = Path(origin.path).read_text(encoding="utf-8").splitlines()
        found = re.match(r"[^\s,\]}#]+", lines[origin.line_num - 1][origin.col_num - 1 :])
    except (OSError, UnicodeDecodeError, IndexError):
        return None
    # Of a template's result the template's place is known
    if lines[0].startswith("$ANSIBLE_VAULT") or not found or not re.match(r"[-+.\d]", found.group()):
        return None
    return found.group()


def misread(value: Any) -> str | None:
    """What is wrong with a number or a time. Without its source an integer passes; a decimal does not, as its last zeros may be gone."""
    if isinstance(value, datetime.datetime):  # a date alone is read as it is written
        return QUOTE.replace("number", "time")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    source = written(value)
    if source is None:
        return QUOTE if isinstance(value, float) else None
    return None if source == str(value) else QUOTE
