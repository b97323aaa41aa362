"""Each module of a program that is installed on hosts is on its role's list: a program without one of them ends at its first line."""

import ast
import re
from pathlib import Path

import pytest
import yaml

ROLES = Path(__file__).parents[2] / "roles"
UTILS = ROLES.parent / "plugins/module_utils"
PROGRAMS = {"watchdog": "senex_ops", "backup": "senex_backup", "pitr": "pitr"}


def listed(role):
    """What the role's variables name as modules, in whichever list."""
    known = yaml.safe_load((ROLES / role / "vars/main.yml").read_text(encoding="utf-8"))
    return {str(word) for name, value in known.items() if name.endswith("_modules") for word in value}, str(known)


@pytest.mark.parametrize(("role", "package"), PROGRAMS.items())
def test_every_module_that_is_imported_is_installed(role, package):
    files = {path.stem: path for path in (ROLES / role / "files" / package).glob("*.py")}
    shared = {path.stem: path for path in UTILS.glob("*.py")}
    wanted = set(files)
    for path in files.values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module == package or (node.level == 1 and not node.module)):
                wanted |= {alias.name for alias in node.names if alias.name in files or alias.name in shared}
            elif isinstance(node, ast.ImportFrom) and node.module:
                wanted |= {node.module.split(".")[-1]} & (set(files) | set(shared)) if node.level == 1 or node.module.startswith(f"{package}.") else set()
    names, text = listed(role)
    assert names, "a list of modules"
    assert not {name for name in wanted - names if f"{name}.py" not in text}


def imported(path, package):
    """Modules of plugins/module_utils/postgresql that a file of a program, or one of these themselves, imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            whole = node.module if not node.level else f"{package}.{node.module or ''}".rstrip(".")
            if whole == f"{package}.postgresql":
                yield from (alias.name for alias in node.names)
            elif whole and whole.startswith(f"{package}.postgresql."):
                yield whole.rpartition(".")[2]


@pytest.mark.parametrize(("role", "package"), PROGRAMS.items())
def test_what_is_imported_of_postgresql_is_installed_with_what_that_imports(role, package):
    _names, text = listed(role)
    wanted, seen = {"__init__"}, set()
    for path in (ROLES / role / "files" / package).glob("*.py"):
        wanted |= set(imported(path, package))
    while wanted - seen:
        name = (wanted - seen).pop()
        seen.add(name)
        source = (UTILS / f"postgresql/{name}.py").read_text(encoding="utf-8")
        assert not re.search(r"(?m)^\s*(from|import) ansible", source), f"{name}: there is no Ansible on a host"
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                wanted |= {node.module} if node.module else {alias.name for alias in node.names}
    on_list = yaml.safe_load((ROLES / role / "vars/main.yml").read_text(encoding="utf-8")).get(f"__{role}_postgresql_modules", [])
    missing = {name for name in wanted if name not in on_list and f"{package}/postgresql/{name}.py" not in text}
    assert len(wanted) > 1 and not missing
