"""Each module of a program that is installed on hosts is on its role's list: a program without one of them ends at its first line."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import hostlib
import pytest
import yaml
from rendered import value

ROLES = Path(__file__).parents[2] / "roles"
UTILS = ROLES.parent / "plugins/module_utils"
# Roles that install a program -> its package, and the roles that bring modules of it
PROGRAMS = {
    "watchdog": ("senex_ops", ["watchdog"]),
    "operator_cli": ("senex_ops", ["operator_cli", "watchdog"]),
    "backup": ("senex_backup", ["backup"]),
    "pitr": ("pitr", ["pitr"]),
}
STARTS = {
    "backup": "backup/files/backup",
    "pitr": "pitr/files/pitr.py",
    "watchdog": "watchdog/files/senex-watchdog",
    "operator_cli": "operator_cli/files/senex",
}


def listed(role):
    """What the role's variables name as modules, in whichever list or by whichever pattern."""
    known = yaml.safe_load((ROLES / role / "vars/main.yml").read_text(encoding="utf-8"))
    words = [value(role, name) if "fileglob" in given else given for name, given in known.items() if name.endswith("_modules")]
    return {str(word) for of in words for word in of}, str(known)


def imported(path, package):
    """Names of modules of a package that a file of it imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module == package or (node.level == 1 and not node.module and path.parent.name == package)):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 1 and path.parent.name == package:
            found.add(node.module)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(f"{package}."):
            found.add(node.module.split(".")[1])
    return found


@pytest.mark.parametrize(("role", "program"), PROGRAMS.items())
def test_every_module_that_is_imported_is_installed(role, program):
    package, roles = program
    files = {path.stem: path for one in roles for path in (ROLES / one / "files" / package).glob("*.py")}
    shared = {path.stem for path in UTILS.rglob("*.py")}
    own = {path.stem for path in (ROLES / role / "files" / package).glob("*.py")}
    wanted = set.union(*(imported(path, package) for path in files.values())) & (set(files) | shared)
    assert own <= listed(role)[0], "a list of modules"
    names = set.union(*(listed(one)[0] for one in roles))
    text = "".join(listed(one)[1] for one in roles)
    assert not {name for name in wanted - names if f"{name}.py" not in text}


def of_postgresql(path, package):
    """Modules of plugins/module_utils/postgresql that a file of a program imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            whole = node.module if not node.level else f"{package}.{node.module or ''}".rstrip(".")
            if whole == f"{package}.postgresql":
                yield from (alias.name for alias in node.names)
            elif whole and whole.startswith(f"{package}.postgresql."):
                yield whole.rpartition(".")[2]


@pytest.mark.parametrize(("role", "program"), PROGRAMS.items())
def test_what_is_imported_of_postgresql_is_installed_with_what_that_imports(role, program):
    package, roles = program
    wanted, seen = {"__init__"}, set()
    for path in (ROLES / role / "files" / package).glob("*.py"):
        wanted |= set(of_postgresql(path, package))
    while wanted - seen:
        name = (wanted - seen).pop()
        seen.add(name)
        source = (UTILS / f"postgresql/{name}.py").read_text(encoding="utf-8")
        assert not re.search(r"(?m)^\s*(from|import) ansible", source), f"{name}: there is no Ansible on a host"
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                wanted |= {node.module} if node.module else {alias.name for alias in node.names}
    assert len(wanted) > 1 and not wanted - postgresql_modules(roles)


def postgresql_modules(roles):
    known = [(one, yaml.safe_load((ROLES / one / "vars/main.yml").read_text(encoding="utf-8"))) for one in roles]
    return {name for one, values in known for name in values.get(f"__{one}_postgresql_modules", [])}


def own_modules(role):
    return value(role, f"__{role}_modules")


def test_every_module_of_the_library_that_is_imported_is_installed():
    there = hostlib.modules()
    assert {path.stem for path in hostlib.OWN.glob("*.py")} <= set(there) and all(path.is_file() for path in there.values())
    programs = [path for path in ROLES.glob("*/files/**/*") if path.is_file() and "senex_host" in path.read_text(encoding="utf-8")]
    assert {path.relative_to(ROLES).parts[0] for path in programs} >= {"backup", "pitr", "watchdog", "operator_cli"}
    wanted = {name for path in [*programs, *there.values()] for name in imported(path, "senex_host")}
    assert wanted <= set(there)


@pytest.mark.parametrize("name", hostlib.modules())
def test_the_library_needs_nothing_of_the_engine_and_nothing_but_python(name):
    """It is started with -I, by the service user too, on a host that has no Ansible."""
    for node in ast.walk(ast.parse(hostlib.modules()[name].read_text(encoding="utf-8"))):
        words = [node.module] if isinstance(node, ast.ImportFrom) and not node.level else [a.name for a in node.names] if isinstance(node, ast.Import) else []
        for word in words:
            assert word.partition(".")[0] in sys.stdlib_module_names, f"{name} imports {word}"


@pytest.mark.parametrize("role", STARTS)
def test_a_program_starts_with_what_is_installed_alone(role, tmp_path):
    """Laid out as the roles do it, with Python's own isolation: the modules beside it, and the library where role common puts it."""
    package, roles = PROGRAMS[role]
    library = tmp_path / "usr"
    beside = library if package == "senex_ops" else tmp_path / "home/lib"
    (beside / package).mkdir(parents=True)
    library.mkdir(exist_ok=True)
    (tmp_path / "home/bin").mkdir(parents=True)
    for one in roles:
        for name in own_modules(one):
            (beside / package / f"{name}.py").write_bytes((ROLES / one / "files" / package / f"{name}.py").read_bytes())
        for name in postgresql_modules([one]):
            (beside / package / "postgresql").mkdir(exist_ok=True)
            (beside / package / f"postgresql/{name}.py").write_bytes((UTILS / f"postgresql/{name}.py").read_bytes())
    hostlib.install(library)
    source = (ROLES / STARTS[role]).read_text(encoding="utf-8")
    assert "/usr/local/lib/senex-trader" in source
    program = tmp_path / "home/bin/program"
    program.write_text(source.replace("/usr/local/lib/senex-trader", str(library)), encoding="utf-8")
    done = subprocess.run([sys.executable, "-IB", program, "--help"], capture_output=True, text=True, check=False, cwd="/")
    # All of it is imported by then
    assert "usage" in done.stdout if role != "watchdog" else "watchdog.json: cannot be read" in done.stderr, done.stderr


@pytest.mark.parametrize("role", STARTS)
def test_each_program_has_the_library_before_it_is_put_in_place(role):
    """A run that is limited to one of them by its tag has it too."""
    tasks = yaml.safe_load((ROLES / role / "tasks/main.yml").read_text(encoding="utf-8"))
    imports = [task.get("ansible.builtin.import_role", {}) for task in tasks]
    puts = next(number for number, task in enumerate(tasks) if {"senex.trader.quadlet", "senex.trader.system_files"} & set(task))
    wanted = {"senex.trader.operator_cli"} if role == "watchdog" else {"senex.trader.senex"}
    assert wanted <= {one.get("name") for one in imports[:puts]}
    if role != "watchdog":
        assert [one["tasks_from"] for one in imports if one.get("name") == "senex.trader.senex"] == ["host_library"]
