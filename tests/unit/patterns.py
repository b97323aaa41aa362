"""Plays as Ansible has them when it knows their hosts."""

import functools
import re

import yaml
from ansible_collections.senex.trader.plugins.plugin_utils.components import hosts_pattern
from controller import ROOT

DERIVED = re.compile(r"""\{\{ lookup\('senex\.trader\.component_hosts'((?:, '\w+')*)\) \}\}""")


def pattern(hosts):
    """The groups that a play names, or that the registry of components has for it."""
    return DERIVED.sub(lambda found: hosts_pattern(*re.findall(r"'(\w+)'", found[1])), hosts)


@functools.cache
def whole(name):
    """All plays of a playbook, those too that it imports."""
    found = yaml.safe_load((ROOT / f"playbooks/{name}.yml").read_text())
    return [{**play, "hosts": pattern(play["hosts"])} if "hosts" in play else play for play in found]


def plays(name):
    """Those with hosts."""
    return [play for play in whole(name) if "hosts" in play]


# Playbooks that run whole: parts of others are no playbooks of their own, and site.yml is run in parts
WHOLE = sorted({path.stem for path in (ROOT / "playbooks").glob("*.yml")} - {"validate", "release", "rotate_stage", "require_hosts", "site"})
