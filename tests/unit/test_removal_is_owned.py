"""One place removes directories (module_utils/host/owned.py): what it refuses, and that nothing else does it."""

import ast
import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import hostlib
import pytest
import yaml
from ansible_collections.senex.trader.plugins.module_utils.host import owned
from ansible_collections.senex.trader.plugins.module_utils.postgresql import server

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path):
    place = tmp_path / "home"
    for name in ("data/postgres", "data/media", "backups/media", "backups/postgresql", "srv/elsewhere", ".config/containers/systemd"):
        (place / name).mkdir(parents=True)
        (place / name / "canary").touch()
    (place / owned.UNITS / "web-1.container").write_text("[Container]\nVolume=%h/srv/elsewhere:/app/files\nVolume=/nowhere:/x\n", encoding="utf-8")
    return place


def made(path):
    path.mkdir(parents=True, exist_ok=True)
    owned.mark(str(path))
    (path / "deep/er").mkdir(parents=True, exist_ok=True)
    return str(path)


# What is refused, and what goes
@pytest.mark.parametrize("name", ["data", "data/postgres", "data/postgres/x", "srv", "srv/elsewhere", "srv/elsewhere/x", "backups", "backups/media", ".", ".."])
def test_nobodys_data_goes_even_with_a_mark(home, name):
    """Wherever an input has put it: what a unit mounts is in use."""
    path = made(home / name)
    with pytest.raises(owned.Refused, match="it is not removed"):
        owned.remove(str(home), path)
    assert os.path.isdir(f"{path}/deep/er") and (home / "data/postgres/canary").exists()


def test_what_is_given_as_data_stays_likewise(home):
    path = made(home / "disk/cluster")
    with pytest.raises(owned.Refused, match="it is not removed"):
        owned.remove(str(home), path, data=[f"{home}/disk/cluster/pg"])


def test_a_home_may_be_called_what_it_likes(tmp_path):
    """Brackets are a pattern to whoever looks for unit files below it."""
    place = tmp_path / "[senex]"
    (place / owned.UNITS).mkdir(parents=True)
    (place / owned.UNITS / "web-1.container").write_text("[Container]\nVolume=%h/srv/elsewhere:/app/files\n", encoding="utf-8")
    assert owned.volumes(str(place)) == [f"{place}/srv/elsewhere"]


def test_a_link_on_the_way_hides_nothing(home):
    (home / "linked").symlink_to(home / "data")
    made(home / "data/postgres/x")
    for path in ("linked", "linked/postgres", "linked/postgres/x"):
        with pytest.raises(owned.Refused, match="it is not removed"):
            owned.remove(str(home), str(home / path))


def test_what_a_bind_mount_shows_elsewhere_is_known(home, monkeypatch):
    """The same directory of the same file system, under another path."""
    path, data = made(home / "drill/x"), os.path.realpath(home / "data")
    rows = [("/", "8:1", "/"), (os.path.realpath(home / "drill"), "8:1", f"{data}/postgres")]
    monkeypatch.setattr(owned, "mounts", lambda: rows)
    with pytest.raises(owned.Refused, match=r"lies in .*data/postgres"):
        owned.remove(str(home), path)
    rows[1] = (rows[1][0], "8:2", f"{data}/postgres")  # of another disk
    owned.remove(str(home), path)
    assert not os.path.exists(path)


def test_what_is_mounted_in_it_stays(home, monkeypatch):
    path = made(home / "drill")
    monkeypatch.setattr(owned, "mounts", lambda: [("/", "8:1", "/"), (os.path.realpath(f"{path}/deep"), "8:2", "/")])
    with pytest.raises(owned.Refused, match="holds the mount point"):
        owned.remove(str(home), path)


