"""The commands that docs give to the person on call work as written."""

import re
from pathlib import Path

import pytest
from stack import DOMAIN

DOCS = Path(__file__).parents[3] / "docs"
TEXT = (DOCS / "operations/operating.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\| [^|]+ \| `([^`]+)`", TEXT, flags=re.MULTILINE)
HARMLESS = [command for command in COMMANDS if not re.search(r"restart|touch|^…|linger", command)]


def test_the_table_was_found():
    assert len(HARMLESS) >= 6


@pytest.mark.parametrize("command", HARMLESS)
def test_command_works_as_written(stack, command):
    result = stack.ssh(command)
    assert result.returncode == 0, result.stderr
    assert (result.stdout + result.stderr).strip()


BLOCKS = [
    (page, command.partition("  #")[0].strip())
    for page in ("application", "celery", "postgresql", "redis")
    for command in re.findall(r"^ {4}((?:senex|systemctl|curl) .+)$", (DOCS / f"user/{page}.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
]


# What a command says where there is nothing for it to do, on a host that is well and has no Redis for the cache alone
OTHERWISE = {
    "senex shell redis-cache": (1, "there is no part 'redis-cache'"),
    "senex redis check": (1, "Redis runs, so its files are good enough"),
    "senex redis repair": (1, "Redis runs, so its files are good enough"),
    "systemctl --user -M senex@ status 'web-*' release": (3, "release.service"),  # systemctl(1): a unit that has done its work is not active
}


def test_every_page_has_commands():
    assert {page for page, _ in BLOCKS} == {"application", "celery", "postgresql", "redis"}


@pytest.mark.parametrize(("page", "command"), BLOCKS)
def test_command_of_a_block_works_as_written(stack, page, command):
    result = stack.ssh(command.replace("-A APP", "-A demo").replace("www.example.com", DOMAIN) + " </dev/null")
    code, says = next((found for begin, found in OTHERWISE.items() if command.startswith(begin)), (0, ""))
    assert (result.returncode, says in result.stdout + result.stderr) == (code, True), result.stdout + result.stderr


def test_a_command_with_a_mistake_leaves_nothing_behind(stack):
    """Typed twice: as the table has it, and by the command `senex`."""
    for command in (next(one for one in COMMANDS if "psql" in one), "senex psql -c 'select 1'"):
        assert stack.ssh(command.replace("select", "selct")).returncode != 0
    failed = "list-units --failed --plain --no-legend"
    assert "run-" not in stack.ssh(f"systemctl --user -M senex@ {failed}; systemctl {failed}").stdout
    assert "unit run-" not in stack.ssh("senex status").stdout
