"""The commands that docs/operating.md gives to the person on call work as written."""

import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[3] / "docs" / "operating.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\| [^|]+ \| `([^`]+)`", TEXT, flags=re.MULTILINE)
HARMLESS = [command for command in COMMANDS if not re.search(r"restart|touch|^…|linger", command)]


def test_the_table_was_found():
    assert len(HARMLESS) >= 6


@pytest.mark.parametrize("command", HARMLESS)
def test_command_works_as_written(stack, command):
    result = stack.ssh(command)
    assert result.returncode == 0, result.stderr
    assert (result.stdout + result.stderr).strip()
