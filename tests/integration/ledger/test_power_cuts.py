"""The power of the one host goes at a random moment of a random operation, while a client writes rows and keeps a ledger of those that were acknowledged.

What stands for the power is the host's container, killed with all that runs in it: what was written and not synced is not lost by that.
SENEX_TEST_POWER_CUTS says how many cuts, SENEX_TEST_SEED which; the seed is in each test's output.
"""

import os
import random
import time

import pytest
from acknowledged import OPERATIONS, Ledger
from stack import wait

pytestmark = pytest.mark.faults
CUTS = int(os.environ.get("SENEX_TEST_POWER_CUTS", "20"))
SEED = os.environ.get("SENEX_TEST_SEED") or str(random.SystemRandom().randrange(10**6))


@pytest.mark.parametrize("number", range(CUTS))
def test_a_power_cut(site, number):
    drawn = random.Random(f"{SEED}-{number}")  # noqa: S311  (to be drawn again)
    name = drawn.choice(list(OPERATIONS))
    moment = drawn.uniform(0, OPERATIONS[name][2])
    print(f"SENEX_TEST_SEED={SEED}: cut {number}, {name}, after {moment:.1f} s")
    site.tag = site.version()
    if name == "deploy" and site.environment.vault().get("vault_rotation"):
        refused = site.begin("deploy").end()
        assert refused.code != 0 and "rotate_confirm=true. Nothing was changed." in refused.said, refused.output[-2000:]
        site.begin("rotate").end().expect()
    with Ledger(site.stack) as client:
        run = site.begin(name)
        try:
            time.sleep(moment)
            ended = run.process.poll()
            before = len(client.numbers)
        finally:
            site.cut()
        time.sleep(0.5)
        site.boot()
        run.end(180)
        taken = site.served_again(name)
        wait(lambda: len(client.numbers) > before, 30, "rows are written again")
    print(
        f"it had {'ended with ' + str(ended) if ended is not None else 'not ended'}; {len(client.numbers)} rows acknowledged; well {taken:.0f} s after the boot"
    )
    site.judge(name, client.numbers)


@pytest.mark.parametrize("name", sorted(OPERATIONS, key=lambda name: name != "rotate"))  # until a rotation is at its end, releases are refused
def test_each_operation_works_after_all_of_them(site, name):
    """Whatever the cuts have left is taken over or put in order."""
    site.tag = site.version()
    with Ledger(site.stack) as client:
        site.begin(name).end().expect()
        site.stack.ready()
        before = len(client.numbers)
        wait(lambda: len(client.numbers) > before, 30, "rows are written again")
    site.judge(name, client.numbers)
    site.stack.task_runs()


def test_the_vault_is_whole(site):
    held = site.environment.vault()
    assert "vault_rotation" not in held and all(held[f"vault_{name}"] for name in ("database_password", "redis_password", "secret_key"))
