"""Fragments of the changelog, and where docs/changelog.py puts them. Their form as such is checked by ansible-test (tests/runner/sanity.py)."""

import importlib.util
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("changelog_of_docs", ROOT / "docs/changelog.py")
changelog = importlib.util.module_from_spec(spec)
spec.loader.exec_module(changelog)

BEFORE = """# Changelog

## 0.2.0

### Added
- One.

### Security
- Safe.

## 0.1.0

### Added
- Old.
"""
AFTER = """# Changelog

## 0.2.0

### Added
- One.
- Two.
- Three.

### Fixed
- Whole.

### Security
- Safe.

## 0.1.0

### Added
- Old.
"""


def test_each_entry_comes_into_its_section_of_the_newest_version():
    assert changelog.collected(BEFORE, [{"added": ["Two."]}, {"fixed": ["Whole."], "added": ["Three."]}]) == AFTER
    assert changelog.collected(AFTER, []) == AFTER


def test_a_new_version_has_no_section_yet():
    new = "# Changelog\n\n## 0.3.0\n\nIn short.\n\n## 0.2.0\n\n### Added\n- One.\n"
    assert changelog.collected(new, [{"security": ["S."], "changed": ["C."]}]) == (
        "# Changelog\n\n## 0.3.0\n\nIn short.\n\n### Changed\n- C.\n\n### Security\n- S.\n\n## 0.2.0\n\n### Added\n- One.\n"
    )


def test_the_changelog_has_the_sections_of_the_fragments():
    text = (ROOT / "CHANGELOG.md").read_text()
    newest = text.split("\n## ")[1]
    assert [line[4:] for line in newest.splitlines() if line[4:] in changelog.sections().values()] == list(changelog.sections().values())
    assert changelog.collected(text, []) == text, "nothing else is changed"
    assert newest.startswith(yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"] + " "), "the version that is worked on"


@pytest.mark.parametrize("path", changelog.fragments(), ids=lambda path: path.name)
def test_fragment(path):
    found = yaml.safe_load(path.read_text())
    assert set(found) <= set(changelog.sections())
    assert [line for lines in found.values() for line in lines if not isinstance(line, str) or "\n" in line or line.startswith("- ")] == []
