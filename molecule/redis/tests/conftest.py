import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "shared"))

from parts import NETWORK, Part  # noqa: E402  (the path above must come first)

IMAGE = "registry.senex.test:5000/library/redis:7"
PASSWORD = "molecule-redis-password"


class Redis(Part):
    password = PASSWORD

    def cli(self, words, password=None, database=0):
        """What redis-cli in another container of the network says."""
        quoted = (self.password if password is None else password).replace("'", "'\\''")
        login = f"export REDISCLI_AUTH='{quoted}'\n" if quoted else ""
        result = self.script(f"{login}redis-cli -e -h redis -n {database} {words}", container="client")
        return (result.stdout + result.stderr).strip()


@pytest.fixture(scope="module")
def redis(host):
    part = Redis(host, "redis")
    part.podman(f"run -d --rm --name client --network {NETWORK} {IMAGE} sleep infinity")
    yield part
    part.podman("rm -f -t 0 client")


@pytest.fixture(autouse=True)
def journal(request, redis):
    """The unit's last words, when a test fails."""
    yield
    if getattr(request.node, "failed", False):
        print(redis.journal())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    item.failed = report.failed
    return report