def test_the_kernels_way_to_write_a_path_is_read(monkeypatch):
    assert owned.plain("/a\\040b\\134c") == "/a b\\c" and any(where == "/" for where, *_ in owned.mounts())
    assert owned.physical("/a/b/c", [("/", "1", "/"), ("/a/b", "2", "/top"), ("/a/bc", "3", "/")]) == ("2", "/top/c")
    assert owned.physical("/a", [("/", "1", "/vol"), ("/", "2", "/")]) == ("2", "/a"), "the one on top"


def test_what_was_not_made_stays_and_an_empty_one_goes(home):
    path = home / "drill"
    (path / "x").mkdir(parents=True)
    (path / owned.MARK).symlink_to(home / "data/media/canary")
    with pytest.raises(owned.Refused, match="was not made by this program"):
        owned.remove(str(home), str(path))
    (home / "empty").mkdir()
    owned.remove(str(home), str(home / "empty"), str(home / "never-was"))
    assert not (home / "empty").exists() and (path / "x").exists()


@pytest.mark.parametrize("name", owned.MARKS)
def test_what_a_killed_removal_left_can_be_removed(home, monkeypatch, name):
    """Its mark is the last that goes."""
    path = home / "drill"
    made(path)
    (path / owned.MARK).rename(path / name)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        owned.remove(str(home), str(path))
    owned.remove(str(home), str(path))
    assert not path.exists()


def test_a_mark_beside_or_above_counts_where_it_was_agreed(home):
    for path in ("data/postgres.new/base", "data/static/1/css"):
        (home / path).mkdir(parents=True)
    made(home / "data/postgres.new.dump")
    owned.mark(str(home / "data/static"), name=owned.CHILDREN)
    with pytest.raises(owned.Refused, match="was not made"):
        owned.remove(str(home), str(home / "data/postgres.new"))
    owned.remove(str(home), str(home / "data/postgres.new"), str(home / "data/postgres.new.dump"), beside=".dump")
    owned.remove(str(home), str(home / "data/static/1"))
    with pytest.raises(owned.Refused, match="was not made"):
        owned.remove(str(home), str(home / "data/static"))
    assert sorted(os.listdir(home / "data")) == ["media", "postgres", "static"]


def test_in_a_place_of_data_goes_what_was_put_there_and_nothing_else(home):
    inner, place = made(home / "data/media/.restored-x"), str(home / "data/media")
    for path, where in ((inner, ""), (inner, str(home / "data")), (made(home / "data/media/a/b"), place), (made(home / "data/media"), place)):
        with pytest.raises(owned.Refused, match="it is not removed"):
            owned.remove(str(home), path, place=where)
    owned.remove(str(home), inner, place=place)
    assert not os.path.exists(inner) and (home / "data/media/canary").exists()


def test_the_engine_has_it_done_in_the_users_namespace(home):
    """Its text goes by standard input: there is no file of it on a host."""
    kept, gone = made(home / "data/postgres"), made(home / "data/postgres.upgrade.dump")
    (home / "data/postgres.upgrade/base").mkdir(parents=True)

    def podman(*words, stdin, **_):
        assert words[:2] == ("unshare", owned.PYTHON)
        stdin = stdin if isinstance(stdin, str) else stdin.decode()  # as the tests' loader gives it
        return subprocess.run([sys.executable, *words[2:]], input=stdin, capture_output=True, text=True, check=False)

    user = SimpleNamespace(podman=podman, home=str(home))
    wanted = SimpleNamespace(data=kept, sockets=f"{home}/run/postgresql", configuration=f"{home}/config/postgresql")
    with pytest.raises(OSError, match="data/postgres is, holds or lies in .*: it is not removed"):
        server.discard(user, wanted, kept)
    server.discard(user, wanted, f"{home}/data/postgres.upgrade", gone)
    assert sorted(os.listdir(home / "data")) == ["media", "postgres"]
    (home / "data/new").mkdir()
    server.owned_do(user, "mark", f"{home}/data/new")
    assert owned.marked(f"{home}/data/new")


