"""PostgreSQL moves to another host and back, while 50 rows a second are written and requests go on."""

import pytest
from load import MIX, Load
from moved_hosts import ONE, TWO, Ledger
from stack import within

HELD = 5  # seconds that clients may wait


def test_the_plan_changes_nothing(pair):
    run = pair.move(TWO).expect()
    assert "Nothing was changed. To carry it out: -e move_confirm=true" in run.said and "changed=0" in run.said
    assert pair.state(ONE) == {} and pair.state(TWO) == {} and pair.served_by() == [ONE]
    refused = pair.move("nowhere")
    assert refused.code != 0 and "nowhere is no host of the inventory" in refused.said


def moved(pair, source, target):
    with Load(pair.stack, rate=50, paths=(*MIX, "/health/")) as load, Ledger(pair) as ledger:
        run = pair.move(target, move_confirm=True)
    run.expect()
    print(run.output[-3000:])
    assert pair.served_by() == [target]
    ledger.expect_nothing_lost(target)
    # A readiness page says by 503 that its database has not answered within its own limit of 3 s; no user sees it
    load.failures[:] = [one for one in load.failures if not (one[1] == "/health/" and one[2].startswith("503 after 3"))]
    load.expect_none_failed()
    within(pair.held(run), HELD, "clients waited")
    assert pair.state(source)["phase"] == "moved" and "phase" not in pair.state(target)
    return run


def test_it_moves_while_the_site_serves(pair):
    run = moved(pair, ONE, TWO)
    assert "A base backup was taken" in run.said
    assert pair.stack.healthy(), "PostgreSQL of this host is closed, and the site is well"


def test_the_one_that_was_left_stays_closed(pair):
    said = pair.sh(ONE, "cd /; systemctl --user -M senex@ start postgres.service 2>&1", check=False)
    assert "masked" in said and pair.served_by() == [TWO]
    assert pair.sh(ONE, "ls /opt/senex-trader/data").split().count("postgres") == 1, "its data is where it was"


def test_site_refuses_until_the_inventory_says_so(pair):
    run = pair.play("playbooks/site.yml")
    assert run.code != 0 and f"postgresql: {{hosts: {{{TWO}: }}}}" in run.said and "changed=0" in run.said
    assert pair.served_by() == [TWO]


def test_with_the_new_inventory_it_converges_and_a_second_run_changes_nothing(pair):
    pair.write(postgresql=TWO, more=("backup", "watchdog"))
    with Load(pair.stack) as load:
        pair.play("playbooks/site.yml").expect()
    load.expect_none_failed()
    again = pair.play("playbooks/site.yml").expect()
    assert again.said.count("changed=0") == 2, again.output[-2000:]
    assert pair.served_by() == [TWO]
    assert pair.stack.healthy(), "PostgreSQL of this host is closed, and the site is well"


def test_and_back(pair):
    run = moved(pair, TWO, ONE)
    assert "kept" in run.said
    refused = pair.play("playbooks/site.yml")
    assert refused.code != 0 and f"postgresql: {{hosts: {{{ONE}: }}}}" in refused.said
    pair.write(postgresql=ONE)
    pair.play("playbooks/site.yml").expect()
    pair.stack.ready()
    assert pair.served_by() == [ONE] and "postgres.15-" in pair.sh(ONE, "ls /opt/senex-trader/data")


pytestmark = pytest.mark.faults
