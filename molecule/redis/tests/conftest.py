import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "shared"))

from parts import HOME, NETWORK, Part  # noqa: E402  (the path above must come first)

IMAGE = "registry.senex.test:5000/library/redis:7"
PASSWORD = "molecule-redis-password"


class Redis(Part):
    password = PASSWORD

    def cli(self, words, password=None, database=0, user="senex", server="redis"):
        """What redis-cli in another container of the network says, logged in as the application is; without a name where `user` is empty."""
        quoted = (self.password if password is None else password).replace("'", "'\\''")
        login = f"export REDISCLI_AUTH='{quoted}'\n" if quoted else ""
        name = f"--user {user}" if user and quoted else ""
        result = self.script(f"{login}redis-cli -e {name} -h {server} -n {database} {words}", container="client")
        return (result.stdout + result.stderr).strip()

    def operate(self, words, server="redis"):
        """What redis-cli in the server's own container says, as health checks and whoever is on call have it."""
        result = self.script(f"redis-cli -e {words}", container=server)
        return (result.stdout + result.stderr).strip()

    def program(self, words, stdin=""):
        """The program behind `senex redis`."""
        return self.host.run(f"echo {stdin} | systemd-run --user --machine=senex@ --pipe --wait --quiet --collect {HOME}/bin/redis {words}")


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