# Nothing else does it. Files: a name that the function itself has made, or a file of the program's own with a name of its own; each with its reason
OWNER = "plugins/module_utils/host/owned.py"
TREES = {
    "roles/podman/templates/user.conf.j2": "Podman's own state of this boot, below /run/user",
    "roles/postgresql/templates/start.sh.j2": "in the container: the part of a first start that was cut short, by its own name",
    "roles/redis/templates/start.sh.j2": "in the container: a log half made, and the one before the last that was switched off, by names of its own",
    "roles/pgbouncer/templates/check.sh.j2": "below /run: what mktemp made for this script",
    "roles/redis/files/redis.py": "in a container: the log that it mends a copy of, by its own name; and what it tells a person",
    "roles/backup/tasks/restore_files_plan.yml": "told to a person",
    "plugins/module_utils/postgresql/upgrade.py:Upgrade._copy": "in the container: a dump that this function made, below the mount that an upgrade made",
    "plugins/module_utils/engine/quadlet_check.py:problems": "made by tempfile in the same function",
    "plugins/module_utils/host/storage.py": "text of a probe, which removes what it made by tempfile",
}
FILES = {
    "plugins/module_utils/engine/everything.py:remove_made": "directories of constants, where they are empty",
    "playbooks/tasks/image_archive_gone.yml": "on the controller: the archive that this run made by its own name",
    "roles/pitr/files/pitr/wal.py:leave_timeline": "of two beginnings of one segment the shorter, which is the beginning of the other",
    "plugins/module_utils/postgresql/dump_file.py:prune": "dumps of a reason, by the form of their names",
    "plugins/module_utils/postgresql/dump_file.py:write": "its own .part",
    "plugins/module_utils/host/fileset.py:Manifest.delete": "root's own",
    "plugins/module_utils/host/fileset.py:_begun": "its own temporary name, empty",
    "plugins/module_utils/host/fileset.py:stage": "its own temporary name",
    "plugins/module_utils/host/fileset.py:swap": "files of a manifest",
    "plugins/module_utils/engine/payload.py:save_applied": "root's own",
    "plugins/module_utils/release/traffic_probe_unit.py:start": "root's own",
    "plugins/module_utils/nginx/detached_hold.py:end": "root's own, in /run",
    "plugins/module_utils/nginx/request_hold.py:remove": "root's own, in /run",
    "plugins/module_utils/host/release_record.py:Ledger._remove": "root's own lock",
    "plugins/module_utils/host/rotation_mark.py:RotationMark.forget": "root's own, with the whole removal",
    "plugins/module_utils/release/application_units.py:start_units": "root's own",
    "plugins/module_utils/nginx/nginx_upstream.py:UpstreamServers": "root's own, in /run",
    "plugins/module_utils/engine/system_transaction.py:SystemTransaction": "files of a manifest",
    "plugins/plugin_utils/vault_text.py": "its own temporary name",
    "roles/backup/files/senex_backup/exchange.py:finish": "its own name, empty",
    "roles/backup/files/senex_backup/redis.py:make": "its own .part",
    "roles/backup/files/senex_backup/redis.py:prune": "copies, by the form of their names",
    "roles/common/files/senex_host/files.py:replace": "its own temporary name",
    "roles/etcd/tasks/absent.yml": "system_files: files of a manifest",
    "roles/logs/files/log-receiver": "journals of its own directory, by the form of their names; its own sockets",
    "roles/nginx/tasks/absent.yml": "system_files: files of a manifest",
    "roles/pgbouncer/tasks/absent.yml": "the module's word for what its manifest has",
    "roles/pitr/files/pitr/offsite.py:put_in_place": "its own configuration and note, which fetch wrote",
    "roles/pitr/files/pitr/offsite.py:settle": "what it brought, empty",
    "roles/pitr/files/pitr/recovery.py:fill": "files of the copy that it makes",
    "roles/podman/files/prune_images.py:release_ballast": "its own name",
    "roles/podman/templates/seccomp.json.j2": "names of system calls",
    "roles/postgresql/templates/start.sh.j2": "its own name, empty",
    "roles/redis/tasks/former.yml": "quadlet: files of a manifest",
    "roles/operator_cli/files/senex_ops/command.py": "root's own",
    "roles/watchdog/files/senex_ops/remediation.py": "root's own",
    "roles/watchdog/files/senex_ops/state.py:State._keep": "root's own, in /run",
    "roles/watchdog/files/senex_ops/delivery.py:Channel": "root's own",
}
TREE_CALLS, FILE_CALLS = {"rmtree", "removedirs"}, {"unlink", "remove", "rmdir"}
SHELL_TREES = re.compile(r"(?:^|[\s;&|(\"'/])rm\s+(?:-\w+\s+|--\w[\w-]*\s+)*-\w*[rR]|\brm\s+--recursive|\bfind\b[^\n]*\s-delete\b|-exec\s+rm\b")
SHELL_FILES = re.compile(r"(?:^|[\s;&|(])(?:rmdir|unlink)\s|\bremove_directory\b")


