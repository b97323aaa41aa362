import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "shared"))

from parts import NETWORK, Part  # noqa: E402  (the path above must come first)

IMAGE = "registry.senex.test:5000/library/postgres:15"
PASSWORD = "molecule-database-password"


class Postgres(Part):
    password = PASSWORD

    def query(self, sql, password=None, **connection):
        """What psql in another container of the network says."""
        words = {"host": "postgres", "user": "senex", "dbname": "senex", "sslmode": "verify-full", "sslrootcert": "/ca.crt", **connection}
        secret = (password or self.password).replace("'", "'\\''")
        conninfo = " ".join(f"{name}={value}" for name, value in words.items())
        result = self.script(f"export PGPASSWORD='{secret}'\npsql -X -w -q -A -t '{conninfo}' <<'END'\n{sql}\nEND", container="client")
        return (result.stdout + result.stderr).strip()

    def administer(self, sql, database="postgres", role="postgres"):
        """The same as the superuser, at the socket."""
        result = self.script(f"psql -X -w -q -A -t -v ON_ERROR_STOP=1 -U {role} -d {database} <<'END'\n{sql}\nEND")
        assert result.rc == 0, result.stderr
        return result.stdout.strip()


@pytest.fixture(scope="module")
def postgres(host):
    part = Postgres(host, "postgres")
    authority = "/etc/senex-trader/tls/ca.crt:/ca.crt:ro"
    part.podman(f"run -d --rm --name client --network {NETWORK} --volume {authority} {IMAGE} sleep infinity")
    yield part
    part.podman("rm -f -t 0 client")


@pytest.fixture(autouse=True)
def journal(request, postgres):
    """The unit's last words, when a test fails."""
    yield
    if getattr(request.node, "failed", False):
        print(postgres.journal())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    item.failed = report.failed
    return report
