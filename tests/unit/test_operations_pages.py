"""docs/operations: links lead to headings, what a page gives to type exists, and every alert of the checks is explained."""

import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest
import watched  # noqa: F401  (makes senex_ops importable)

from senex_ops import command  # isort: skip

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs/operations").glob("*.md"))
ALERTS = (ROOT / "docs/operations/watchdog.md").read_text(encoding="utf-8").partition("## Alerts")[2].partition("\n## ")[0]
CHECKS = ROOT / "roles/watchdog/files/senex_ops"
BLOCK = re.compile(r"^ {4,}(\S.*)$", re.MULTILINE)
# Names of playbook variables are nowhere declared; a name that no YAML file holds is none
SOURCES = "\n".join(path.read_text(encoding="utf-8") for kind in ("playbooks", "roles", "inventory") for path in (ROOT / kind).rglob("*.yml"))


def text_of(page):
    return page.read_text(encoding="utf-8")


def anchors(page):
    """Headings as GitHub names them."""
    headings = re.findall(r"^#{1,6} (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_headings(page):
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", text_of(page)):
        assert anchor in anchors((page.parent / target).resolve() if target else page), f"{target}#{anchor}"


def commands(page):
    """Lines to type, without their comments; a line that ends with a backslash goes on."""
    joined = text_of(page).replace(" \\\n", " ")
    return [re.split(r"\s+(?:#|\||[<>]/)", line)[0] for line in BLOCK.findall(joined)]


def pitr_parser():
    spec = importlib.util.spec_from_file_location("pitr_program_of_pages", ROOT / "roles/pitr/files/pitr.py")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(ROOT / "roles/pitr/files"))
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page):
    for line in commands(page):
        words = shlex.split(line)
        match words[:1]:
            case ["senex"] if words[1] in ("pitr", "restore"):
                pitr_parser().parse(words[2:] if words[1] == "pitr" else words[1:])
            case ["senex"] if words[1] in command.PASSED:
                pass
            case ["senex"]:
                command.parser().parse_args(words[1:])
            case ["ansible-playbook"]:
                assert (ROOT / words[1]).exists(), line
                for name in re.findall(r"-e [\"']?(\w+)=", line):
                    assert name == "ansible_host" or re.search(rf"\b{name}\b", SOURCES), f"no variable {name}: {line}"


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES, *sorted((ROOT / "docs/user").glob("*.md"))], ids=lambda page: page.name)
def test_tags_are_components(page):
    """What a page gives to type applies components; a phase is a word of the development plan."""
    tagged = set(re.findall(r"^  tags: \[(\w+)", text_of(ROOT / "playbooks/site.yml"), re.MULTILINE)) - {"always"}
    assert "redis" in tagged
    for given in re.findall(r"--tags[ =]([\w,]+)", text_of(page)):
        assert set(given.split(",")) <= {tag for tag in tagged if not tag.startswith("phase")}, given


def keys():
    """The beginning of each finding's name, as far as the source has it as text."""
    found = set()
    for path in sorted(CHECKS.glob("checks_*.py")):
        text = path.read_text(encoding="utf-8")
        found |= set(re.findall(r'(?:\bfail|\bwarn|\blevel|\))\(f?"([a-z][a-z ]*)', text))
        found |= set(re.findall(r'^ +key\b.*?= f?"([a-z][a-z ]*)', text, re.MULTILINE))
    return sorted(key.strip() for key in found)


def test_keys_were_found():
    assert {"disk", "database", "unit", "rotation", "tasks with a countdown"} <= set(keys())


@pytest.mark.parametrize("key", keys())
def test_every_alert_is_explained(key):
    assert re.search(rf"^\| `{re.escape(key)}\b", ALERTS, re.MULTILINE), f"no row for '{key}'"
