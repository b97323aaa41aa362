"""Pages for users and developers: links lead to headings, what is to be typed exists, and the words are those of docs/developer/glossary.md."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GENERATED = {"variables.md", "figures.md"}
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "inventory/demo/README.md")),
    *(page for kind in ("user", "developer") for page in sorted((ROOT / "docs" / kind).rglob("*.md")) if page.name not in GENERATED),
]
FRAGMENTS = sorted((ROOT / "changelogs/fragments").glob("*.yml"))
SOURCES = "\n".join(
    path.read_text(encoding="utf-8") for kind in ("playbooks", "roles", "inventory") for path in (ROOT / kind).rglob("*") if path.suffix in (".yml", ".j2")
)
# What the glossary replaces, as far as no usual sentence has it
OLD_WORDS = ("way back", "stand-in", "prober", "bear", "bears", "bearable", "the deed", "rests", "cure", "cured", "mended", "goes on", "trouble", "whoever is")


def plain(page):
    """A page's own sentences: without blocks and names of the code."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".md":
        text = "\n".join(line for line in text.splitlines() if not line.startswith("    "))
    return re.sub(r"`[^`\n]*`|\]\([^)]*\)", "", text)


def anchors(page):
    """Headings as forges name them."""
    headings = re.findall(r"^#{1,6} (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(page):
    """Blocks and what is between backticks, with lines that go on."""
    text = page.read_text(encoding="utf-8").replace(" \\\n", " ")
    return [block or inline for block, inline in re.findall(r"^ {4,}(\S.*)$|`([^`\n]+)`", text, re.MULTILINE)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_headings(page):
    for target, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)]+))?\)", page.read_text(encoding="utf-8")):
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_is_to_be_typed_exists(page):
    for text in commands(page):
        for playbook in re.findall(r"\b(playbooks/\w+\.yml)", text):
            assert (ROOT / playbook).exists(), text
        for name in re.findall(r"-e [\"'{]*(\w+)(?:=|\":)", text) if text.startswith(("ansible-playbook", "-e ", "playbooks/", "site.yml")) else []:
            assert name == "NAME" or re.search(rf"\b{name}\b", SOURCES), f"no variable {name}: {text}"


@pytest.mark.parametrize("page", [*(page for page in PAGES if page.name != "glossary.md"), *FRAGMENTS], ids=lambda page: page.name)
def test_words_are_those_of_the_glossary(page):
    text = plain(page)
    assert not [word for word in OLD_WORDS if re.search(rf"\b{word}\b", text, re.IGNORECASE)]
