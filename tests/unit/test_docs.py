"""What the documents say that a machine can check."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DECISIONS = (ROOT / "docs/developer/decisions.md").read_text(encoding="utf-8")
ROWS = [line.split(" | ") for line in DECISIONS.splitlines() if line.startswith("| ") and not line.startswith("| topic")]


@pytest.mark.parametrize("row", ROWS, ids=[row[0].strip("| ") for row in ROWS])
def test_every_decision_stands_where_its_row_says(row):
    places = re.findall(r"`([^`]*?)`(?:,|\s*\|?$)", row[-1].rstrip("| ")) or re.findall(r"`([^`]+)`", row[-1])
    assert places
    for place in places:
        path, _, text = place.replace("::", ": def ").partition(": ")
        target = ROOT / path
        assert target.exists(), f"{path} does not exist"
        files = [target] if target.is_file() else [file for file in target.rglob("*") if file.is_file()]
        assert any(text in file.read_text(encoding="utf-8") for file in files), f"{path} does not hold: {text}"


def test_links_lead_somewhere():
    for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("roles/*/README.md")]:
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name} links to {link}, which is not there"


def test_the_readme_names_each_role():
    found = re.findall(r"(?m)^\| \[`(\w+)`\]\(roles/(\w+)/README\.md\) \|", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert sorted(found) == [(path.name, path.name) for path in sorted((ROOT / "roles").iterdir())]


def test_generated_pages_are_up_to_date():
    result = subprocess.run([sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_a_shared_variable_has_its_whole_comment():
    """Of a comment with several lines the page once had the last one alone."""
    page = (ROOT / "docs/user/variables.md").read_text(encoding="utf-8").partition("\n## Role ")[0]
    said = re.findall(r"(?m)^\| `(senex_\w+)` \| (.+)$", page)
    assert len(said) > 80
    assert [name for name, text in said if not text.startswith("libpq") and not text[0].isupper()] == []


def test_no_relabelling_and_no_reowning():
    for template in [*ROOT.glob("roles/*/templates/*.container.j2"), *ROOT.glob("templates/*.j2")]:
        for line in template.read_text(encoding="utf-8").splitlines():
            if line.startswith("Volume="):
                options = line.rpartition(":")[2]
                assert not {"Z", "z", "U"} & set(options.split(",")), f"{template.name}: {line}"


def test_the_page_of_images_names_their_tests():
    """A row of the contract without a test, or a test without a row."""
    named = set(re.findall(r"`(test_(?:postgres|redis)_\w+)`", (ROOT / "docs/user/images.md").read_text(encoding="utf-8")))
    files = (ROOT / "tests" / "integration" / "images").glob("test_*_image.py")
    there = {name for file in files for name in re.findall(r"^def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)}
    assert named == there


PAGES = [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
CODE = re.compile(r"^(?: {4}|\t)(.+)$|`([^`\n]+)`", re.MULTILINE)


def snippets(page):
    """What a page gives to type: lines of blocks, and what is between backticks."""
    return [block or inline for block, inline in CODE.findall(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_for_root_work_from_roots_session(page):
    """Podman may not enter a container's control group from there; and a command that fails must leave no failed unit."""
    for text in snippets(page):
        assert not re.match(r"(cd \S+; *)?(sudo )?(runuser|su|machinectl shell)\b", text), text
        if "podman exec -" in text or re.search(r"podman exec \S+ ", text):
            assert text.startswith("systemd-run --user"), text
        if text.startswith("systemd-run "):
            assert re.search(r" (-\w*G\w*|--collect)\b", text), text


def test_programs_leave_no_failed_unit():
    """Whatever the collection runs by systemd-run is collected, also where it fails."""
    found = 0
    for path in [*ROOT.glob("roles/**/*"), *ROOT.glob("playbooks/**/*"), *ROOT.glob("plugins/**/*.py")]:
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() and path.suffix in (".py", ".yml", ".j2", ".sh", "") else []:
            if re.search(r"systemd-run\W.*--", line):
                found += 1
                assert "--collect" in line, f"{path.name}: {line.strip()}"
    assert found >= 7


def test_a_page_that_is_named_is_there():
    """Messages, comments and specifications name pages, which move."""
    gone = []
    for folder in ("inventory", "playbooks", "plugins", "roles", "templates", "tests"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".yml", ".j2", ".sh", ".md", "") and path.is_file():
                named = re.findall(r"\bdocs/[\w/-]+\.(?:md|json)", path.read_text(encoding="utf-8", errors="replace"))
                gone += [f"{path.relative_to(ROOT)}: {name}" for name in named if not (ROOT / name).exists()]
    assert gone == []
