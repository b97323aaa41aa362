"""Code that runs as root goes by no path of its own making, except where that path is known to be root's: everything else asks untrusted.py."""

import ast
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
# What resolves a path: names of the built-in, of os, os.path, shutil, glob and tempfile, and methods of pathlib that no other type has
OF_OS = {
    "access", "chdir", "chmod", "chown", "execvpe", "lchown", "link", "listdir", "listxattr", "lstat", "makedirs", "mkdir", "mkfifo", "open", "readlink",
    "remove", "removedirs", "rename", "renames", "replace", "rmdir", "scandir", "setxattr", "stat", "statvfs", "symlink", "truncate", "unlink", "utime", "walk",
}  # fmt: skip
OF_PATH = {"exists", "getatime", "getctime", "getmtime", "getsize", "isdir", "isfile", "islink", "ismount", "lexists", "realpath", "samefile"}
OF_OTHERS = {"shutil": None, "glob": {"glob", "iglob"}, "tempfile": {"mkdtemp", "mkstemp", "NamedTemporaryFile", "TemporaryDirectory"}}
OF_PATHLIB = {"read_text", "read_bytes", "write_text", "write_bytes", "iterdir", "rglob", "is_file", "is_dir", "exists", "symlink_to", "chmod", "lchmod"}
ROOTS = ("/etc/", "/proc/", "/sys/", "/usr/", "/boot/", "/run/senex", "/run/systemd/", "/run/reboot-required", "/var/lib/")
# Not run as root, or the one place that knows how to
APART = {"untrusted.py": "the one place", "dump_file.py": "whoever calls it is the service user (pre_deploy._dumped, role backup)",
         "owned.py": "the service user runs it in its namespace (server.owned_do, roles backup, pitr and podman)",
         "traffic_probe.py": "a file of /run/senex.trader, by a unit of its own"}  # fmt: skip
# Functions whose paths are arguments, and why root may go there
ALLOWED = {
    "everything.restore_originals": "copies in root's directory of the manifests; of the place asks own_ground first",
    "metrics.connections": "the kernel's table",
    "metrics.last_release": "a file in root's directory of the manifests",
    "everything.remove_made": "directories of constants, which are root's",
    "everything.set_aside": "asks own_ground first",
    "everything.no_room": "where the operator wants the archive; asks own_ground before it looks at its own file there",
    "everything.archive": "swap has asked own_ground for the file, which is root's alone",
    "collection_mark.Mark": "the directory of the manifests is root's",
    "rotation_mark.RotationMark": "likewise",
    "fileset.lock": "the directory of the manifests is root's",
    "fileset.components": "likewise",
    "closed_component.close": "likewise",
    "operation_state.OperationState": "likewise",
    "fileset.stage": "swap has asked own_ground, or acts as the owner",
    "fileset._sync": "likewise",
    "fileset.swap": "asks own_ground first, or acts as the owner",
    "fileset.overwrite": "put_back has tried swap, which asks own_ground first, or acts as the owner",
    "fileset.missing_directory": "its callers act as the owner, or have asked owner_above",
    "fileset._begun": "asks own_ground first, or acts as the owner",
    "fileset.Manifest": "the directory of the manifests is root's",
    "request_hold.RequestHold": "/run/senex.trader is root's",
    "request_hold.remove": "the same",
    "detached_hold.begin": "the same",
    "detached_hold._hold": "the same",
    "detached_hold.end": "the same",
    "forwarder.interpreter": "files of the distribution",
    "in_force.lines_of": "files of /etc and of the kernel, which are root's",
    "in_force.sshd_lines": "files that root's sshd reads",
    "in_force.named": "files of /etc, which are root's",
    "in_force.read": "a file of /etc/senex-trader",
    "checks_host.read_settings": "a file of /etc/senex-trader",
    "nginx_sites.read": "files of /etc/nginx and of dpkg, which are root's",
    "nginx_sites.included": "the same",
    "nginx_sites.look": "the same",
    "payload.save_applied": "the directory of the manifests is root's",
    "payload.load_applied": "the directory of the manifests is root's",
    "server._renamed": "ServiceUser.does runs it as the service user",
    "terminal.there": "/dev is root's",
    "traffic_probe_unit.start": "/run/senex.trader is root's",
    "quadlet_check.generator": "files of the package",
    "quadlet_check.problems": "a new directory of root's own in /run; rmtree goes by descriptors",
    "quadlet_check._generated": "the same; what the user's program left there is listed and not opened",
    "release_steps._loaded": "a copy in Ansible's own directory, for the login user alone; its checksum is compared",
    "application_units.start_units": "the directory of the manifests is root's",
    "remediation.in_maintenance": "the directory of the manifests is root's",
    "release_record.Ledger": "the directory of the manifests is root's",
    "release_record.of_damaged": "the directory of the manifests is root's",
    "nginx_upstream.UpstreamServers": "/run/senex.trader/out is root's",
    "nginx_upstream.connections": "files of the kernel",
    "system_transaction.make_directory": "has asked owner_above",
    "system_transaction._make_directory": "untrusted.run runs it as the owner",
    "system_transaction.SystemTransaction": "run asks own_ground for every path first; ASIDE is root's",
    "senex_fact.system_text": "files of root's and of the kernel, by the test below",
    "senex_fact.file_systems": "mount points of the kernel's own list; one of a user's answers root with a refusal at once",
    "senex_fact.listening": "files of the kernel",
    "senex_fact.main": "files of root's",
    "checks_certificates.unread": "files of /etc/nginx, a directory of root's",
    "checks_site.read_rotation": "/run/senex.trader/out, or what else root's own file names",
    "checks_site.tail": "files of /var/log/nginx, a directory of root's",
    "command.replace": "the program found by PATH, or as the service user",
    "command.watchdog": "the watchdog's own state directory",
    "config.read": "files of /etc/senex-trader",
    "delivery.Channel": "the watchdog's own state directory",
    "doctor.read_podman": "files of the package",
    "golive.read_reboot": "files of root's",
    "files.replace": "a directory of the program's own: the watchdog's, or the service user's that runs it",
    "lock.exclusive": "the service user runs it",
    "status.read": "the service user runs it",
    "status.write": "the service user runs it",
    "state.State": "the watchdog's own state and runtime directories",
}


