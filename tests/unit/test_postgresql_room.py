"""PostgreSQL has one room: who is the primary is said in one place."""

import re

import pytest
from controller import ROOT

# The group's first member, in Jinja, as a pattern of hosts and in Python
FIRST = re.compile(r"""(groups\s*(\[\s*['"]postgresql['"]\s*\]|\.postgresql\b)|_hosts\(groups, "postgresql"\))[^\n]*?(\[\s*:?\s*[01]\s*\]|\|\s*first\b)|\bpostgresql\[0\]""")
OWNER = "roles/senex/defaults/main.yml"
PLACES = ("playbooks", "roles", "plugins", "templates")


def texts(*places):
    for place in places:
        for path in sorted((ROOT / place).rglob("*")):
            if path.is_file() and not path.is_symlink() and path.suffix in (".py", ".yml", ".j2", ".md", ".sh", ""):
                yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def test_the_primary_is_said_in_one_place():
    found = [f"{name}: {match[0]}" for name, text in texts(*PLACES) for match in FIRST.finditer(text)]
    assert len(found) == 1 and found[0].startswith(OWNER), f"{found}: use senex_postgresql_primary, in the hosts of a play the group postgresql_primary"
    assert 'senex_postgresql_primary: "{{ groups[\'postgresql\']' in (ROOT / OWNER).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "form",
    ["hostvars[groups['postgresql'][0]]", "groups.postgresql[0]", "groups.postgresql | first", "groups['postgresql'] | default([]) | first",
     "hosts: postgresql[0]", "hosts: postgresql[0]:redis[0]", '_hosts(groups, "postgresql")[:1]'],
)  # fmt: skip
def test_every_old_form_is_known(form):
    assert FIRST.search(form)


@pytest.mark.parametrize("form", ["groups['postgresql'] | default([])", "hosts: postgresql:redis:web", "inventory_hostname in groups['postgresql']", "redis[0]"])
def test_all_members_of_the_group_are_no_primary(form):
    assert not FIRST.search(form)
