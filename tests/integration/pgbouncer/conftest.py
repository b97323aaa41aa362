"""On a host of their own, whose application finds its database at PgBouncer."""

import json
from pathlib import Path

import pytest
from own_host import stack_on

GROUP = str(Path(__file__).with_name("group.yml"))
POOL = 25


@pytest.fixture(scope="session")
def stack():
    """See own_host. `converge` puts the pooler and what goes through it in place."""
    for found in stack_on("pgbouncer"):
        # One host, so PostgreSQL is published for the pooler, which is in no container
        settings = {"postgresql_publish_address": found.address, "pgbouncer_pool_size": POOL, "pgbouncer_reserve_pool_size": 0}
        found.converge = lambda found=found, settings=settings: found.play(
            "-i", GROUP, "-e", json.dumps(settings), tags="postgresql,pgbouncer,django,watchdog"
        ).expect()
        found.converge()
        yield found
