"""docs/operations/hardening.md says of every container what its unit says."""

import pathlib
import re

import pytest
from test_rendered_units import containers, units_of

PAGE = (pathlib.Path(__file__).parents[2] / "docs/operations/hardening.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `([a-z-]+)` \| (\d+) \| (\w+) \| (\w+) \| ([a-z-]+) \| (.*) \|$", re.MULTILINE)
ROWS = {row[0]: (*row[1:5], sorted(re.findall(r"`([^`]+)`", row[5]))) for row in ROW.findall(PAGE)}


def family(name):
    """web-2.container is one of `web`, celery-worker-next.container one of `celery-worker`."""
    return next((row for row in sorted(ROWS, key=len, reverse=True) if re.fullmatch(rf"{row}(-\w+)?", name.removesuffix(".container"))), None)


def told(text):
    """A row from a unit."""
    values = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
        values.setdefault(key, []).append(value)
    writable = [volume.split(":")[1] for volume in values["Volume"] if not volume.endswith(":ro")] + [mount.split(":")[0] for mount in values["Tmpfs"]]
    return (
        *values["User"],
        "none" if values["DropCapability"] == ["all"] and "AddCapability" not in values else "some",
        "no" if values["NoNewPrivileges"] == ["true"] else "yes",
        "read-only" if values.get("ReadOnly") == ["true"] else "writable",
        sorted(writable),
    )


@pytest.fixture(scope="module")
def units():
    return containers(units_of({"celery_flower_enabled": True, "senex_redis_cache_instance": True}))


def test_every_container_has_a_row_that_says_what_its_unit_says(units):
    assert {name: told(text) for name, text in units.items()} == {name: ROWS.get(family(name)) for name in units}


def test_every_row_is_of_a_container(units):
    assert {family(name) for name in units} == set(ROWS)
