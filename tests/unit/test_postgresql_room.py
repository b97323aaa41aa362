"""PostgreSQL has one room: who is the primary, and what its unit and container are called, is said in one place each."""

import re

import pytest
import yaml
from controller import ROOT

# The group's first member, in Jinja, as a pattern of hosts and in Python
FIRST = re.compile(
    r"""(groups\s*(\[\s*['"]postgresql['"]\s*\]|\.postgresql\b)|_hosts\(groups, "postgresql"\))[^\n]*?(\[\s*:?\s*[01]\s*\]|\|\s*first\b)"""
    r"""|\bpostgresql\[0\]"""
)
OWNER = "roles/senex/defaults/main.yml"
PLACES = ("playbooks", "roles", "plugins", "templates")
# The unit, its Quadlet file, and the container as an argument or a value; a database and a role have that name too
NAMED = re.compile(
    r"""\bpostgres\.(service|container)\b|\bcontainer['"]?\s*[:=]\s*(str\s*=\s*)?['"]?postgres\b|ContainerName=postgres\b"""
    r"""|\b(exec|inspect|kill|stop|start|restart|logs|rm)\b['"]?,?[^\n#]*?[\s'",]postgres['"\s,\]](?![^\n]*--version)"""
)
# Where it may stand, and what for
ALLOWED = {
    OWNER: "the owner",
    "roles/postgresql/tasks/main.yml": "the Quadlet file, whose name the unit's follows",
    "roles/postgresql/templates/postgres.container.j2": "the same",
    "roles/watchdog/files/senex_ops/checks_database.py": "what a person types",
    "roles/operator_cli/files/senex_ops/command.py": "the same",
    "roles/senex/vars/components.yml": "the registry of components, compared below",
}


def texts(*places):
    for place in places:
        for path in sorted((ROOT / place).rglob("*")):
            if path.is_file() and not path.is_symlink() and path.suffix in (".py", ".yml", ".j2", ".sh", ""):
                yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def test_the_primary_is_said_in_one_place():
    found = [f"{name}: {match[0]}" for name, text in texts(*PLACES) for match in FIRST.finditer(text)]
    assert len(found) == 1 and found[0].startswith(OWNER), f"{found}: use senex_postgresql_primary, in the hosts of a play the group postgresql_primary"
    assert "senex_postgresql_primary: \"{{ groups['postgresql']" in (ROOT / OWNER).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "form",
    ["hostvars[groups['postgresql'][0]]", "groups.postgresql[0]", "groups.postgresql | first", "groups['postgresql'] | default([]) | first",
     "hosts: postgresql[0]", "hosts: postgresql[0]:redis[0]", '_hosts(groups, "postgresql")[:1]'],
)  # fmt: skip
def test_every_old_form_is_known(form):
    assert FIRST.search(form)


@pytest.mark.parametrize("form", ["groups['postgresql'] | default([])", "hosts: postgresql:redis:web", "'one' in groups['postgresql']", "redis[0]"])
def test_all_members_of_the_group_are_no_primary(form):
    assert not FIRST.search(form)


def test_unit_and_container_are_named_in_one_place():
    found = {name: match[0] for name, text in texts(*PLACES) for match in NAMED.finditer(text) if name not in ALLOWED}
    assert not found, "take them from __senex_postgresql, or from the configuration that the role writes of it"
    assert {name for name, text in texts(*PLACES) if NAMED.search(text)} >= {OWNER, "roles/postgresql/tasks/main.yml"}, "the pattern finds what there is"


@pytest.mark.parametrize(
    "line",
    ["After=postgres.service", 'UNIT = "postgres.service"', "argv: [podman, exec, postgres, sh]", 'podman("exec", "postgres", "sh", ROLES)',
     'container: str = "postgres"', 'podman("inspect", "--format={{.Image}}", "postgres")', "{container: postgres}", "systemctl --user stop postgres "],
)  # fmt: skip
def test_every_way_to_name_it_is_known(line):
    assert NAMED.search(line)


@pytest.mark.parametrize("line", ['server.rows("select 1", "postgres")', 'superuser: str = "postgres"', "{% if 'postgres' not in names %}"])
def test_a_database_or_a_role_of_that_name_is_none(line):
    assert not NAMED.search(line)


def test_the_unit_is_called_as_its_quadlet_file():
    assert yaml.safe_load((ROOT / "roles/senex/vars/components.yml").read_text(encoding="utf-8"))["senex_components"]["postgresql"]["units"] == {
        "user": [yaml.safe_load((ROOT / OWNER).read_text(encoding="utf-8"))["__senex_postgresql"]["unit"]]
    }
    names = yaml.safe_load((ROOT / OWNER).read_text(encoding="utf-8"))["__senex_postgresql"]
    template = ROOT / "roles/postgresql/templates" / f"{names['unit'].removesuffix('.service')}.container.j2"
    text = template.read_text(encoding="utf-8")
    assert "ContainerName" not in text or f"ContainerName={names['container']}" in text
    assert f"quadlet.readiness('{names['container']}')" in text
