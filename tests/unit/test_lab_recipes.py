"""A snapshot of a converged host is used only while all that it was made of is the same."""

import importlib
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TREES = ("roles", "plugins", "templates", "playbooks", "inventory/demo", "molecule", ".config", "tests/lab", "tests/runner", "tests/images")
FILES = ("site.yml", "ansible.cfg", "requirements.txt", "tests/run")
LAB_MODULES = ("settings", "shell", "images", "registry", "authority", "hosts", "snapshots", "network", "recipes")


@pytest.fixture(scope="module")
def recipes(tmp_path_factory):
    """The lab's recipes, over a copy of the tree that tests change and put back."""
    tmp_path, monkeypatch = tmp_path_factory.mktemp("tree"), pytest.MonkeyPatch()
    for name in TREES:
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True)
    for name in FILES:
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "lab"))
    for name in LAB_MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    found = importlib.import_module("recipes")
    monkeypatch.setattr(found, "REPOSITORY", tmp_path)
    monkeypatch.setattr(found.images, "IMAGES", tmp_path / "tests" / "images")
    found.before = found.keys(found.RECIPES)  # every test puts back what it changed
    yield found
    monkeypatch.undo()
    for name in LAB_MODULES:
        sys.modules.pop(name, None)


def stale(recipes, path, text="\n# another line\n"):
    """The snapshots whose key changes with a file."""
    target = recipes.REPOSITORY / path
    there = target.read_bytes() if target.exists() else None
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target, "a", encoding="utf-8") as handle:
        handle.write(text)
    try:
        return {name for name, key in recipes.keys(recipes.RECIPES).items() if key != recipes.before[name]}
    finally:
        target.unlink() if there is None else target.write_bytes(there)


ALL = {"stack", "two_web_hosts", "common", "podman", "data", "application", "site"}
WHOLE = {"stack", "two_web_hosts"}


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("roles/common/templates/new.j2", ALL),
        ("roles/podman/templates/new.j2", ALL - {"common"}),
        ("roles/redis/templates/redis.conf.j2", WHOLE | {"data", "application", "site"}),
        ("roles/django/templates/web.container.j2", WHOLE | {"application", "site"}),
        ("roles/nginx/templates/site.conf.j2", WHOLE | {"site"}),
        ("roles/certificate/tasks/main.yml", WHOLE | {"data", "application", "site"}),  # called by role postgresql
        ("roles/senex/defaults/main.yml", ALL),  # what all roles depend on
        ("roles/watchdog/templates/new.j2", WHOLE),
        ("plugins/module_utils/host/service_user.py", ALL),
        ("templates/new.j2", ALL),
        ("playbooks/site.yml", WHOLE),
        ("inventory/demo/group_vars/all/main.yml", {"stack"}),
        ("molecule/two_web_hosts/molecule.yml", {"two_web_hosts"}),
        (".config/molecule/config.yml", ALL - {"stack"}),
        ("tests/images/demo/Containerfile", WHOLE | {"application", "site"}),
        ("tests/images/postgres/Containerfile", WHOLE | {"data", "application", "site"}),
        ("tests/images/host/rootfs", ALL),
        ("requirements.txt", ALL),
        ("roles/redis/README.md", set()),
        ("molecule/redis/tests/test_redis.py", set()),
        ("docs/user/nginx.md", set()),
    ],
)
def test_a_change_makes_stale_what_contains_it_and_nothing_else(recipes, path, wanted):
    assert stale(recipes, path) == wanted


def test_a_file_that_goes_counts_too(recipes):
    before = recipes.key("data")
    target = recipes.REPOSITORY / "roles/redis/templates/redis.conf.j2"
    text = target.read_bytes()
    target.unlink()
    try:
        assert recipes.key("data") != before
    finally:
        target.write_bytes(text)


def test_layers_stand_on_each_other(recipes):
    assert recipes.line("site") == ["common", "podman", "data", "application", "site"]
    assert recipes.roles_there("application") == ["common", "podman", "postgresql", "redis", "django"]
    assert recipes.roles_there("stack") == []


def test_a_new_host_has_nothing_of_one_whose_container_was_removed_by_hand(recipes, monkeypatch):
    """Its volume would be its own otherwise, with a database in it."""
    asked = []
    monkeypatch.setattr(recipes.hosts, "run", lambda *words, **_: asked.append(words))
    recipes.hosts._create("demo", "10.203.0.10", "host", None)
    assert asked[0] == ("podman", "volume", "rm", "--force", "demo-opt") and asked[1][:2] == ("podman", "run")
