"""On a host of their own."""

import pytest
from acknowledged import BASE, Site
from own_host import stack_on


@pytest.fixture(scope="session")
def stack():
    """See own_host."""
    yield from stack_on("ledger")


@pytest.fixture(scope="session")
def site(stack, tmp_path_factory):
    found = Site(stack, tmp_path_factory.mktemp("environment"))
    stack.sh(f"{BASE} --first", timeout=300)
    stack.sh("senex backup dump", timeout=120)
    found.ledger = found.rows()
    return found
