"""On a host of their own."""

import pytest
from own_host import stack_on


@pytest.fixture(scope="session")
def stack():
    """See own_host."""
    yield from stack_on("removal")
