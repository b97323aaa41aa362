"""On a host of their own."""

import disks
import pytest
from own_host import stack_on

# So large that a dump, a base backup and a restore of it take a moment
BULK = "create table if not exists bulk as select n, md5(n::text) || md5((n + 1)::text) as words from generate_series(1, 700000) n"


@pytest.fixture(scope="session")
def stack():
    """See own_host."""
    for found in stack_on("fulldisk"):
        found.sh("senex watchdog pause 2h")
        disks.mount(found)
        found.sh(f'senex psql -c "{BULK}"', timeout=120)
        found.sh("senex pitr base --first", timeout=300)
        found.sh("senex backup dump", timeout=120)
        yield found
