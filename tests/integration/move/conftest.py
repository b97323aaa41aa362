"""Two hosts: one with everything, PgBouncer too, and a bare one that PostgreSQL moves to."""

import pytest
from moved_hosts import Pair


@pytest.fixture(scope="session")
def pair(tmp_path_factory):
    found = Pair(tmp_path_factory.mktemp("inventory"))
    try:
        found.up()
        yield found
    finally:
        found.down()
