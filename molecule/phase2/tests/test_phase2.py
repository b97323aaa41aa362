"""An inventory that lists groups and addresses alone, and what users, neighbours and strangers see of it. The capture runs while a release does."""

import re
import shlex

import pytest
from conftest import Wire
from parts import HOME, RUN, played
from traffic import Traffic

RATE = 15
# Of the vault, of statements, of Celery's messages, of a key of the cache. Six bytes at least: three of them are found by chance in megabytes of ciphertext
PLAIN = (b"molecule-database-password", b"molecule-redis-password", b"SELECT", b"select ", b"INSERT", b"django_", b"celery", b"kombu:", b"demo.tasks",
         b"traffic-")  # fmt: skip
# An array of Redis' protocol: commands and answers
REDIS = re.compile(rb"\*\d{1,3}\r\n\$\d{1,9}\r\n")


def test_each_host_reaches_what_its_components_need_and_nothing_else(open_ports):
    app, ssh = {22, 80, 443}, {22}
    assert open_ports["stranger"] == {"app": app, "database": ssh, "queue": ssh}
    exporters = {"database": {9100, 9187}, "queue": {9100, 9121}}  # for Prometheus alone
    assert open_ports["app"] | {"app": app} == {"app": app, "database": {22, 5432} | exporters["database"], "queue": {22, 6390, 6391} | exporters["queue"]}
    app = app | {19532}  # for the journals of the other hosts
    assert open_ports["queue"] | {"queue": ssh} == {"app": app, "database": {22, 5432}, "queue": ssh}
    assert open_ports["database"] | {"database": ssh} == {"app": app, "database": ssh, "queue": ssh}


def test_postgresql_knows_its_clients_by_their_addresses(site):
    """It is in the network of its host. A published port shows them all as one."""
    ask = "from django.db import connection as c; k = c.cursor(); k.execute('select host(inet_client_addr())'); print('from', k.fetchone()[0])"
    for host, container in ((site.app, "web-1"), (site.queue, "celery-worker")):
        said = host.sh(f"{RUN} podman exec {container} python /app/manage.py shell --command {shlex.quote(ask)}", 60)
        assert f"from {host.address}" in said.splitlines(), said
    rules = site.database.sh(f"cat {HOME}/config/postgresql/pg_hba.conf").splitlines()
    sources = [line.split()[3] for line in rules if line.endswith("scram-sha-256")]
    assert sorted(sources) == sorted(f"{one}/32" for one in ("127.0.0.1", *(host.address for host in site.hosts)))
    listening = site.database.sh("ss -Hltn 'sport = 5432' | awk '{print $4}'").split()
    assert sorted(listening) == sorted(["127.0.0.1:5432", f"{site.database.address}:5432"])


def test_redis_has_no_port_without_tls_for_other_hosts(site):
    assert not {6379, 6380} & set(site.listening())
    told = site.app.sh(f"{RUN} podman exec web-1 printenv REDIS_URL CELERY_BROKER_URL CHANNELS_REDIS_URL").split()
    assert all(one.startswith("rediss://") and one.endswith("ssl_cert_reqs=required&ssl_ca_certs=/run/senex/ca.crt") for one in told), told
    local = site.queue.sh(f"{RUN} podman exec celery-worker printenv REDIS_URL CELERY_BROKER_URL").split()
    assert [one.rpartition("@")[2] for one in local] == ["redis-cache:6379/0", "redis:6379/2"]


@pytest.mark.parametrize(
    ("server", "port", "name"),
    [
        ("database", 5432, "postgres"),
        ("queue", 6390, "redis"),
        ("queue", 6391, "redis-cache"),
        ("database", 9187, "molecule-database"),
        ("queue", 9121, "molecule-queue"),
    ],
)
def test_servers_show_a_certificate_for_their_address(site, server, port, name):
    """And for the name that clients on their own host use, or that the inventory has."""
    address = getattr(site, server).address
    ask = f"openssl s_client {'-starttls postgres' if port == 5432 else ''} -connect {address}:{port} -CAfile /run/senex-ca.crt -verify_return_error"
    site.app.sh(f"{RUN} podman exec web-1 cat /run/senex/ca.crt >/run/senex-ca.crt")
    for verified in (f"-verify_ip {address}", f"-verify_hostname {name}"):
        assert "Verify return code: 0 (ok)" in site.app.sh(f"{ask} {verified} </dev/null")
    assert site.app.run(f"{ask} -verify_hostname www.acme.io </dev/null").returncode != 0


def test_a_release_goes_on_while_the_site_works_and_nothing_can_be_read_on_the_wire(site):
    """Pages, tasks and WebSockets all the while: each of them needs both servers."""
    with Wire(site.database, 5432) as database, Wire(site.queue, 6390, 6391) as queue, Traffic(site, rate=RATE, sockets=4, tasks_per_second=1) as traffic:
        done = played("deploy", django_image_tag="2")
    assert done.rc == 0, done.output
    traffic.expect_nothing_lost(least=RATE * 10)
    assert traffic.result().tasks.sent > 5 and traffic.result().sockets.echoes > 5, traffic.result()
    for wire, port in ((database, 5432), (queue, 6390), (queue, 6391)):
        seen = wire.captured(port)
        assert len(seen) > 2000, f"{len(seen)} bytes were seen at {port}: nothing was proven"
        assert [word for word in PLAIN if word in seen] == []
        assert REDIS.search(seen) is None


def test_a_run_without_a_change_changes_nothing(site):
    """After a release too."""
    done = played("site")
    assert (done.rc, done.changed) == (0, 0), done.output


def test_status_is_green_everywhere(site):
    done = played("status")
    assert done.rc == 0, done.output
