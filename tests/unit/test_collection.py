"""The collection as an archive: it builds, holds what it needs and nothing of the tests, and its playbook runs by its full name."""

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# As a user elsewhere: neither the checkout's configuration nor its collections
OUTSIDE = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}


def run(*argv, **environment):
    result = subprocess.run(argv, capture_output=True, text=True, cwd="/", env={**OUTSIDE, **environment}, timeout=180, check=False)
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
    assert not [name for name in names if name.endswith(("vault-password", "vault.yml"))]


def test_site_runs_by_its_full_name_from_the_installed_archive(archive, tmp_path):
    home = tmp_path / "installed"
    run("ansible-galaxy", "collection", "install", str(archive), "-p", str(home), "--no-deps", ANSIBLE_COLLECTIONS_PATH=str(home))
    inventory = tmp_path / "hosts.yml"
    groups = ("postgresql", "redis", "web", "celery", "celery_beat", "nginx")
    inventory.write_text("".join(f"{group}: {{hosts: {{somewhere: {{}}}}}}\n" for group in groups), encoding="utf-8")
    listed = run(
        "ansible-playbook", "senex.trader.site", "-i", str(inventory), "--tags", "phase2", "--list-tasks",
        ANSIBLE_COLLECTIONS_PATH=str(home),
    )
    for role in ("common", "podman", "postgresql", "redis", "django", "celery", "nginx"):
        assert f"senex.trader.{role}" in listed or f"{role} :" in listed
