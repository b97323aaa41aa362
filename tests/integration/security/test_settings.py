"""An application with names of its own and its secrets as files: run, deployed, its secrets rotated, and brought back to variables."""

import json

import pytest
from releases import SETTINGS, unlocked, versions
from rotations import Environment, manage
from stack import WEB

pytestmark = pytest.mark.faults

OWN = ("DB_PASSWORD", "DB_PORT", "DB_USER", "SECRET_KEY", "FIELD_ENCRYPTION_KEY", "CELERY_BROKER_URL", "REDIS_URL")
INPUTS = {
    **SETTINGS,
    "senex_environment_names": {**{name: f"OWN_{name}" for name in OWN}, "SENTRY_DSN": ""},
    "senex_secret_files": True,
    "senex_extra_environment": {"DATABASE_URL": "{{ senex_database_url }}"},
}
ROTATED = ("database_password", "redis_password", "field_encryption_key")
# In a container of the application: what the address opens, and who may read the file
ADDRESS = "import os, psycopg; print(psycopg.connect(open(os.environ['DATABASE_URL_FILE']).read()).execute('select current_user').fetchone()[0])"


@pytest.fixture(scope="module")
def own(stack, tmp_path_factory):
    """The host with these, and the vault that it has from then on."""
    env = Environment(tmp_path_factory.mktemp("environment"), INPUTS)
    stack.play(inventory=env.inventory).expect()
    stack.ready(120)
    return env


def variables(stack, container):
    """The environment that a container was made with."""
    words = json.loads(stack.user("podman", "inspect", container))[0]["Config"]["Env"]
    return dict(word.split("=", 1) for word in words)


def secrets_of(env):
    return [env.vault()[f"vault_{name}"] for name in ("database_password", "redis_password", "secret_key", "field_encryption_key")]


@pytest.mark.parametrize("container", [*WEB, "celery-worker", "celery-beat"])
def test_no_secret_is_in_the_environment_and_the_files_are_the_applications_own(stack, own, container):
    found, secrets = variables(stack, container), secrets_of(own)
    assert found["OWN_DB_PASSWORD_FILE"] == "/run/secrets/OWN_DB_PASSWORD" and found["DATABASE_URL_FILE"] == "/run/secrets/DATABASE_URL"
    assert not {"DB_PASSWORD", "DB_PASSWORD_FILE", "OWN_DB_PASSWORD", "SECRET_KEY", "SENTRY_DSN"} & set(found)
    assert not [name for name, text in found.items() if any(secret in text for secret in secrets)]
    listed = stack.user("podman", "exec", container, "stat", "-c", "%a %u %n", "/run/secrets/OWN_DB_PASSWORD", "/run/secrets/DATABASE_URL")
    assert listed.split("\n")[:2] == ["400 1000 /run/secrets/OWN_DB_PASSWORD", "400 1000 /run/secrets/DATABASE_URL"]


def test_the_application_works_and_a_second_run_changes_nothing(stack, own):
    stack.task_runs()
    assert stack.user("podman", "exec", "web-1", "python", "-c", ADDRESS).strip() == "senex"
    play = stack.play(inventory=own.inventory).expect()
    assert play.changed == [] and play.restarts() == []


def test_a_deploy_plans_and_migrates_with_the_files(stack, own):
    stack.play(playbook="playbooks/deploy.yml", tags="all", inventory=own.inventory, variables={"django_image_tag": "2"}).expect()
    assert versions(stack) == {"2"} and unlocked(stack)


def test_another_vaults_key_is_refused_though_the_host_does_not_keep_it_in_its_file(stack, own):
    refused = stack.play(inventory=own.inventory, variables={"senex_field_encryption_key": "A" * 43 + "="}, tags="django")
    assert refused.code != 0 and "senex_field_encryption_key: is none or another key" in str(refused.errors)


def test_secrets_are_rotated(stack, own):
    before = own.vault()
    stack.play(timeout=900, **own.rotation(ROTATED)).expect()
    after = own.vault()
    assert all(after[f"vault_{name}"] != before[f"vault_{name}"] for name in ROTATED)
    stack.ready(120)
    stack.task_runs()
    assert stack.user("podman", "exec", "web-1", "python", "-c", ADDRESS).strip() == "senex"
    assert manage(stack, "from django.conf import settings; print(settings.FIELD_ENCRYPTION_KEYS)") == repr([after["vault_field_encryption_key"]])


def test_back_to_variables_no_secret_stays_in_podmans_store(stack, own):
    plain = {"senex_environment_names": {}, "senex_secret_files": [], "senex_extra_environment": {}}
    stack.play(inventory=own.inventory, variables=plain).expect()
    stack.ready(120)
    assert "environment_" not in stack.user("podman", "secret", "ls")
    assert variables(stack, "web-1")["DB_PASSWORD"] == own.vault()["vault_database_password"]
    stack.task_runs()
