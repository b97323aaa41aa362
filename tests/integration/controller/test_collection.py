"""The collection as an archive: it builds, holds what it needs and nothing of the tests, and its playbook runs by its full name."""

import os
import re
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
# As a user elsewhere: neither the checkout's configuration nor its collections
OUTSIDE = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}


def run(*argv, cwd="/", **environment):
    result = subprocess.run(argv, capture_output=True, text=True, cwd=cwd, env={**OUTSIDE, **environment}, timeout=180, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    target = tmp_path_factory.mktemp("build")
    run("ansible-galaxy", "collection", "build", str(ROOT), "--output-path", str(target))
    (found,) = target.glob("senex-trader-*.tar.gz")
    return found


def test_archive_holds_the_collection_and_no_tests_or_secrets(archive):
    with tarfile.open(archive) as tar:
        names = set(tar.getnames())
    playbooks = ("playbooks/site.yml", "playbooks/tasks/check_inventory.yml")
    for needed in ("roles/django/tasks/main.yml", "plugins/action/quadlet.py", "templates/quadlet.j2", *playbooks):
        assert needed in names
    assert not [name for name in names if name.startswith(("tests/", "molecule/", "inventory/", "artifacts/", ".git/", "ansible_collections/"))]
    assert not {Path(name).name for name in names} & {"vault-password", "vault.yml"}


def test_site_runs_by_its_full_name_from_the_installed_archive(archive, tmp_path):
    home = tmp_path / "installed"
    run("ansible-galaxy", "collection", "install", str(archive), "-p", str(home), "--no-deps", ANSIBLE_COLLECTIONS_PATH=str(home))
    inventory = tmp_path / "hosts.yml"
    groups = ("postgresql", "redis", "web", "celery", "celery_beat", "nginx")
    inventory.write_text("".join(f"{group}: {{hosts: {{somewhere: {{}}}}}}\n" for group in groups), encoding="utf-8")
    listed = run(
        "ansible-playbook",
        "senex.trader.site",
        "-i",
        str(inventory),
        "--tags",
        "phase2",
        "--list-tasks",
        ANSIBLE_COLLECTIONS_PATH=str(home),
    )
    for role in ("common", "podman", "postgresql", "redis", "django", "celery", "nginx"):
        assert f"senex.trader.{role}" in listed or f"{role} :" in listed


def test_the_first_steps_work_from_the_archive_and_an_empty_directory(archive, tmp_path):
    """As the README has them for whoever has no checkout."""
    home, work = tmp_path / "installed", tmp_path / "work"
    work.mkdir()
    run("ansible-galaxy", "collection", "install", str(archive), "-p", str(home), "--no-deps", ANSIBLE_COLLECTIONS_PATH=str(home))
    outside = {"ANSIBLE_COLLECTIONS_PATH": str(home), "HOME": str(tmp_path), "ANSIBLE_NOCOLOR": "1"}
    (step,) = re.findall(r"`(ansible-playbook senex\.trader\.new_environment [^`]+)`", (ROOT / "README.md").read_text(encoding="utf-8"))
    said = run(*step.split(), "-e", "vault_place_is_kept=true", cwd=work, **outside)
    vault = work / "inventory/shop/group_vars/all/vault.yml"
    assert vault.read_text(encoding="ascii").startswith("$ANSIBLE_VAULT;1.2;AES256;shop\n")
    assert (work / "inventory/shop/hosts.yml").exists() and os.access(work / "inventory/vault-client", os.X_OK)
    (said_next,) = re.findall(r"ansible-playbook senex\.trader\.preflight -i inventory/shop", " ".join(said.split()))
    # The configuration that it wrote opens the vault: nothing is edited by hand
    kept = ("-i", "inventory/shop", "-e", "vault_place_is_kept=true")
    refused = subprocess.run(said_next.split(), capture_output=True, text=True, cwd=work, env={**OUTSIDE, **outside}, timeout=180, check=False)
    left = " ".join((refused.stdout + refused.stderr).split())
    assert refused.returncode != 0 and "senex_domain: is still a placeholder (CHANGE_ME) in inventory/shop/group_vars/all/main.yml, line 4" in left
    assert "vault_registry_password: is still a placeholder in inventory/shop/group_vars/all/vault.yml" in left
    assert "changed=0" in run("ansible-playbook", "senex.trader.secrets", *kept, cwd=work, **outside)
    assert "redis_password  (last: not known)" in run("ansible-playbook", "senex.trader.rotate", *kept, cwd=work, **outside)


# All that are run by hand; validate.yml, release.yml, rotate_stage.yml and require_hosts.yml are parts of others
BY_HAND = sorted(
    path.name for path in (ROOT / "playbooks").glob("*.yml") if path.name not in ("validate.yml", "release.yml", "rotate_stage.yml", "require_hosts.yml")
)
SENTENCE = "Ansible does not find the collection senex.trader. Run the playbook in the checkout's own directory"


def read_only(playbook, cwd, home):
    """Ansible reads a playbook as a user does who has no collection installed; nothing is run."""
    argv = ["ansible-playbook", str(playbook), "-i", str(ROOT / "inventory/demo"), "--list-tasks"]
    return subprocess.run(argv, capture_output=True, text=True, cwd=cwd, env={**OUTSIDE, "HOME": str(home)}, timeout=180, check=False)


@pytest.mark.parametrize("name", BY_HAND)
def test_a_playbook_asks_first(name):
    """By the role of the shared defaults, which Ansible takes from playbooks/roles where it finds no collection, or by the task itself."""
    first = yaml.safe_load((ROOT / "playbooks" / name).read_text(encoding="utf-8"))[0]
    while imported := first.get("ansible.builtin.import_playbook"):
        first = yaml.safe_load((ROOT / "playbooks" / imported).read_text(encoding="utf-8"))[0]
    role = [one["role"] for one in first.get("roles", [])][:1]
    assert role == ["senex.trader.senex"] or first["tasks"][0]["ansible.builtin.import_tasks"] == "tasks/here.yml"


@pytest.mark.parametrize("name", ["../site.yml", "deploy.yml", "secrets.yml", "releases.yml"])
def test_a_playbook_that_is_run_from_elsewhere_says_so(tmp_path, name):
    done = read_only(ROOT / "playbooks" / name, tmp_path, tmp_path)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode and said.startswith("[ERROR]:") and SENTENCE in said, said
    assert "was not found" not in said and "couldn't resolve" not in said


def test_a_checkout_that_everybody_may_write_to_says_so(tmp_path):
    """Ansible ignores the ansible.cfg of such a directory."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for name in ("ansible_collections", "inventory", "playbooks", "roles", "site.yml", "ansible.cfg"):
        (checkout / name).symlink_to(ROOT / name)
    good = read_only("site.yml", checkout, tmp_path)
    assert good.returncode == 0, good.stderr
    checkout.chmod(0o777)
    done = read_only("site.yml", checkout, tmp_path)
    assert done.returncode and SENTENCE in " ".join(done.stderr.split()), done.stderr
