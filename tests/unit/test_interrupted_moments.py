"""The moments at which tests interrupt an operation are moments that it has: a play, a task, a round."""

import re
import sys

import pytest
import yaml
from ansible_collections.senex.trader.plugins.filter import operations
from controller import ROOT

sys.path[:0] = [str(ROOT / "tests/integration/interrupted")]

import stages  # noqa: E402  (the path above must come first)

PLAYBOOKS = {"deploy": ["release"], "rotate": ["rotate", "rotate_stage"], "restore": ["restore"], "upgrade": ["upgrade_postgresql"]}
GROUPS = {**{name: [stages.ONE] for name in ("postgresql", "postgresql_primary", "redis", "celery", "celery_beat", "nginx")}, "web": list(stages.BOTH)}


def plays(operation):
    found = [play for name in PLAYBOOKS[operation] for play in yaml.safe_load((ROOT / f"playbooks/{name}.yml").read_text())]
    return [play for play in found if "hosts" in play]


def tasks():
    """The name of every task of the roles and playbooks."""
    text = "\n".join(path.read_text(encoding="utf-8") for place in ("roles", "playbooks") for path in (ROOT / place).rglob("*.yml"))
    return re.findall(r"^\s*- name: (.+)$", text, flags=re.MULTILINE)


@pytest.mark.parametrize("operation", stages.STAGES)
def test_every_moment_is_there(operation):
    names, known = {play["name"] for play in plays(operation)}, tasks()
    for moment in stages.moments(operation):
        assert moment.play in names, moment
        assert any(re.search(moment.task, name) for name in known), moment


def test_every_stage_of_the_model_has_a_moment():
    ways = {
        "deploy": operations.release_way(GROUPS, ["undo"]), "restore": operations.restore_way(GROUPS, "postgresql_primary"),
        "upgrade": operations.upgrade_way(GROUPS, "forward"),
    }  # fmt: skip
    for operation, way in ways.items():
        there = {(moment.stage.partition(",")[0], moment.host) for moment in stages.moments(operation)}
        assert {(one["stage"], host) for one in way for host in one["hosts"]} <= there, operation


def test_each_stage_is_once_in_the_short_list():
    short = stages.moments(each_host=False)
    assert len(short) == sum(map(len, stages.STAGES.values())) and set(map(str, short)) < set(map(str, stages.moments()))
