"""Who takes part in an operation: which hosts are locked, which --limit is looked at, and that no play under the lock ends the run for all."""

import itertools
import re

import pytest
from ansible_collections.senex.trader.plugins.plugin_utils.components import every_group
from hosts_model import GROUPS, World
from patterns import plays, whole
from test_operations_model_data import EXCHANGES, PARTS


@pytest.mark.parametrize("name", EXCHANGES)
def test_the_lock_is_taken_wherever_something_is_stopped(name):
    """Of the database's host alone, watchdogs of others started the application again."""
    playbook, way_of = EXCHANGES[name]
    for groups in GROUPS.values():
        way = way_of(groups)
        world = World(groups)
        concerned = {host for one in way for host in one["hosts"]}
        locking = next(play for play in plays(playbook) if "Acquire the deploy lock on every host" in str(play["tasks"]))
        assert way[0]["stage"] == "lock" and concerned <= set(way[0]["hosts"]) <= set(world.matched(locking["hosts"])), way
        ending = next(play for play in plays(playbook) if "Release the deploy lock" in str(play["tasks"]))
        assert set(world.matched(locking["hosts"])) == set(world.matched(ending["hosts"]))


def test_a_rotation_locks_every_host_that_it_touches():
    names = set(itertools.chain.from_iterable(PARTS.values()))
    for task in ("Acquire the deploy lock", "Release the deploy lock"):
        (play,) = [play for play in plays("rotate") if task in str(play.get("tasks"))]
        assert set(play["hosts"].split(":")) == names


@pytest.mark.parametrize("name", ["deploy", "rollback", "restore", "upgrade_postgresql", "update_images", "remove", "scale", "checksums", "move"])
def test_a_limit_is_looked_at_before_anything_else(name):
    """By every group that a play of the operation goes to."""
    first, *others = whole(name)
    assert first["ansible.builtin.import_playbook"] == "require_hosts.yml"
    if name in ("deploy", "rollback"):
        others += whole("release")
    groups = {group for play in others if "hosts" in play for group in re.findall(r"[a-z_]+", re.sub(r"\{\{.*?\}\}|\[0\]", "", play["hosts"]))}
    groups -= {"all", "postgresql_primary", "move_source", "move_target"}  # made by the run: of postgresql or redis, the last two while a move is under way
    assert groups <= set(every_group()) and len(groups) >= 3


@pytest.mark.parametrize("name", ["release", "restore", "upgrade_postgresql", "update_images", "checksums"])
def test_no_play_under_the_lock_ends_the_run_for_all(name):
    """any_errors_fatal takes the hosts that are left out of the way back, and of the end that is told."""
    begun = name == "release"
    for play in plays(name):
        begun = begun or "Acquire the deploy lock on every host" in str(play["tasks"])
        assert not (begun and (play.get("any_errors_fatal") or "ignore_unreachable" in str(play))), play["name"]
    assert begun
