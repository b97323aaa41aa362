"""The application's environment: addresses that follow a rotation and are read back as they were meant, names of the application's own, secrets as files."""

import datetime
import hashlib
import re
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from ansible_collections.senex.trader.plugins.filter import environment
from ansible_collections.senex.trader.plugins.module_utils.engine import unit_text
from ansible_collections.senex.trader.plugins.module_utils.host import field_key
from ansible_collections.senex.trader.plugins.module_utils.release import release_steps
from image_check import handed_over
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


# -- What is refused

VARIABLES = {"DJANGO_SETTINGS_MODULE": "x", "SECRET_KEY": "k" * 50, "DB_PASSWORD": "pass-word-1", "REDIS_URL": "redis://u:pass-word-1@redis/0", "EMPTY": ""}
SECRETS = ["SECRET_KEY", "DB_PASSWORD", "REDIS_URL", "EMPTY", "ELSEWHERE"]


def problems_of(extra=(), names=(), files=(), variables=VARIABLES, words=()):
    return environment.environment_problems(variables, extra if extra != () else {}, dict(names), files, SECRETS, words)


def test_the_environment_is_built_in_the_check():
    extra = {"FEATURES": {"a": 1}, "MOTD": "geheim\nb", "SHARE": 1.1, "FINE": [1, "x"], "2X": "y"}
    problems = problems_of(extra)
    assert [problem.split(":")[0] for problem in problems] == [f"senex_extra_environment.{name}" for name in ("FEATURES", "MOTD", "SHARE", "2X")]
    assert "put it in quotes" in problems[2] and "geheim" not in str(problems)
    assert problems_of("x") == ["senex_extra_environment: is a text, and must be a dictionary of names and values"]
    assert problems_of({"PORT": 9000, "X": 1}) == ["senex_extra_environment.PORT: each unit sets it itself; take it out"]


def test_a_time_or_a_name_that_is_not_read_as_it_is_written_is_refused():
    extra = {"SINCE": datetime.datetime(2026, 1, 1, 10, tzinfo=datetime.UTC), "DAY": datetime.date(2026, 1, 1), True: "x", None: "y"}
    problems = problems_of(extra)
    assert [problem.split(":")[0] for problem in problems] == [f"senex_extra_environment.{name}" for name in ("SINCE", "True", "None")]
    assert all("in quotes" in problem for problem in problems)
    assert problems_of({"LIST": ["a", datetime.datetime(2026, 1, 1)]})


@pytest.mark.parametrize(
    ("names", "extra", "says"),
    [
        ({"DB_PASSWORD": "PGPASSWORD", "EMPTY": ""}, {}, ""),
        ({"DB_PASSWORD": "REDIS_URL", "REDIS_URL": "CACHE"}, {}, ""),
        ({"DB_PASSWORD": "SECRET_KEY", "SECRET_KEY": "DB_PASSWORD"}, {}, ""),
        ({"DB_PASSWORD": "EMPTY", "EMPTY": ""}, {}, ""),
        ({"DB_PASSWORD": "DB_PASSWORD"}, {"DB_PASSWORD": "mine"}, ""),
        ({"DB_PASS": "X"}, {}, ".DB_PASS: there is no such variable; there are DB_PASSWORD, DJANGO_SETTINGS_MODULE, EMPTY, REDIS_URL, SECRET_KEY"),
        ({"INSTANCE": "X"}, {}, ".INSTANCE: each unit sets it itself"),
        ({"DJANGO_SETTINGS_MODULE": "X"}, {}, ".DJANGO_SETTINGS_MODULE: Django reads it under this name; take the line out"),
        ({"DJANGO_SETTINGS_MODULE": ""}, {}, ".DJANGO_SETTINGS_MODULE: Django reads it under this name; take the line out"),
        ({"DB_PASSWORD": "2X"}, {}, ".DB_PASSWORD: 2X is not a name for an environment variable; use letters, digits and _, and no digit first"),
        ({"DB_PASSWORD": "PORT"}, {}, ".DB_PASSWORD: PORT is set by each unit; choose another name"),
        ({"DB_PASSWORD": "MINE"}, {"MINE": 1}, ".DB_PASSWORD: MINE is in senex_extra_environment too; take it out of one of them"),
        ({"DB_PASSWORD": "X", "REDIS_URL": "X"}, {}, ": DB_PASSWORD, REDIS_URL would all be X; give each a name of its own"),
        ({"DB_PASSWORD": "REDIS_URL"}, {}, ": DB_PASSWORD, REDIS_URL would all be REDIS_URL; give each a name of its own"),
    ],
)
def test_names_that_cannot_be(names, extra, says):
    assert problems_of(extra, names) == ([f"senex_environment_names{says}"] if says else [])


