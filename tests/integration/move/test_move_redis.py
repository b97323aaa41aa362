"""Redis moves to another host and back, while numbered tasks are sent, requests go on and WebSockets are open."""

import pytest
from moved_hosts import ONE, TWO
from stack import within
from traffic import Traffic

HELD = 5  # seconds that clients may wait


def masters(pair):
    return [host for host in (ONE, TWO) if "role:master" in pair.redis(host, "info", "replication")]


def test_the_plan_changes_nothing(pair):
    run = pair.move(TWO, "redis").expect()
    assert "Nothing was changed. To carry it out: -e move_confirm=true" in run.said and "changed=0" in run.said
    assert pair.state(ONE, "redis") == {} and pair.state(TWO, "redis") == {} and masters(pair) == [ONE]


def moved(pair, source, target):
    with Traffic(pair.stack, rate=50, sockets=5, tasks_per_second=5) as traffic:
        run = pair.move(target, "redis", move_confirm=True)
    print(run.output[-3000:], traffic.result())
    run.expect()
    assert masters(pair) == [target]
    found = traffic.result()
    assert found.tasks.sent > 100 and not found.tasks.lost and not found.tasks.twice, found.tasks
    assert not found.failures, found.failures[:8]
    within(pair.held(run), HELD, "clients waited")
    assert pair.state(source, "redis")["phase"] == "moved" and "phase" not in pair.state(target, "redis")
    return run


def test_it_moves_while_the_site_serves(pair):
    pair.redis(ONE, "set", "kept", "yes")
    moved(pair, ONE, TWO)
    assert pair.redis(TWO, "get", "kept") == "yes"
    said = pair.sh(ONE, "cd /; systemctl --user -M senex@ start redis.service 2>&1", check=False)
    assert "masked" in said and masters(pair) == [TWO]
    assert "appendonlydir" in pair.sh(ONE, "ls /opt/senex-trader/data/redis"), "its data is where it was"


def test_site_refuses_until_the_inventory_says_so(pair):
    run = pair.play("playbooks/site.yml")
    assert run.code != 0 and f"redis: {{hosts: {{{TWO}: }}}}" in run.said and "changed=0" in run.said


def test_with_the_new_inventory_the_way_from_the_old_place_goes(pair):
    pair.write(redis=TWO, more=("backup", "watchdog"))
    with Traffic(pair.stack, rate=50, sockets=5, tasks_per_second=5) as traffic:
        pair.play("playbooks/site.yml").expect()
    print(traffic.result())
    found = traffic.result()
    assert not found.failures and not found.tasks.lost and not found.tasks.twice, found
    assert "forwards" not in pair.state(ONE, "redis")
    assert "redis-forward" not in pair.sh(ONE, "ls /opt/senex-trader/.config/containers/systemd")
    again = pair.play("playbooks/site.yml").expect()
    assert again.said.count("changed=0") == 2, again.output[-2000:]
    assert pair.stack.healthy(), "Redis of this host is closed, and the site is well"


def test_and_back(pair):
    moved(pair, TWO, ONE)
    pair.write(redis=ONE)
    pair.play("playbooks/site.yml").expect()
    pair.stack.ready()
    assert masters(pair) == [ONE] and pair.redis(ONE, "get", "kept") == "yes" and "redis.2" in pair.sh(ONE, "ls /opt/senex-trader/data")


pytestmark = pytest.mark.faults
