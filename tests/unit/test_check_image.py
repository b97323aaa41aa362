"""The check of images against the contract: what it takes from the units, and what it says. What it makes of readings: test_check_image_judge.py."""

import json
import re
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleActionFail
from ansible_collections.senex.trader.plugins.module_utils.contract import bench, points, programs, report
from ansible_collections.senex.trader.plugins.module_utils.engine import unit_options
from image_check import handed_over
from rendered import component, trusted
from test_input_checks import message_of

ROOT = Path(__file__).parents[2]


# -- What comes from the units


def test_the_containers_have_what_the_units_have():
    wanted = handed_over()["wanted"]
    web = unit_options.read(wanted["units"]["web"])
    assert {
        "--read-only",
        "--security-opt=no-new-privileges",
        "--cap-drop=all",
        "--user=1000",
        "--tmpfs=/tmp:rw,mode=1777,size=512m",
        "--env=PORT=8000",
        "--env=INSTANCE=web-1",
    } <= set(web.options)
    assert web.filtered and "clone" in wanted["seccomp"] and any(word.startswith("--memory=") for word in web.limits)
    assert web.words == ["web"] and web.health == ["python3", "/run/senex/health.py"] and (web.stop_timeout, web.start_timeout) == (20, 90)
    assert {(mount.source, mount.target, mount.read_only) for mount in web.mounts} >= {
        ("/senex-check/config/ca.crt", "/run/senex/ca.crt", True),
        ("/senex-check/data/static/2026.11.1", "/app/staticfiles", True),
        ("/senex-check/data/media", "/app/media", False),
    }
    worker = unit_options.read(wanted["units"]["worker"])
    assert worker.words[0] == "celery-worker" and "--concurrency=4" in worker.words and worker.stop_timeout == 300
    release = unit_options.read(wanted["units"]["release"])
    assert release.words == ["manage", "shell", "--command", "exec(open('/run/senex/release.py').read())"]


def test_every_file_that_a_unit_mounts_is_there():
    wanted = handed_over()["wanted"]
    sources = {mount.source.removeprefix("/senex-check/") for text in wanted["units"].values() for mount in unit_options.read(text).mounts}
    assert {source for source in sources if source.startswith("config/")} == set(wanted["files"]) & sources
    assert {source for source in sources if not source.startswith("config/")} == {"data/static/2026.11.1", "data/staticfiles", "data/media", "logs/application"}


def test_the_inventory_counts():
    commands = {"web": ["gunicorn", "shop.wsgi", 'a $b "c" 100%'], "celery-worker": ["celery", "worker"], "celery-beat": ["celery", "beat"], "manage": ["./m"]}
    wanted = handed_over(
        senex_image_commands=commands,
        senex_image_user=1234,
        django_health_alive_path="/up/",
        django_container_port=9000,
        senex_domain="shop.acme.io",
        senex_django_settings_module="shop.settings",
        celery_workers=[{"name": "celery-worker-mail", "queues": ["mail"]}],
        django_static_directory="/srv/static",
        senex_extra_environment={"FEATURE_X": "a=b"},
    )["wanted"]
    web = unit_options.read(wanted["units"]["web"])
    assert web.words == commands["web"] and "--user=1234" in web.options and (wanted["alive"], wanted["port"]) == ("/up/", 9000)
    assert wanted["queues"] == ["mail"] and wanted["celery_app"] == "shop" and wanted["static"] == "/srv/static"
    assert "\nDJANGO_SETTINGS_MODULE=shop.settings\n" in "\n" + wanted["environment"] and "FEATURE_X=a=b\n" in wanted["environment"]
    assert "ALLOWED_HOSTS=shop.acme.io\n" in wanted["environment"]


def test_no_secret_and_no_server_of_the_inventory_is_used():
    theirs = {
        "senex_database_password": "theirs-1",
        "senex_redis_password": "theirs-2",
        "senex_secret_key": "theirs-3",
        "senex_field_encryption_key": "theirs-4",
        "senex_secret_key_fallbacks": ["theirs-5"],
        "senex_ca_certificate": "theirs-6",
        "senex_database_host": "theirs-7",
        "senex_redis_host": "theirs-8",
        "vault_rotation": {"redis_password": {"stage": "accept", "other": "theirs-9"}},
    }
    one, other = (handed_over(**theirs)["wanted"] for _ in range(2))
    assert "theirs" not in json.dumps(one)
    for name in ("SECRET_KEY", "DB_PASSWORD", "FIELD_ENCRYPTION_KEY"):
        values = {re.search(rf"^{name}=(.+)$", wanted["environment"], re.MULTILINE)[1] for wanted in (one, other)}
        assert len(values) == 2 and min(map(len, values)) >= 32


