"""What `ansible-test sanity` is given, and what it is not to say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/runner"))

import sanity  # noqa: E402  (the path above must come first)

IGNORED = [line.partition(" # ") for line in (ROOT / "tests/sanity/ignore.txt").read_text().splitlines()]


def test_it_looks_at_what_the_archive_holds():
    listed = ["galaxy.yml", "plugins/modules/quadlet.py", "roles/redis/README.md", "changelogs/fragments/x.yml", ".github/workflows/test.yml",
              "tests/unit/x.py", "molecule/redis/molecule.yml", "inventory/demo/hosts.yml", "x.tar.gz", "plugins/x.pyc"]  # fmt: skip
    assert sanity.archived(listed) == listed[:4]
    assert yaml.safe_load((ROOT / "galaxy.yml").read_text())["build_ignore"], "read as text there"


def test_each_thing_that_it_is_not_to_say_has_its_reason():
    assert [line for line, _, reason in IGNORED if len(reason) < 6 or len(line.split(" ")) != 2] == []
    assert [line for line, *_ in IGNORED if not (ROOT / line.split(" ")[0]).is_file()] == []


def test_each_plugin_with_documents_is_named_for_the_licence():
    """Before the linter asks for a header of another licence."""
    for path in (*ROOT.glob("plugins/modules/*.py"), *ROOT.glob("plugins/lookup/*.py")):
        assert f"{path.relative_to(ROOT)} validate-modules:missing-gplv3-license" in [line for line, *_ in IGNORED], path.name


@pytest.mark.parametrize(
    ("name", "whole"),
    [("plugins/filter/x.py", True), ("changelogs/x.yml", True), ("galaxy.yml", True), ("docs/generate.py", False), ("tests/unit/x.py", False)],
)
def test_quick_runs_it_for_what_it_looks_at(name, whole):
    assert bool(sanity.LOOKED_AT.match(name)) is whole


def test_pip_gets_the_settings_of_whoever_calls(tmp_path, monkeypatch):
    """ansible-test hands no variable on to pip, and has a home of its own."""
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip/pip.conf").write_text("[global]\ntimeout = 5\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("SENEX_LAB_DIR", str(tmp_path / "lab"))
    monkeypatch.setenv("PIP_FIND_LINKS", "here")
    home = sanity._home("24.2")
    copy = home / ".config/pip/pip.conf"
    assert {"timeout = 5", "find-links = here"} <= set(copy.read_text().splitlines()) and copy.stat().st_mode & 0o777 == 0o600
    script = home / ".ansible/test/cache/get_pip_24_2.py"
    assert subprocess.run([sys.executable, "-m", "py_compile", script], check=False).returncode == 0 and "://" not in script.read_text()


def test_filters_can_be_shown():
    """ansible-doc asks for a description, whose lack no run notices."""
    for path in (ROOT / "plugins/filter").glob("*.yml"):
        assert re.search(r"(?m)^  description:", path.read_text()), path.name
