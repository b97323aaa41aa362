"""A database or a Redis that is somebody else's server: the group is empty and its address is given."""

import socket
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.senex.trader.plugins.filter import checking_groups, elsewhere, operations, releases, rotation
from ansible_collections.senex.trader.plugins.module_utils.checks import preflight
from ansible_collections.senex.trader.plugins.plugin_utils import components
from rendered import component, value
from test_environment import given, taken_apart
from test_rendered_units import BASE
from watched import senex_ops

assert senex_ops  # on the path by that
from senex_ops import checks_web, config  # noqa: E402

PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
GROUPS = {name: ["one"] for name in ("web", "celery", "celery_beat", "nginx", "backup", "watchdog")} | {"postgresql": [], "redis": ["one"]}
THEIRS = {"groups": GROUPS, "group_names": sorted(name for name, hosts in GROUPS.items() if hosts), "senex_database_host": "db.acme.io",
          "senex_database_port": 6432, "senex_database_ca_certificate": PEM}  # fmt: skip
REDIS = {"groups": GROUPS | {"postgresql": ["one"], "redis": []}, "senex_redis_host": "mq.acme.io", "senex_redis_user": "default", "senex_redis_tls": True,
         "senex_redis_ca_certificate": PEM}  # fmt: skip
ABOUT = {"database": True, "redis": False, "container": "postgres", "senex_database_host": "db.acme.io", "senex_database_password": "x" * 12,
         "senex_database_sslmode": "verify-full", "senex_database_ca_certificate": PEM, "senex_redis_password": "", "senex_redis_tls": False,
         "redis_remote": False,
         "senex_redis_ca_certificate": "", "senex_redis_host": "mq.acme.io", "senex_redis_cache_host": "mq.acme.io",
         "senex_redis_cache_instance": False}  # fmt: skip


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"one": {"senex_database_host": "db.acme.io"}}, None),
        ({"one": {}}, "; where it is somebody else's server, say senex_database_host of one"),
        ({"one": {"senex_database_host": ""}}, "; where it is somebody else's server, say senex_database_host of one"),
        (None, "; where it is somebody else's server, say senex_database_host of one"),
    ],
)
def test_a_group_may_be_empty_where_each_client_is_told_of_another_server(variables, says):
    problems = checking_groups.group_problems(GROUPS, variables=variables)
    assert problems == ([f"group postgresql: needs exactly one host and has none{says}"] if says else [])


def test_two_databases_are_not_one_elsewhere():
    problems = checking_groups.group_problems(GROUPS | {"postgresql": ["one", "two"]}, variables={"one": {"senex_database_host": "x"}, "two": {}})
    assert problems == ["group postgresql: needs exactly one host and has one, two"]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({}, ""),
        ({"senex_database_ca_certificate": "/etc/ca.pem"}, "senex_database_ca_certificate: is no PEM certificate"),
        ({"senex_database_ca_certificate": ""}, "senex_database_ca_certificate: is missing, and senex_database_sslmode verify-full verifies"),
        ({"senex_database_ca_certificate": "", "senex_database_sslmode": "require"}, ""),
        ({"senex_database_password": ""}, "senex_database_password: is missing; write the provider's into the vault (ansible-vault edit), as vault_database_p"),
        ({"senex_database_host": "postgres"}, "senex_database_host: postgres is the container of the group postgresql, which has no host"),
        ({"redis": True, "senex_redis_password": "x", "senex_redis_tls": True}, "senex_redis_ca_certificate: is missing, and senex_redis_tls"),
        ({"redis": True}, "senex_redis_password: is missing; write the provider's"),
        ({"senex_redis_tls": True}, "senex_redis_tls: is for a Redis that is somebody else's server"),
        ({"senex_redis_tls": True, "redis_remote": True}, ""),
        ({"redis_remote": True}, "senex_redis_tls: is false, and Redis answers other hosts by TLS alone"),
        ({"redis": True, "senex_redis_password": "x", "senex_redis_ca_certificate": PEM}, "senex_redis_ca_certificate: is given, and without senex_redis_tls"),
        ({"redis": True, "senex_redis_password": "x", "senex_redis_cache_host": "cache.acme.io"}, "senex_redis_cache_host: is for the second Redis of the"),
        ({"redis": True, "senex_redis_password": "x", "senex_redis_cache_host": "cache.acme.io", "senex_redis_cache_instance": True}, ""),
    ],
)
def test_what_such_a_server_needs(changed, says):
    problems = elsewhere.elsewhere_problems(ABOUT | changed)
    assert len(problems) == bool(says) and (not says or problems[0].startswith(says))