def programs():
    """Every source file that root runs on a host."""
    places = ("plugins/module_utils/*", "plugins/modules", "roles/*/files/senex_ops", "roles/common/files/senex_host")
    found = [path for place in places for path in ROOT.glob(f"{place}/*.py")]
    return sorted(path for path in [*found, *ROOT.glob("roles/common/files/senex_fact*.py")] if path.name not in APART)


def literal(node, constants):
    """How a path begins, as far as it is written in the source."""
    if isinstance(node, ast.JoinedStr) and node.values:
        return literal(node.values[0].value if isinstance(node.values[0], ast.FormattedValue) else node.values[0], constants)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.Name):
        return constants.get(node.id, "")
    if isinstance(node, ast.Attribute):  # a constant of another module
        return constants.get(node.attr, "") if node.attr.isupper() else ""
    return literal(node.left, constants) if isinstance(node, ast.BinOp) else ""


def roots_own(path):
    return path.startswith(ROOTS) or path == "/"


def touches(call):
    """Whether a call resolves a path."""
    function = call.func
    if isinstance(function, ast.Name):
        return function.id == "open"
    if not isinstance(function, ast.Attribute):
        return False
    base = function.value
    if isinstance(base, ast.Name) and base.id == "os":
        return function.attr in OF_OS
    if isinstance(base, ast.Name) and base.id in OF_OTHERS:
        return OF_OTHERS[base.id] is None or function.attr in OF_OTHERS[base.id]
    if isinstance(base, ast.Attribute) and base.attr == "path" and isinstance(base.value, ast.Name) and base.value.id == "os":
        return function.attr in OF_PATH
    return function.attr in OF_PATHLIB


def constants_of(tree):
    """How the paths begin that a module has as constants, those of the host's layout by the names that they are imported by among them."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").rpartition(".")[2] == "host_layout":
            layout = constants_of(ast.parse((ROOT / "plugins/module_utils/host/host_layout.py").read_text()))
            found |= {alias.asname or alias.name: layout.get(alias.name, "") for alias in node.names}
        elif isinstance(node, ast.Assign):
            found |= {target.id: literal(node.value, found) for target in node.targets if isinstance(target, ast.Name)}
    return found


def offences(source, module):
    """(qualified name, line) of each call that resolves a path which the source does not show to be root's."""
    tree = ast.parse(source)
    constants = constants_of(tree)
    found = []

    def walk(node, name):
        for child in ast.iter_child_nodes(node):
            inner = f"{name}.{child.name}" if isinstance(child, ast.FunctionDef | ast.ClassDef) else name
            if isinstance(child, ast.Call) and touches(child):
                path = literal(child.args[0], constants) if child.args else ""
                if not roots_own(path):
                    found.append((inner, child.lineno))
            walk(child, inner)

    walk(tree, module)
    return found


def allowed(name):
    return any(name == entry or name.startswith(f"{entry}.") for entry in ALLOWED)


def test_root_goes_by_no_path_that_somebody_else_may_bend():
    wrong = [f"{name}, line {line}" for path in programs() for name, line in offences(path.read_text(), path.stem) if not allowed(name)]
    assert not wrong, "ask untrusted.py (or say in ALLOWED why root may go there):\n" + "\n".join(wrong)


def test_every_exception_is_needed():
    used = {name for path in programs() for name, _line in offences(path.read_text(), path.stem)}
    idle = [entry for entry in ALLOWED if not any(name == entry or name.startswith(f"{entry}.") for name in used)]
    assert not idle and all(list(ROOT.glob(f"plugins/module_utils/**/{name}")) for name in APART)


