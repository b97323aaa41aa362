"""The application's environment: addresses that follow a rotation and are read back as they were meant."""

from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from ansible_collections.senex.trader.plugins.filter import environment
from rendered import component, value
from test_rendered_units import BASE

AWKWARD = ["p@ss:w/o?r#d%41+x&y=z", "päss wörd€", "%2F%%", "[::1]", "a'b\"c\\d$e`{{ f", "~._-"]
USES = {"cache": 0, "channels": 1, "broker": 2, "results": 3}


def taken_apart(url):
    """As dj-database-url does it: by urllib, user, password, host and name unquoted."""
    parts = urlsplit(url)
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    return unquote(parts.username), unquote(parts.password), unquote(parts.hostname), parts.port, unquote(parts.path[1:]), options


@pytest.mark.parametrize("word", AWKWARD)
def test_a_database_url_is_read_back_as_it_was_meant(word):
    parts = {"user": word, "password": word, "host": "db.acme.io", "port": "6432", "name": word, "sslmode": "verify-full", "ca": "/run/senex/ca.crt"}
    url = environment.database_url(parts)
    assert taken_apart(url) == (word, word, "db.acme.io", 6432, word, {"sslmode": "verify-full", "sslrootcert": "/run/senex/ca.crt"})
    assert url.isascii() and not set(url) & set(" \"'\\{}$`")


def test_a_database_without_tls_names_no_authority_and_an_ipv6_address_has_brackets():
    parts = {"user": "u", "password": "p", "host": "fd00::1", "port": 5432, "name": "n", "sslmode": "disable", "ca": "/x"}
    assert environment.database_url(parts) == "postgresql://u:p@[fd00::1]:5432/n?sslmode=disable"
    assert taken_apart(environment.database_url(parts))[2] == "fd00::1"
    assert value("senex", "senex_redis_url", **BASE, senex_redis_host="fd00::1").endswith("@[fd00::1]:6379")
    two = {"senex_redis_cache_instance": True, "senex_redis_cache_host": "fd00::2"}
    assert value("senex", "senex_redis_cache_url", **BASE, **two).endswith("@[fd00::2]:6380")


def given(role="django", **inputs):
    """What the application's containers get: the variables of the environment file."""
    files, _ = component(role, **{**BASE, **inputs})
    text = next(text for dest, (text, _) in files.items() if dest.endswith("/.env"))
    return dict(line.split("=", 1) for line in text.splitlines())


URLS = {"DATABASE_URL": "{{ senex_database_url }}"} | {f"{use.upper()}_ADDRESS": f"{{{{ senex_redis_addresses.{use} }}}}" for use in USES}


@pytest.mark.parametrize("role", ["django", "celery"])
@pytest.mark.parametrize("stage", [None, "accept", "use", "refuse"])
@pytest.mark.parametrize("secret", ["database_password", "redis_password"])
def test_addresses_log_in_as_the_plain_variables_do_at_each_stage_of_a_rotation(role, stage, secret):
    rotation = {secret: {"stage": stage, "other": "päss@:/?#%"}} if stage else {}
    found = given(role, senex_extra_environment=URLS, senex_rotation=rotation)
    user, password, host, port, name, options = taken_apart(found["DATABASE_URL"])
    assert (user, password, host, str(port), name) == tuple(found[f"DB_{part}"] for part in ("USER", "PASSWORD", "HOST", "PORT", "NAME"))
    assert (options["sslmode"], options["sslrootcert"]) == (found["PGSSLMODE"], found["PGSSLROOTCERT"])
    assert (user, password) == (("senex_rotation", "päss@:/?#%") if (secret, stage) == ("database_password", "accept") else ("senex", BASE["senex_secret_key"]))
    plain = {"cache": "REDIS_URL", "channels": "CHANNELS_REDIS_URL", "broker": "CELERY_BROKER_URL", "results": "CELERY_RESULT_BACKEND"}
    for use, number in USES.items():
        assert found[f"{use.upper()}_ADDRESS"] == found[plain[use]] and found[plain[use]].endswith(f"@redis:6379/{number}")
        expected = "päss@:/?#%" if (secret, stage) == ("redis_password", "accept") else BASE["senex_redis_password"]
        assert unquote(urlsplit(found[plain[use]]).password) == expected