@pytest.mark.parametrize("role", ["django", "celery"])
def test_the_application_verifies_it_with_the_authority_that_was_given(role):
    found = given(role, **THEIRS, senex_extra_environment={"DATABASE_URL": "{{ senex_database_url }}"})
    assert (found["DB_HOST"], found["DB_PORT"], found["PGSSLROOTCERT"]) == ("db.acme.io", "6432", "/run/senex/ca.crt")
    assert taken_apart(found["DATABASE_URL"])[2:4] == ("db.acme.io", 6432)
    authorities = component(role, **{**BASE, **THEIRS})[0]["config/ca.crt"][0]
    assert authorities == f"CA\n{PEM}\n"
    assert component(role, **BASE)[0]["config/ca.crt"][0] == "CA", "a byte more would restart everything"
    units = [text for dest, (text, _) in component(role, **{**BASE, **THEIRS})[0].items() if dest.endswith(".container")]
    assert units and not [text for text in units if "postgres.service" in text]


def test_without_its_authority_nothing_is_verified_and_libpq_is_given_none():
    """With a file of authorities libpq verifies also where sslmode is require."""
    inputs = {**THEIRS, "senex_database_ca_certificate": "", "senex_database_sslmode": "require"}
    found = given("django", **inputs, senex_extra_environment={"DATABASE_URL": "{{ senex_database_url }}"})
    assert found["PGSSLROOTCERT"] == "" and found["PGSSLMODE"] == "require" and "sslrootcert" not in found["DATABASE_URL"]


def test_redis_by_tls_has_addresses_that_its_clients_verify():
    found = given("django", **REDIS)
    for name, number in (("REDIS_URL", 0), ("CHANNELS_REDIS_URL", 1), ("CELERY_BROKER_URL", 2), ("CELERY_RESULT_BACKEND", 3)):
        parts = urlsplit(found[name])
        assert (parts.scheme, parts.hostname, parts.port, parts.path, parts.username) == ("rediss", "mq.acme.io", 6379, f"/{number}", "default")
        assert parse_qs(parts.query) == {"ssl_cert_reqs": ["required"], "ssl_ca_certs": ["/run/senex/ca.crt"]}
    assert value("celery", "__celery_broker", **BASE, **REDIS) == ["mq.acme.io", 6379]


def test_a_host_keeps_no_memory_for_a_server_that_is_not_there():
    plan = components.planned_memory(["web"], inventory=GROUPS)
    assert "postgresql" not in plan and "redis" in plan
    assert "postgresql" in components.planned_memory(["web"], inventory=GROUPS | {"postgresql": ["two"]})


def test_its_password_is_rotated_by_whoever_has_it():
    catalogue = {name: {"vault": f"vault_{name}", "does": ""} for name in ("database_password", "secret_key")}
    vault = {"vault_database_password": "a", "vault_secret_key": "b"}
    assert rotation.rotation_names("database_password", catalogue, vault, GROUPS | {"postgresql": ["one"]}) == ["database_password"]
    with pytest.raises(AnsibleFilterError, match=r"database_password cannot be rotated here.*vault_database_password with ansible-vault edit.*django,celery"):
        rotation.rotation_names("secret_key,database_password", catalogue, vault, GROUPS)


def test_a_release_has_no_dump_to_wait_for_and_says_so():
    way = operations.release_way(GROUPS, [])
    assert [one["hosts"] for one in way if one["stage"] == "dump"] == [[]]
    told = {"one": {"confirmed": [one["stage"] for one in way if one["stage"] != "dump"]}}
    assert operations.operation_troubles(way, told) == []
    about = {"kind": "deploy", "tag": "2", "id": "i", "previous": "1", "migrations": [], "unsaved": ["No dump was made"]}
    assert "\nNo dump was made\n" in releases.release_success_text(about, {})


def test_what_is_said_of_it():
    (one,) = elsewhere.servers_elsewhere({"database": True, "database_host": "db.acme.io", "database_port": "6432", "redis": False})
    web, probe = SimpleNamespace(ready_path="/health/", domain="www.acme.io"), SimpleNamespace(timeout=1)
    told = SimpleNamespace(elsewhere=[config.Elsewhere(**one)], user_units=[], web=web, probe=probe)
    (found,) = checks_web.judge_elsewhere(checks_web.read_elsewhere(SimpleNamespace(connects=lambda *_: ""), told), told, 0)
    assert found.level == "OK" and "db.acme.io:6432" in found.says and "backups" in found.says
    (found,) = checks_web.judge_ready(SimpleNamespace(status=503, body="no database", error=""), told, 0)
    assert found.do == "ask whoever has database (db.acme.io:6432)"
    assert value("watchdog", "__watchdog_configuration", **BASE, **THEIRS)["elsewhere"] == [one]
    assert value("watchdog", "__watchdog_configuration", **BASE)["elsewhere"] == []


def test_a_host_asks_whether_it_takes_connections():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = preflight.server("database", "127.0.0.1", port, "its backups are theirs")
        assert (found["level"], found["says"]) == ("OK", "takes connections; its backups are theirs")
    found = preflight.server("database", "127.0.0.1", port, "")
    assert found["level"] == "FAIL" and "senex_database_host" in found["do"]
