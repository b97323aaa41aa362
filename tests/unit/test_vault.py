"""Vaults and the client that opens them. The playbooks that make them: tests/integration/playbooks/test_vault_runs.py."""

import re

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret
from controller import ROOT, run

ENVIRONMENTS = ["demo", "staging", "production"]
MADE = [
    "vault_secret_key",
    "vault_field_encryption_key",
    "vault_database_password",
    "vault_redis_password",
    "vault_flower_password",
    "vault_backup_passphrase",
    "vault_ca_passphrase",
    "vault_ca_private_key",
    "vault_ca_certificate",
]


def variables(environment):
    return (ROOT / "inventory" / environment / "group_vars" / "all" / "main.yml").read_text()


def test_the_demo_vault_holds_what_main_yml_maps_and_nothing_else():
    vault = ROOT / "inventory/demo/group_vars/all/vault.yml"
    assert vault.read_text().startswith("$ANSIBLE_VAULT;1.2;AES256;demo\n")
    password = (ROOT / "inventory/demo/vault-password").read_bytes().strip()
    names = set(yaml.safe_load(VaultLib([("demo", VaultSecret(password))]).decrypt(vault.read_bytes())))
    assert names == set(re.findall(r"\{\{ (vault_\w+) \}\}", variables("demo")))
    assert all(name.startswith("vault_") for name in names)


def test_only_the_demo_commits_a_vault_and_a_password():
    tracked = run("git", "ls-files", "inventory", "templates").stdout.split()
    secret = [path for path in tracked if path.endswith(("vault.yml", "vault-password"))]
    assert secret == ["inventory/demo/group_vars/all/vault.yml", "inventory/demo/vault-password"]
    assert (ROOT / "inventory/demo/vault-password").read_text().startswith("demo-only-not-a-secret-")


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_main_yml_maps_each_secret_once_and_holds_none(environment):
    text = variables(environment)
    assert yaml.safe_load(text)["senex_environment"] == environment
    names = re.findall(r'"\{\{ (vault_\w+) \}\}"', text)
    assert len(names) == len(set(names)) and set(MADE) <= set(names)
    assert len(re.findall(r"\{\{ vault_", text)) == len(names), "a vault variable is mapped as it is, or not at all"


def throwaway(client, home):
    """What a command that only reads vaults is told."""
    reader = home / "ansible-playbook"
    if not reader.exists():
        reader.symlink_to("/bin/sh")
    asked = run(reader, "-c", f"{client} --vault-id staging; exit $?", home=home)
    assert asked.returncode == 0 and asked.stdout.startswith("no-password-for-staging-"), asked.stderr
    return asked.stdout


def test_the_client_answers_for_each_environment_apart(tmp_path):
    client = ROOT / "inventory/vault-client"
    asked = run(client, "--vault-id", "staging", home=tmp_path, SENEX_VAULT_PASSWORD_STAGING="from $the 'environment'")
    assert asked.stdout == "from $the 'environment'\n"
    (tmp_path / ".config/senex.trader").mkdir(parents=True)
    (tmp_path / ".config/senex.trader/production.vault-password").write_text("from the file\n")
    assert run(client, "--vault-id", "production", home=tmp_path).stdout == "from the file\n"
    assert run(client, "--check", "--vault-id", "production", home=tmp_path).stdout == ""
    missing = run(client, "--check", "--vault-id", "staging", home=tmp_path)
    assert missing.returncode == 2 and "SENEX_VAULT_PASSWORD_STAGING" in missing.stderr
    assert len({throwaway(client, tmp_path) for _ in range(2)}) == 2, "without a password the answer must open nothing"
    assert run(client, "--vault-id", "../staging", home=tmp_path).returncode == 1