def sources():
    listed = subprocess.run(["git", "ls-files", "plugins", "roles", "playbooks", "templates", "site.yml"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split() if (ROOT / name).is_file() and not name.endswith((".md", "/README"))]


def in_python(text, name):
    """(kind, where): calls that remove, and a command's words that do."""
    found = []

    def walk(node, where):
        for child in ast.iter_child_nodes(node):
            inner = f"{where}.{child.name}" if isinstance(child, ast.FunctionDef | ast.ClassDef) else where
            place = f"{name}:{inner.removeprefix('.')}" if inner else name
            if isinstance(child, ast.Call) and isinstance(child.func, ast.Attribute):
                of_os = isinstance(child.func.value, ast.Name) and child.func.value.id in ("os", "shutil", "path", "pathlib")
                if child.func.attr in TREE_CALLS:
                    found.append(("tree", place))
                elif child.func.attr in ("unlink", "rmdir") or (child.func.attr in FILE_CALLS and of_os):
                    found.append(("file", place))
            words = child.args if isinstance(child, ast.Call) else child.elts if isinstance(child, ast.List | ast.Tuple) else []
            texts = [word.value for word in words if isinstance(word, ast.Constant) and isinstance(word.value, str)]
            for before, after in zip(texts, texts[1:], strict=False):
                if before.rpartition("/")[2] == "rm" and re.fullmatch(r"-[a-zA-Z]*[rR][a-zA-Z]*|--recursive", after):
                    found.append(("tree", place))
            if isinstance(child, ast.Constant) and isinstance(child.value, str) and "\n" not in child.value and (match := SHELL_TREES.search(child.value)):
                found.append(("tree", place if match else ""))
            if isinstance(child, ast.Constant) and isinstance(child.value, str) and "\n" in child.value:
                found.extend(("tree", name) for line in child.value.splitlines() if SHELL_TREES.search(line) or "rmtree(" in line)
            walk(child, inner)

    walk(ast.parse(text), "")
    return found


def in_text(text, name):
    """The same of scripts, units and templates."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    found = [("tree", name) for line in lines if SHELL_TREES.search(line) or "rmtree(" in line]
    return found + [("file", name) for line in lines if SHELL_FILES.search(line) or re.search(r"os\.(unlink|remove|rmdir)\(|\.unlink\(", line)]


def in_tasks(items, name):
    """Tasks that let a path be gone."""
    found = []
    for task in items if isinstance(items, list) else []:
        if not isinstance(task, dict):
            continue
        for key, arguments in task.items():
            if isinstance(arguments, dict) and "absent" in str(arguments.get("state", "")):
                templated = "{{" in str(arguments["state"])  # a role's own state: what the engine removes is by its manifest
                if not templated or key.rpartition(".")[2] == "file":
                    found.append(("file", name))
            if key in ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks", "handlers"):
                found += in_tasks(arguments, name)
    return found


def removals(name, text):
    if name.endswith(".py") or text.startswith("#!/usr/bin/python3"):
        return in_python(text, name)
    found = in_text(text, name)
    if name.endswith((".yml", ".yaml")):
        found += in_tasks(yaml.safe_load(text), name)
    return found


def allowed(table, where):
    return any(where == entry or where.startswith((f"{entry}.", f"{entry}:")) for entry in table)


@functools.cache
def all_removals():
    return {found for name in sources() if name != OWNER for found in removals(name, (ROOT / name).read_text(encoding="utf-8", errors="replace"))}


def test_nothing_else_removes_a_directory():
    found = all_removals()
    wrong = sorted(where for kind, where in found if kind == "tree" and not allowed(TREES, where))
    assert not wrong, "let owned.py remove it, or say in TREES why not: " + ", ".join(wrong)
    wrong = sorted(where for kind, where in found if kind == "file" and not allowed({**FILES, **TREES}, where))
    assert not wrong, "is it a file of the program's own, with a name of its own? Say so in FILES: " + ", ".join(wrong)


def test_every_exception_is_needed():
    found = {where for _kind, where in all_removals()}
    idle = [entry for entry in {**TREES, **FILES} if not any(allowed({entry: ""}, where) for where in found)]
    assert not idle


@pytest.mark.parametrize(("name", "text"), [
    ("a.py", "def f(p):\n    shutil.rmtree(p)"), ("a.py", "def f(p):\n    run('podman', 'unshare', 'rm', '-rf', '--', p)"),
    ("a.py", "def f(p):\n    run(['/bin/rm', '-fr', p])"), ("a.py", "def f(p):\n    run(f'rm -rf {p}')"), ("a.py", "X = 'set -eu\\nrm -r \"$1\"\\n'"),
    ("a", "#!/usr/bin/python3 -I\nimport os\nos.removedirs('x')"), ("a.sh.j2", "set -eu\nrm -f -r /x"), ("a.service.j2", "ExecStopPost=/usr/bin/rm -rf /x"),
    ("a.yml", "- command: rm -rf {{ x }}"), ("a.yml", "- shell: find {{ x }} -mtime +3 -delete"), ("a.py.j2", "shutil.rmtree(x)"),
])  # fmt: skip
def test_each_way_to_remove_a_tree_is_seen(name, text):
    assert {kind for kind, _where in removals(name, text)} == {"tree"}


@pytest.mark.parametrize(("name", "text"), [
    ("a.py", "def f(p):\n    os.unlink(p)"), ("a.py", "def f(p):\n    Path(p).unlink()"), ("a.py", "def f(p):\n    os.remove(p)"),
    ("a.yml", "- block:\n    - ansible.builtin.file: {path: '{{ x }}', state: absent}"), ("a.sh", "rmdir /x"),
    ("a.yml", "- ansible.builtin.file: {path: '{{ x }}', state: \"{{ 'absent' if y else 'directory' }}\"}"),
])  # fmt: skip
def test_each_way_to_remove_a_file_is_seen(name, text):
    assert {kind for kind, _where in removals(name, text)} == {"file"}


@pytest.mark.parametrize(("name", "text"), [
    ("a.py", "def f(p):\n    podman('rm', '--force', p)\n    names.remove(p)\n    fruit.discard(p)"), ("a.sh", "# rm -rf is not done here\nform -r x"),
    ("a.yml", "- senex.trader.quadlet: {part: x, state: \"{{ x_state }}\"}"),
])  # fmt: skip
def test_what_removes_nothing_is_not(name, text):
    assert removals(name, text) == []


def test_what_the_programs_import_lies_beside_them():
    text = (ROOT / "roles/podman/vars/main.yml").read_text(encoding="utf-8")
    assert "module_utils/host/owned.py" in text and "lib/senex_prune/owned.py" in text
    assert hostlib.modules()["owned"] == ROOT / "plugins/module_utils/host/owned.py"
