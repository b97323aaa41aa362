"""The application reaches its database through PgBouncer, and what needs a session of its own goes past it."""

import json
import secrets
import shlex
import socket
import threading
from pathlib import Path

import pytest
from stack import AS_USER, wait, within

CLIENT = Path(__file__).with_name("client.py").read_text(encoding="utf-8")
POOL = 25
KEY, CERTIFICATE = "/etc/senex-trader/tls/pgbouncer.key", "/etc/senex-trader/tls/pgbouncer.crt"


def client(stack, *words):
    """What clients in a web instance get."""
    return json.loads(stack.sh(f"{AS_USER} podman exec -i web-1 python3 -c {shlex.quote(CLIENT)} {shlex.join(map(str, words))}", timeout=300))


def psql(stack, statement, database="senex"):
    return stack.sh(f"{AS_USER} podman exec postgres psql -XAtqU postgres -d {database} -v ON_ERROR_STOP=1 -c {shlex.quote(statement)}").strip()


def watched(stack, seconds, action):
    """What a client sees meanwhile."""
    psql(stack, "create table if not exists pooler_watch (at timestamptz default now()); grant all on pooler_watch to senex")
    found = {}
    thread = threading.Thread(target=lambda: found.update(client(stack, "watch", seconds)))
    thread.start()
    wait(lambda: psql(stack, "select count(*) > 5 from pooler_watch") == "t", 30, "the client writes")
    action()
    thread.join()
    psql(stack, "drop table pooler_watch")
    print(found)
    return found


def paused(stack):
    return {"key": "paused", "value": "yes"} in json.loads(stack.sh("senex pgbouncer --json show state"))


def test_a_second_run_changes_nothing(stack):
    play = stack.converge()
    assert play.changed == [] and play.restarts() == []


def test_ten_thousand_prepared_queries(stack):
    assert client(stack, "prepared", 10000) == {"right": 10000, "errors": {}}


def test_five_hundred_clients_on_few_connections(stack):
    found = client(stack, "crowd", 500)
    assert found["served"] == 500 and found["errors"] == {} and 1 < found["servers"] <= POOL, found


def test_the_instances_go_through_it(stack):
    stack.ready()
    with_pooler = stack.sh(f"{AS_USER} podman exec web-1 python3 -c 'import os; print(os.environ[\"DB_HOST\"])'")
    assert with_pooler.strip() == "pgbouncer"
    rows = json.loads(stack.sh("senex pgbouncer --json show stats"))
    assert next(int(row["total_xact_count"]) for row in rows if row["database"] == "senex") > 10000


def test_releases_and_commands_go_past_it(stack):
    """A pooler that lets nobody through shows it."""
    stack.sh("senex pgbouncer pause")
    try:
        assert paused(stack)
        stack.user("systemctl", "--user", "restart", "release.service", timeout=120)
        assert "[X]" in stack.sh("senex manage showmigrations --plan")
        status = stack.ssh("senex status").stdout
        assert "is paused, so the application waits" in status, status
    finally:
        stack.sh("senex pgbouncer resume")
    assert not paused(stack)
    stack.ready()


@pytest.mark.parametrize("user", ["senex", "postgres", "pgbouncer", "barman", "nobody"])
def test_a_wrong_password_is_refused(stack, user):
    assert "refused" in client(stack, "login", user, "a wrong password of somebody")


def test_its_own_role_reads_no_table(stack):
    """With the host's certificate, as whoever took it would try."""
    files = {
        "key": stack.sh(f"cat {KEY}"),
        "crt": stack.sh(f"cat {CERTIFICATE}"),
        "server": stack.sh("cat /etc/senex-trader/tls/postgres.crt /etc/senex-trader/tls/postgres.key"),
    }
    script = "umask 077; cd /tmp; " + "; ".join(f"printf %s {shlex.quote(text)} >{name}" for name, text in files.items())

    def asked(statement, database="postgres", pair="sslcert=/tmp/crt sslkey=/tmp/key", user="pgbouncer"):
        words = f"host=postgres hostaddr=127.0.0.1 dbname={database} user={user} sslmode=verify-full sslrootcert=/etc/postgresql/ca.crt {pair}"
        inside = f"{script}; psql -XAtqw {shlex.quote(words)} -c {shlex.quote(statement)} 2>&1; rm -f key crt server"
        return stack.sh(f"{AS_USER} podman exec postgres sh -c {shlex.quote(inside)} || true").strip()

    assert "SCRAM-SHA-256" in asked("select password from pgbouncer.get_auth('senex')")
    assert asked("select count(*) from pgbouncer.get_auth('postgres')") == "0"
    assert asked("select count(*) from pgbouncer.get_auth('barman')") == "0"
    assert "permission denied" in asked("select * from pg_authid")
    assert "pg_hba.conf rejects connection" in asked("select 1", "senex")
    assert "pg_hba.conf rejects connection" in asked("select 1", user="postgres")
    for pair in ("sslcert=/tmp/server sslkey=/tmp/server", "sslcert=/tmp/none sslkey=/tmp/none"):
        assert asked("select 1", pair=pair) != "1", pair
    assert (
        "permission denied"
        in stack.ssh(f"{AS_USER} podman exec postgres psql -XU postgres -d senex -c 'set role pgbouncer' -c 'select * from django_migrations'").stderr
    )


def test_no_other_host_reaches_it(stack):
    with pytest.raises(OSError):  # noqa: PT011  (refused, or no answer)
        socket.create_connection((stack.address, 6432), timeout=3).close()


def test_a_changed_password(stack):
    """What the pooler knew of the old one is no hindrance, as rotate.yml has it twice; the role that stands in can go soon after its last client."""
    before = psql(stack, "select rolpassword from pg_authid where rolname = 'senex'")
    new = secrets.token_hex(16)
    try:
        psql(stack, f"alter role senex password '{new}'")
        assert client(stack, "login", "senex", new) == {"as": "senex"}
        assert "refused" in client(stack, "login", "senex", "another")
        psql(stack, f"create role senex_rotation login in role senex password '{new}'; alter role senex_rotation set role = senex")
        assert client(stack, "login", "senex_rotation", new) == {"as": "senex"}
        sessions = "select count(*) from pg_stat_activity where usename = 'senex_rotation'"
        wait(lambda: psql(stack, sessions) == "0", 20, "the pooler's sessions of the role that stands in end")
        psql(stack, "drop role senex_rotation")
    finally:
        psql(stack, f"alter role senex password '{before}'")
    stack.ready()


def test_postgresql_restarts_behind_it(stack):
    """While it is paused nobody is refused; without that the clients whose statement was under way are."""

    def held():
        stack.sh("senex pgbouncer pause && senex restart postgres; senex pgbouncer resume")

    assert watched(stack, 25, held)["errors"] == {}
    found = watched(stack, 25, lambda: stack.sh("senex restart postgres"))
    assert found["done"] and sum(found["errors"].values()) < 10, found


def test_it_restarts(stack):
    found = watched(stack, 12, lambda: stack.sh("systemctl kill --signal=KILL pgbouncer.service"))
    within(found["gap"], 5, "PgBouncer is back")
    assert found["done"] > 10 and sum(found["errors"].values()) < 40, found


def test_what_it_does_not_take_is_not_installed(stack):
    play = stack.play("-i", str(Path(__file__).with_name("group.yml")), "-e", json.dumps({"postgresql_publish_address": stack.address}),
                      "-e", json.dumps({"pgbouncer_server_host": "a b"}), tags="pgbouncer")  # fmt: skip
    assert play.code and "connection string" in "\n".join(play.errors), play.errors
    assert client(stack, "prepared", 80)["right"] == 80