@pytest.mark.parametrize(
    ("files", "names", "says"),
    [
        ([], {}, ""),
        (True, {}, ""),
        ("false", {}, ""),
        (["DB_PASSWORD", "MINE", "ELSEWHERE"], {}, ""),
        ("DB_PASSWORD", {}, "is a text, and must be a list of names, or true for all secrets"),
        ({"DB_PASSWORD": 1}, {}, "is a dictionary, and must be a list of names, or true for all secrets"),
        ([{"DB_PASSWORD": 1}], {}, "one of it is a dictionary, and each must be the name of a variable"),
        (["PGPASSWORD"], {"DB_PASSWORD": "PGPASSWORD"}, "PGPASSWORD is no variable of the application; write DB_PASSWORD, as it is called here"),
        (["PASSWORD"], {}, "PASSWORD is no variable of the application; there are DB_PASSWORD, DJANGO_SETTINGS_MODULE, EMPTY, MINE, "),
        (["DJANGO_SETTINGS_MODULE"], {}, "Django reads DJANGO_SETTINGS_MODULE itself, and no file; take it out"),
        (["DB_PASSWORD"], {"DB_PASSWORD": ""}, "DB_PASSWORD is not given at all (senex_environment_names); take it out of one of them"),
        (["SECRET_KEY"], {"DB_PASSWORD": "SECRET_KEY_FILE"}, "SECRET_KEY_FILE is a variable of its own already; take SECRET_KEY out of the list, "),
    ],
)
def test_files_that_cannot_be(files, names, says):
    problems = problems_of({"MINE": "two\nlines" if files == ["DB_PASSWORD", "MINE", "ELSEWHERE"] else "x"}, names, files)
    assert len(problems) == bool(says) and (not says or problems[0].startswith(f"senex_secret_files: {says}"))


# -- What the application gets

NAMES = {"DB_PASSWORD": "POSTGRES_PASSWORD", "CELERY_BROKER_URL": "BROKER", "DB_PORT": "", "FIELD_ENCRYPTION_KEY": "APP_KEY", "SENTRY_DSN": ""}


def made(extra=(), names=(), files=()):
    return environment.application_environment(VARIABLES, dict(extra), dict(names), files, SECRETS)


def test_without_names_and_files_the_environment_is_as_it_was():
    """A line that moves restarts every container of the application."""
    assert made({"DB_PASSWORD": "mine", "X": 1})["file"] == (
        f"DJANGO_SETTINGS_MODULE=x\nSECRET_KEY={'k' * 50}\nDB_PASSWORD=mine\nREDIS_URL=redis://u:pass-word-1@redis/0\nEMPTY=\nX=1\n"
    )
    assert made()["secrets"] == made()["mounts"] == []


@pytest.mark.parametrize("role", ["django", "celery"])
def test_the_application_has_its_own_names_and_no_others(role):
    plain, renamed = given(role), given(role, senex_environment_names=NAMES)
    key = BASE["senex_field_encryption_key"]
    assert renamed.pop("# FIELD_ENCRYPTION_KEY") == f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"
    assert {name: renamed.pop(name) for name in ("POSTGRES_PASSWORD", "BROKER", "APP_KEY")} == {
        "POSTGRES_PASSWORD": plain["DB_PASSWORD"], "BROKER": plain["CELERY_BROKER_URL"], "APP_KEY": key,
    }  # fmt: skip
    assert renamed == {name: text for name, text in plain.items() if name not in NAMES}