@pytest.mark.parametrize("line", [
    "open(path)", "os.stat(path)", "os.path.exists(home + '/x')", "os.mkdir(f'{home}/x')", "os.chown(path, 0, 0)", "shutil.rmtree(path)",
    "glob.glob(f'{home}/*')", "Path(path).read_text()", "open('/opt/senex-trader/data/postgres/PG_VERSION')", "os.path.isdir('/run/user/987')",
])  # fmt: skip
def test_each_way_is_seen(line):
    assert [name for name, _line in offences(f"def f(path, home):\n    {line}\n", "module")] == ["module.f"]


@pytest.mark.parametrize("line", ["open('/proc/stat')", "os.path.exists('/run/reboot-required')", "open(f'{STATE}/x')", "untrusted.read([path])"])
def test_what_is_roots_is_not(line):
    assert offences(f"STATE = '/var/lib/senex-watchdog'\ndef f(path):\n    {line}\n", "module") == []


def test_the_fact_script_reads_by_name_what_is_roots():
    source = (ROOT / "roles/common/files/senex_fact.py").read_text()
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "system_text"]
    paths = [literal(call.args[0], {}) or ast.unparse(call.args[0]) for call in calls]
    assert calls and [path for path in paths if not roots_own(path)] == ["'/'.join(link.split('/')[:3]) + '/comm'"]  # of /proc


# Tasks of the roles
BY_PATH = {"file": ("path", "src", "dest"), "copy": ("dest",), "template": ("dest",), "stat": ("path",), "slurp": ("src",), "find": ("paths",),
           "lineinfile": ("path",), "blockinfile": ("path",), "unarchive": ("dest",), "get_url": ("dest",), "fetch": ("src",), "replace": ("path",),
           "command": ("creates", "removes", "chdir"), "shell": ("creates", "removes", "chdir"), "script": ("creates", "removes", "chdir")}  # fmt: skip
THEIRS = re.compile(r"(_home\b|/opt/senex-trader|_data_directory|pitr_directory|backup_directory|media_directory).*/|/run/user/")
OWN_HOME = {"{{ common_home }}": "its directory is root's"}


FILES = [path for places in ("roles/*/tasks", "roles/*/handlers", "playbooks", "playbooks/tasks") for path in ROOT.glob(f"{places}/*.yml")]


def tasks(items):
    for task in items or []:
        yield task
        for inner in ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks"):
            yield from tasks(task.get(inner))


def test_no_task_goes_below_the_home_as_root():
    wrong, seen = [], 0
    for path in FILES:
        for task in tasks(yaml.safe_load(path.read_text())):
            for name, arguments in task.items():
                keys = BY_PATH.get(name.removeprefix("ansible.builtin."), ()) if isinstance(arguments, dict) else ()
                values = [str(arguments[key]) for key in keys if key in arguments]
                seen += len(values)
                wrong += [f"{path.relative_to(ROOT)}: {value}" for value in values if THEIRS.search(value) and value not in OWN_HOME]
    assert seen > 10 and not wrong, "let a command of the service user do it (runuser):\n" + "\n".join(wrong)


def test_no_module_of_ansible_is_in_the_hands_of_the_service_user():
    """What a module answers is believed, facts that take the place of any variable too: of whichever user it runs, and whose HOME its Python has, that user
    may have put code there (usercustomize) that answers instead."""
    wrong = []
    for path in FILES:
        for task in tasks(yaml.safe_load(path.read_text())):
            environment = task.get("environment", {})
            names = environment if isinstance(environment, dict) else [str(environment)]
            own = [name for name in names if re.search(r"^(HOME|PYTHON|PATH$|LD_)|[{]{2}.*(HOME|PYTHON)", name)]
            wrong += [f"{path.relative_to(ROOT)}: {task.get('name')}" for _ in own]
            wrong += [f"{path.relative_to(ROOT)}: {task.get('name')}"] if {"become_user", "remote_user"} & set(task) else []
    assert not wrong, "run the command alone as that user (runuser), and give it its environment (env):\n" + "\n".join(wrong)


@pytest.mark.parametrize("path", sorted(ROOT.glob("roles/*/vars/main.yml")), ids=lambda path: path.parts[-3])
def test_what_runs_as_the_service_user_finds_its_manager(path):
    """Without its bus Podman takes another way to a container's cgroup, and is refused: no instance was told that it stops."""
    for name, words in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        told = [str(word) for word in words] if isinstance(words, list) else []
        if any(word.startswith("XDG_RUNTIME_DIR=") for word in told):
            assert any(word.startswith("DBUS_SESSION_BUS_ADDRESS=") for word in told), name


def test_it_is_called_in_one_way():
    """What is written a second time is sooner or later without the bus, or with a terminal of root's."""
    texts = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for place in ("roles", "playbooks") for path in (ROOT / place).rglob("*.yml")}
    for words in (r"[\[ ]runuser, --user", r"exec \"\$0\" \"\$@\" </dev/null"):
        assert [name for name, text in texts.items() if re.search(words, text)] == ["roles/senex/vars/main.yml"], words
