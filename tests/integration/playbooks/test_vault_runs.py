"""The playbooks that make a vault and fill it up, and what opens one. Without a run: tests/unit/test_vault.py."""

import re
import shutil
import stat
import sys
from types import SimpleNamespace

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret
from controller import ROOT, run, view
from test_vault import MADE


def test_a_password_opens_no_vault_of_another_environment(tmp_path):
    password, vault = tmp_path / "password", tmp_path / "vault.yml"
    password.write_text("the same for both\n")
    vault.write_text("vault_a: 1\n")
    made = run("ansible-vault", "encrypt", "--encrypt-vault-id", "staging", vault, ANSIBLE_VAULT_IDENTITY_LIST=f"staging@{password}")
    assert made.returncode == 0, made.stderr
    assert view(vault, f"staging@{password}") == {"vault_a": 1}
    assert view(vault, f"production@{password}") is None


def test_nothing_is_encrypted_without_the_password(tmp_path):
    plain = tmp_path / "vault.yml"
    plain.write_text("vault_a: 1\n")
    refused = run("ansible-vault", "encrypt", "--encrypt-vault-id", "production", plain, home=tmp_path)
    assert refused.returncode != 0 and plain.read_text() == "vault_a: 1\n"


def secrets(inventory, home, *words):
    identity = f"canary@{ROOT}/inventory/vault-client"
    words = ["-e", "vault_place_is_kept=true", *words]  # these tests may run in a container
    return run("ansible-playbook", "playbooks/secrets.yml", "-i", inventory, *words, home=home, ANSIBLE_VAULT_IDENTITY_LIST=identity)


def new_environment(home, *words):
    """In a directory of its own."""
    words = ["-e", "senex_environment=canary", "-e", "vault_place_is_kept=true", *words]
    environment = {"ANSIBLE_VAULT_IDENTITY_LIST": f"canary@{ROOT}/inventory/vault-client", "ANSIBLE_COLLECTIONS_PATH": str(ROOT)}
    return run("ansible-playbook", ROOT / "playbooks/new_environment.yml", *words, cwd=home, home=home, **environment)


def told(home):
    """A new environment made by the playbook, a second run, one after a secret was lost, and what is refused: what each said and left."""
    inventory, file = home / "inventory" / "canary", home / ".config/senex.trader/canary.vault-password"
    vault, identity = inventory / "group_vars/all/vault.yml", f"canary@{file}"
    first = new_environment(home, "-vvv", "--diff")
    assert first.returncode == 0, first.stdout + first.stderr
    story = SimpleNamespace(inventory=inventory, said=first.stdout + first.stderr, made=vault.read_bytes(), mode=vault.stat().st_mode)
    story.password, story.values = file.read_text().strip(), view(vault, identity)

    story.second, story.kept = secrets(inventory, home), vault.read_bytes()
    story.lost = {name: value for name, value in story.values.items() if name != "vault_redis_password"}
    vault.write_text("# kept\n" + yaml.safe_dump(story.lost))
    run("ansible-vault", "encrypt", "--encrypt-vault-id", "canary", vault, ANSIBLE_VAULT_IDENTITY_LIST=identity)
    story.again = secrets(inventory, home)
    story.now = yaml.safe_load(VaultLib([("canary", VaultSecret(story.password.encode()))]).decrypt(vault.read_bytes()))

    bare, elsewhere = home / "bare" / "canary", home / "elsewhere"
    elsewhere.mkdir()
    shutil.copytree(inventory, bare)
    (bare / "group_vars/all/vault.yml").unlink()
    story.refused, story.written = secrets(bare, elsewhere), (bare / "group_vars/all/vault.yml").exists()
    story.wrong = secrets(bare, home, "-e", "senex_environment=other")
    return story


@pytest.fixture(scope="module")
def canary(tmp_path_factory):
    """What became of the new environment."""
    return told(tmp_path_factory.mktemp("canary"))


def test_a_new_environment_gets_every_secret_and_shows_none(canary):
    assert set(canary.values) == set(re.findall(r"\{\{ (vault_\w+) \}\}", (canary.inventory / "group_vars/all/main.yml").read_text()))
    assert len(set(map(str, (canary.values[name] for name in MADE)))) == len(MADE)
    for value in [canary.password, *(canary.values[name] for name in MADE)]:
        for line in [line for line in value.splitlines() if not line.startswith("-----")]:
            assert line not in canary.said
    assert stat.S_IMODE(canary.mode) == 0o600
    assert canary.made.startswith(b"$ANSIBLE_VAULT;1.2;AES256;canary\n")


def test_the_made_secrets_pass_the_checks_of_a_run(canary):
    sys.path.insert(0, str(ROOT / "plugins/filter"))
    import checking

    values = canary.values
    kinds = dict(zip(MADE, ["secret_key", "fernet", *["secret"] * 5, "private_key", "certificate"], strict=True))
    assert checking.input_problems({kind: {n: values[n] for n in MADE if kinds[n] == kind} for kind in set(kinds.values())}) == []
    given = {name: value for name, value in values.items() if name not in MADE}
    assert len(checking.input_problems({"optional": given})) == len(given) > 0


def test_a_second_run_changes_nothing_and_a_missing_secret_is_made_alone(canary):
    assert "changed=0" in canary.second.stdout
    assert canary.kept == canary.made

    assert "Made: vault_redis_password'" in canary.again.stdout, canary.again.stdout
    now = dict(canary.now)
    assert now.pop("vault_redis_password") != canary.values["vault_redis_password"]
    assert now == canary.lost


def test_what_the_playbook_refuses(canary):
    assert canary.refused.returncode != 0
    assert "SENEX_VAULT_PASSWORD_CANARY" in canary.refused.stdout and "secrets_create_password_file=true" in canary.refused.stdout
    assert not canary.written
    assert canary.wrong.returncode != 0 and "senex_environment: 'other' must be the name" in canary.wrong.stdout