def test_all_secrets_are_files_that_the_images_user_alone_reads():
    extra = {"DATABASE_URL": "{{ senex_database_url }}", "FEATURE": "on", "SHORT": "s"}
    inputs = {**BASE, "senex_extra_environment": extra, "senex_secret_files": True, "senex_image_user": 1234, "senex_environment_names": {"DB_PASSWORD": "PW"}}
    for role, least in (("django", 3), ("celery", 3)):
        files, arguments = component(role, **inputs)
        secrets = {item["name"]: item["value"] for item in arguments["secrets"]}
        found = given(role, **{name: item for name, item in inputs.items() if name not in BASE})
        assert not [line for line in found.values() if BASE["senex_secret_key"] in line], "no secret is in the environment file"
        assert found["DATABASE_URL_FILE"] == "/run/secrets/DATABASE_URL" and found["PW_FILE"] == "/run/secrets/PW"
        assert {"DB_PASSWORD", "DB_PASSWORD_FILE", "PW", "DATABASE_URL"}.isdisjoint(found) and found["FEATURE"] == "on"
        assert found["EMAIL_HOST_PASSWORD"] == "" and "environment_EMAIL_HOST_PASSWORD" not in secrets, "Podman keeps no empty secret"
        assert secrets["environment_PW"] == BASE["senex_database_password"] and secrets["environment_DATABASE_URL"].startswith("postgresql://")
        units = [text for dest, (text, _) in files.items() if dest.endswith(".container")]
        assert len(units) >= least
        for text in units:
            assert unit_text.values(text, "Container", "Secret") == [
                f"{name},type=mount,target=/run/secrets/{name.removeprefix('environment_')},uid=1234,gid=1234,mode=0400" for name in secrets
            ]
        assert all(release_steps.ENVIRONMENT.fullmatch(name)[1] == name.removeprefix("environment_") for name in secrets)


def test_a_secret_of_the_applications_own_is_a_file_too():
    inputs = {"senex_secret_files": True, "senex_application_secrets": ["stripe_key"], "vault_stripe_key": "sk_live_0123456789"}
    found = given(**inputs, senex_extra_environment={"STRIPE_KEY": "{{ vault_stripe_key }}", "HOOK": "https://x/{{ vault_stripe_key }}/", "MODE": "live"})
    assert found["STRIPE_KEY_FILE"] == "/run/secrets/STRIPE_KEY" and found["HOOK_FILE"] == "/run/secrets/HOOK" and found["MODE"] == "live"


def test_secrets_of_the_applications_own_are_judged_as_they_are_made():
    """One with lines is a file, which may have them; and its NAME_FILE is not to be another variable's."""
    extra = {"GOOGLE": '{"key":\n "0123456789"}', "PLAIN": "two\nlines"}
    assert [line.split(":")[0] for line in problems_of(extra, (), True, words=[extra["GOOGLE"]])] == ["senex_extra_environment.PLAIN"]
    (line,) = problems_of({"STRIPE": "sk_live_0123", "STRIPE_FILE": "/etc/x"}, (), "yes", words=["sk_live_0123"])
    assert line.startswith("senex_secret_files: STRIPE_FILE is a variable of its own already")


def test_a_secret_is_known_in_an_address_where_it_is_quoted():
    inputs = {"senex_secret_files": True, "senex_database_password": "p@ss:w/o?r#d%41", "senex_extra_environment": {"DATABASE_URL": "{{ senex_database_url }}"}}
    found = given(**inputs)
    assert found["DATABASE_URL_FILE"] == "/run/secrets/DATABASE_URL" and "DATABASE_URL" not in found
    theirs = {"vault_own": "geheim@:/geheim", "senex_extra_environment": {"U": "x://{{ vault_own | senex.trader.quote_url }}@h"}}
    assert "geheim" not in handed_over(**theirs)["wanted"]["environment"]


def test_an_application_that_encrypts_no_fields_leaves_no_mark():
    variables = {**VARIABLES, "FIELD_ENCRYPTION_KEY": ""}
    assert "#" not in environment.application_environment(variables, {}, {"FIELD_ENCRYPTION_KEY": "KEY"}, [], SECRETS)["file"]


def test_a_list_names_what_is_a_file_and_a_file_may_have_lines():
    found = made({"PEM": "a\nb", "X": "y"}, {}, ["PEM", "EMPTY", "DB_PASSWORD"])
    assert found["secrets"] == [{"name": "environment_DB_PASSWORD", "value": "pass-word-1"}, {"name": "environment_PEM", "value": "a\nb"}]
    assert "PEM_FILE=/run/secrets/PEM\n" in found["file"] and "EMPTY=\n" in found["file"] and "X=y\n" in found["file"]
    assert made({"DB_PASSWORD": "mine"}, {}, ["DB_PASSWORD"])["secrets"] == [{"name": "environment_DB_PASSWORD", "value": "mine"}]
    assert found["places"]["DB_PASSWORD"] == {"file": "/run/secrets/DB_PASSWORD"} and found["places"]["X"] == {"variable": "X"}


