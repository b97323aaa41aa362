"""What is installed to drive and to test the collection: these files and no others."""

import importlib.metadata
import json
import re
import sys
from pathlib import Path

import ansible_collections
import pytest
import yaml
from packaging.markers import Marker

ROOT = Path(__file__).parents[2]
PINNED = re.compile(r"([a-z0-9-]+)==([0-9][0-9a-z.]*)( ;[^#\\]+?)?(?: +--hash=sha256:[0-9a-f]{64})+")


def rows(path):
    text = (ROOT / path).read_text(encoding="utf-8").replace(" \\\n", "")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def here(marker):
    """Whether a line is for this interpreter."""
    return not marker.strip(" ;") or Marker(marker.strip(" ;")).evaluate()


def locked():
    return {found[1]: found[2] for line in rows("requirements.txt") if (found := PINNED.fullmatch(line)) and here(found[3] or "")}


@pytest.mark.parametrize("path", ["requirements.txt", "tests/images/demo/requirements.txt"])
def test_each_package_has_its_version_and_hashes(path):
    """One without a hash would do for all: pip then wants none of them."""
    assert [line for line in rows(path) if not PINNED.fullmatch(line)] == []


def test_what_is_asked_for_by_name_is_what_is_locked():
    lines = [line.partition(";") for line in rows("requirements.in")]
    asked = dict(re.sub(r"\[.*\]", "", line).strip().split("==") for line, _, marker in lines if here(marker))
    assert {name: locked().get(name) for name in asked} == asked


def test_nothing_is_locked_that_is_not_installed_here_and_the_other_way_round():
    """What another package asks for is in the file too, or pip would refuse."""
    for name, version in locked().items():
        assert importlib.metadata.version(name) == version, name


def test_whoever_installs_them_wants_the_hashes():
    callers = [
        path
        for path in (*ROOT.glob("tests/runner/*.py"), ROOT / "tests/images/demo/prepare")
        if '"pip"' in path.read_text() or "pip download" in path.read_text()
    ]
    assert callers and all("--require-hashes" in path.read_text() for path in callers)


def test_collections_are_exactly_those_that_are_tested():
    wanted = {row["name"]: row["version"] for row in yaml.safe_load((ROOT / "requirements.yml").read_text())["collections"]}
    places = [Path(place) for place in ansible_collections.__path__ if (Path(place) / "community").is_dir()]
    for name, version in wanted.items():
        (there,) = {
            json.loads(path.read_text())["collection_info"]["version"] for place in places for path in [place / name.replace(".", "/") / "MANIFEST.json"]
        }
        assert there == str(version), name
    ranges = yaml.safe_load((ROOT / "galaxy.yml").read_text())["dependencies"]
    assert set(ranges) == set(wanted)
    for name, lowest in ranges.items():
        assert [int(word) for word in wanted[name].split(".")] >= [int(word) for word in lowest.removeprefix(">=").split(".")]


def test_an_execution_environment_has_what_the_controller_imports():
    """Not requirements.txt, which ansible-builder would take for it: those are the tools of the tests."""
    meta = yaml.safe_load((ROOT / "meta/execution-environment.yml").read_text())["dependencies"]
    assert set(meta) == {"python", "system"} and all((ROOT / path).is_file() for path in meta.values())
    wanted = dict(line.split(">=") for line in rows(meta["python"]))
    # yaml and jinja2 come with ansible-core
    texts = [path.read_text() for kind in ("action", "filter", "lookup", "plugin_utils") for path in (ROOT / "plugins" / kind).glob("*.py")]
    imported = {name for text in texts for name in re.findall(r"(?m)^ *(?:from|import) ([a-z0-9_]+)", text)} - set(sys.stdlib_module_names)
    optional = {"bcrypt"}  # where libcrypt has it not, which those of Linux have
    assert imported - optional - {"ansible", "ansible_collections", "yaml", "jinja2"} == set(wanted) == {"cryptography"}
    for name, lowest in wanted.items():
        assert [int(word) for word in locked()[name].split(".")] >= [int(word) for word in lowest.split(".")]
    assert all(re.fullmatch(r"[a-z-]+( \[platform:(dpkg|rpm)\])?", line) for line in rows(meta["system"]))
