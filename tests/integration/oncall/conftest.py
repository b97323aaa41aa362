"""On a host of their own, which they break."""

import pytest
from own_host import stack_on


@pytest.fixture(scope="session")
def stack():
    """See own_host."""
    yield from stack_on("oncall")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    item.failed = report.failed
    return report
