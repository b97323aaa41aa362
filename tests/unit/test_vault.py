"""Vaults and the playbook that makes them, on the controller alone."""

import pathlib
import re
import shutil
import stat
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from types import SimpleNamespace

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret
from controller import ROOT, run, view

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
STORY = []


def begin(items):
    """Called when the tests are known. The playbooks take longest of all, so they run beside the other tests, in a process that those do not patch."""
    if any("canary" in item.fixturenames for item in items):
        place = tempfile.TemporaryDirectory()  # goes with this process too, where the tests do not come that far
        STORY.append((place, ProcessPoolExecutor(1, get_context("fork")).submit(told, pathlib.Path(place.name))))


def variables(environment):
    return (ROOT / "inventory" / environment / "group_vars" / "all" / "main.yml").read_text()


def test_the_demo_vault_holds_what_main_yml_maps_and_nothing_else():
    vault = ROOT / "inventory/demo/group_vars/all/vault.yml"
    assert vault.read_text().startswith("$ANSIBLE_VAULT;1.2;AES256;demo\n")
    names = set(view(vault, f"demo@{ROOT}/inventory/demo/vault-password"))
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


def test_a_password_opens_no_vault_of_another_environment(tmp_path):
    password, vault = tmp_path / "password", tmp_path / "vault.yml"
    password.write_text("the same for both\n")
    vault.write_text("vault_a: 1\n")
    made = run("ansible-vault", "encrypt", "--encrypt-vault-id", "staging", vault, ANSIBLE_VAULT_IDENTITY_LIST=f"staging@{password}")
    assert made.returncode == 0, made.stderr
    assert view(vault, f"staging@{password}") == {"vault_a": 1}
    assert view(vault, f"production@{password}") is None


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
def canary():
    """What became of the new environment."""
    place, story = STORY.pop()
    with place:
        yield story.result()


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