def test_no_word_of_the_vault_is_handed_to_an_image():
    theirs = {
        "vault_stripe_key": "sk_live_0123456789abcdef",
        "vault_mail": {"senders": ["theirs-and-theirs", "production"]},
        "vault_payments_key": "theirs-123456",
        "vault_broken": "{{ nowhere }}",
        "senex_extra_environment": {
            "PAYMENTS": "{{ vault_payments_key }}",
            "STRIPE_KEY": "{{ vault_stripe_key }}",
            "MAILER": "smtp://me:{{ vault_mail.senders[0] }}@mail.acme.io",
            "FERNET": "{{ vault_stripe_key }}=",
            "FEATURE": "sk_live_",
        },
    }
    environment = handed_over(**theirs)["wanted"]["environment"]
    given = dict(line.split("=", 1) for line in environment.splitlines())
    assert not [word for word in ("0123456789abcdef", "theirs") if word in environment]
    assert re.fullmatch(r"[g-z]{2}_[a-z]{4}_[0-9]{10}[a-f]{6}=", given["FERNET"]) and given["FERNET"] == f"{given['STRIPE_KEY']}=", "of the same form"
    assert given["MAILER"].startswith("smtp://me:") and given["MAILER"].endswith("@mail.acme.io") and given["FEATURE"] == "sk_live_"
    assert given["DJANGO_SETTINGS_MODULE"].endswith(".production")


def test_a_point_that_does_not_exist_is_named():
    assert handed_over({"points": "user, secrets"})["points"] == ["user", "secrets"]
    with pytest.raises(AnsibleActionFail, match="check_points: speed is no point; there are user, python"):
        handed_over({"points": ["speed"]})


@pytest.mark.parametrize("role", ["django", "celery"])
def test_no_key_of_a_unit_is_passed_over(role):
    secrets = {f"senex_{name}": "x" * 24 for name in ("database_password", "redis_password", "secret_key", "field_encryption_key")}
    files = component(role, senex_domain="a.io", senex_registry="r", senex_image_tag="1", senex_ca_certificate="x", **secrets)[0]
    read = [unit_options.read(text) for dest, (text, _) in files.items() if dest.endswith(".container")]
    assert len(read) >= 3
    with pytest.raises(ValueError, match="Rootfs= is in a unit and not known"):
        unit_options.read("[Container]\nImage=x\nRootfs=/x\n")


@pytest.mark.parametrize(
    ("text", "words"), [('a "b c" d', ["a", "b c", "d"]), (r'"q\"\\" "$$HOME" "100%%" "t\x09"', ['q"\\', "$HOME", "100%", "t\t"]), ('""', [""])]
)
def test_words_of_a_unit(text, words):
    assert unit_options.words(text) == words


# -- What is said, and what is left


def test_what_is_said():
    findings = [
        report.Finding(report.PASSED, "user 1000", point="user"),
        report.Finding(report.FAILED, "no page", "make one", "alive"),
        report.Finding(report.SKIPPED, "no Celery", point="worker"),
    ]
    assert report.summary("app:1", findings) == "app:1: 1 passed, 1 failed, 1 not applicable (alive)"
    said = report.lines(findings)
    assert len(said) == 4 and said[2].endswith("change: make one") and said[1].index("no page") == said[0].index("user 1000")


def test_each_point_is_in_the_docs():
    page = (ROOT / "docs/user/check-your-image.md").read_text()
    assert [name for name in points.NAMES if f"| `{name}` |" not in page] == []
    assert len(set(points.NAMES)) == len(points.NAMES)


@pytest.mark.parametrize("text", [programs.FACTS, programs.LISTENING, programs.ASK, programs.SEND, *programs.FILES.values()])
def test_programs_compile(text):
    compile(text, "program", "exec")


def test_what_a_program_printed():
    assert bench.answer('warning\nsenex {"a": 1}\nbye') == {"a": 1}
    assert bench.answer("senex broken{") is None and bench.answer("") is None


@pytest.mark.parametrize("said", ["senex " + "[" * 100_000, "senex {"])
def test_an_answer_that_is_none(said):
    assert bench.answer(said) is None


@pytest.mark.parametrize(
    ("limit", "says"), [("10m", "check_time_limit: is a text, and must be a whole number"), (0, "check_time_limit: 0 is too small"), ("900", "")]
)
def test_a_time_limit_is_a_number_of_seconds(limit, says):
    """Ansible takes 10m for 0, which was taken for the default."""
    (play,) = yaml.safe_load((ROOT / "playbooks/check_image.yml").read_text())
    (task,) = [task for task in play["tasks"] if "__check_limit" in task.get("vars", {})]
    said = message_of(task, trusted({"check_time_limit": limit}))
    assert said.startswith(says) and bool(said) == bool(says)


def test_an_inventory_without_workers_is_rendered_as_any_other():
    groups = {"postgresql": ["a"], "web": ["a"], "nginx": ["a"], "redis": [], "celery": [], "celery_beat": []}
    assert handed_over(group_names=["postgresql", "web", "nginx"], groups=groups)["wanted"]["environment"]
