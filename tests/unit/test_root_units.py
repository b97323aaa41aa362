"""No unit of root's has all of root's capabilities, or may gain more."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Units of this collection; of packages' units the one that visitors talk to
DEST = re.compile(r"src: (\S+), dest: \"?/etc/systemd/system/(?:[^/,}\"]*\.service\b(?!\.d)|nginx\.service\.d/)")
MUST = ["CapabilityBoundingSet=", "NoNewPrivileges=yes", "ProtectKernelModules=yes", "ProtectControlGroups=yes", "SystemCallFilter=@system-service"]


def templates():
    found = {}
    for variables in ROOT.glob("roles/*/vars/main.yml"):
        for name in DEST.findall(variables.read_text()):
            found[f"{variables.parents[1].name}/{name}"] = variables.parents[1] / "templates" / name
    return found


def test_units_are_found():
    assert {"common/senex-logins.service.j2", "nginx/logs.service.j2", "nginx/nginx.service.conf.j2", "watchdog/senex-watchdog.service.j2"} <= set(templates())


@pytest.mark.parametrize("name", templates())
def test_a_unit_of_roots_is_confined(name):
    text = templates()[name].read_text()
    assert not [line for line in MUST if f"\n{line}" not in text], text
