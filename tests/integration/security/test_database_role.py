"""Whoever has the application's password has its database, and neither programs nor files of the database's container."""

import shlex

import pytest
from stack import AS_USER

KEY = "/run/secrets/postgres_tls_key"
TRIES = {
    "a program's output": "create temp table said (what text); copy said from program 'id'; table said",
    "a program's input": "copy (select 1) to program 'cat >/tmp/made'",
    "the server's key": f"create temp table said (what text); copy said from '{KEY}'; table said",
    "the server's key by a function": f"select pg_read_file('{KEY}')",
    "a file of the server's": "copy (select 1) to '/var/lib/postgresql/data/made'",
    "a large object from a file": f"select lo_import('{KEY}')",
    "a superuser's rights": "alter role current_user superuser",
    "a superuser's place": "set session authorization postgres",
    "a new superuser": "create role other superuser login",
    "a setting of the server's": "alter system set archive_command = 'id'",
    "a language that may do anything": "create extension plpython3u",
    "replication": "select pg_create_physical_replication_slot('other')",
}


def asked(stack, statement):
    """What a web instance is told, over the network and with what its environment has."""
    words = {"host": "$DB_HOST", "port": "$DB_PORT", "dbname": "$DB_NAME", "user": "$DB_USER", "password": "$DB_PASSWORD"}
    program = (
        "import os, psycopg\n"
        f"words = {{name: os.environ[value[1:]] for name, value in {words!r}.items()}}\n"
        f"with psycopg.connect(**words, autocommit=True) as base:\n"
        f"    for statement in {statement!r}.split('; '):\n"
        "        found = base.execute(statement)\n"
        "    print(found.fetchall() if found.description else 'done')\n"
    )
    return stack.sh(f"{AS_USER} podman exec -i web-1 python3 -c {shlex.quote(program)} 2>&1 || true")


def test_the_application_is_served(stack):
    assert "(1,)" in asked(stack, "select 1")


@pytest.mark.parametrize("what", TRIES)
def test_the_application_gets_no_more_than_its_database(stack, what):
    said = asked(stack, TRIES[what])
    assert any(word in said for word in ("permission denied", "must be superuser", "is not available", "must have")), said
    assert "uid=" not in said and "PRIVATE KEY" not in said
    assert stack.sh(f"{AS_USER} podman exec postgres ls /tmp /var/lib/postgresql/data").find("made") < 0


def test_nobody_comes_in_as_the_superuser_over_the_network(stack):
    program = "import os, psycopg; psycopg.connect(host=os.environ['DB_HOST'], dbname='postgres', user='postgres', password='postgres')"
    said = stack.sh(f"{AS_USER} podman exec web-1 python3 -c {shlex.quote(program)} 2>&1 || true")
    assert "pg_hba.conf rejects connection" in said, said