@pytest.mark.parametrize("inputs", [{"senex_environment_names": NAMES}, {"senex_secret_files": ["FIELD_ENCRYPTION_KEY"]}, {"senex_secret_files": True}])
@pytest.mark.parametrize("role", ["django", "celery"])
def test_the_key_of_encrypted_fields_is_known_by_any_name_and_is_not_read_from_the_file(role, inputs, tmp_path):
    """Another vault's is refused on hosts that have it under its own name, under another, and in a file; both ways."""

    made = {}

    def text(**more):
        if str(more) not in made:
            files, _ = component(role, **{**BASE, **more})
            made[str(more)] = next(text for dest, (text, _) in files.items() if dest.endswith("/.env"))
        return made[str(more)]

    other = {"senex_field_encryption_key": "other-other-other"}
    for here, coming in ((text(), inputs), (text(**inputs), {}), (text(**inputs), inputs)):
        (tmp_path / "env").write_text(here)
        for more, refused in (({}, False), (other, True)):
            values = field_key.values_of(text(**coming, **more).encode(), "FIELD_ENCRYPTION_KEY")
            assert field_key.is_another(str(tmp_path / "env"), "FIELD_ENCRYPTION_KEY", values) is refused
    assert field_key.is_another(str(tmp_path / "env"), "FIELD_ENCRYPTION_KEY", [BASE["senex_field_encryption_key"]]) is False, "as validate.yml asks"
    assert BASE["senex_field_encryption_key"] not in re.findall("^# .*$", text(**inputs), re.MULTILINE)[0]


@pytest.mark.parametrize(
    ("extra", "broker", "port"),
    [
        ({}, ["redis", 6379], 5432),
        ({"CELERY_BROKER_URL": "rediss://u:p%40@mq.acme.io:7000/1", "DB_PORT": 6432}, ["mq.acme.io", 7000], 6432),
        ({"CELERY_BROKER_URL": "redis://a;redis://b", "DB_PORT": ""}, ["a", 6379], 5432),
        ({"CELERY_BROKER_URL": "amqp://u:p@mq.acme.io/shop"}, ["mq.acme.io", 5672], 5432),
        ({"CELERY_BROKER_URL": "amqps://mq.acme.io:5000//"}, ["mq.acme.io", 5000], 5432),
        ({"CELERY_BROKER_URL": "sentinel://a;sentinel://b"}, ["a", 26379], 5432),
    ],
)
def test_health_checks_know_queue_and_database_by_no_name_of_a_variable(extra, broker, port):
    inputs = {**BASE, "senex_extra_environment": extra, "senex_environment_names": {"SECRET_KEY": "KEY"}, "senex_secret_files": True}
    assert value("celery", "__celery_broker", **inputs) == broker and int(value("celery", "__celery_database_port", **inputs)) == port
    files, _ = component("celery", **inputs)
    assert f'broker = "{broker[0]}", {broker[1]}\n' in files["config/celery/worker_health.py"][0]
    assert f"start({port}, " in files["config/celery/beat_health.py"][0]


def test_an_image_is_checked_with_the_names_and_files_of_the_inventory():
    wanted = handed_over(
        senex_environment_names={"CELERY_BROKER_URL": "BROKER", "DB_PASSWORD": "PW"},
        senex_secret_files=["DB_PASSWORD", "STRIPE_KEY"],
        senex_extra_environment={"STRIPE_KEY": "{{ vault_stripe_key }}"},
        vault_stripe_key="sk_live_0123456789abcdef",
    )["wanted"]
    assert re.search("^BROKER=redis://", wanted["environment"], re.MULTILINE) and "PW_FILE=/run/secrets/PW\n" in wanted["environment"]
    assert wanted["secrets"]["environment_PW"] == wanted["passwords"]["DB_PASSWORD"] and wanted["broker"].endswith("@redis:6379/2")
    assert re.fullmatch("[a-z]{2}_[a-z]{4}_[0-9]{10}[a-f]{6}", wanted["secrets"]["environment_STRIPE_KEY"]) and "0123456789abcdef" not in str(wanted)


@pytest.mark.parametrize(("files", "times"), [([], 1), (False, 1), (["SENTRY_DSN"], 2)])
@pytest.mark.parametrize("role", ["django", "celery"])
def test_what_asks_for_files_of_secrets_makes_no_environment_where_there_are_none(role, files, times, tmp_path):
    """A variable that a template names is made also where the branch with it is not taken; each time is a fifth of a second of a run without a change."""
    asked = tmp_path / "asked"
    counted = "{{ lookup('ansible.builtin.pipe', 'echo >> " + str(asked) + "; echo https://x') }}"
    component(role, **{**BASE, "senex_sentry_dsn": counted, "senex_secret_files": files})
    made = len(asked.read_text().splitlines())
    assert made == times if times == 1 else made >= times
