"""The filter of system calls: what it lets through, that every container has it, and that no `podman run` in the tree goes without."""

import ast
import base64
import json
import re
from pathlib import Path

import hostlib
import pytest
from ansible_collections.senex.trader.plugins.module_utils.engine import unit_text
from ansible_collections.senex.trader.plugins.module_utils.host import confined
from rendered import ROLES, Renderer, action, loaded, variables
from test_rendered_units import containers, units_of

ROOT = Path(__file__).parents[2]
EPERM, ENOSYS = 1, 38
NAMESPACES = {"NEWNS": 0x20000, "NEWCGROUP": 0x2000000, "NEWUTS": 0x4000000, "NEWIPC": 0x8000000, "NEWUSER": 0x10000000, "NEWPID": 0x20000000,
              "NEWNET": 0x40000000}  # fmt: skip
FORK, THREAD = 0x1200011, 0x3D0F00  # what glibc asks clone for
GONE = re.findall(
    r"\w+",
    """unshare setns mount umount umount2 pivot_root mount_setattr move_mount open_tree fsopen fsconfig fsmount fspick keyctl
    add_key request_key bpf perf_event_open userfaultfd open_by_handle_at ptrace process_vm_readv io_uring_setup init_module kexec_load chroot""",
)
NEEDED = re.findall(
    r"\w+",
    """execve fork vfork futex mmap read write epoll_wait accept4 shmget shmat semop memfd_create getrandom rseq
    set_robust_list wait4 kill""",
)
# Files that start containers for the tests alone, or hand words on
PROGRAMS = [*ROOT.glob("plugins/**/*.py"), *ROOT.glob("roles/*/files/**/*.py"), *ROOT.glob("roles/*/templates/*.py.j2")]


def profile(**inputs):
    values = variables("podman", **inputs)
    plugin = action(Renderer, {}, values, ROLES / "podman")
    (item,) = plugin.rendered([{"src": "seccomp.json.j2", "dest": confined.SECCOMP}], values)
    return json.loads(base64.b64decode(item["content"]))


def matches(found, arg):
    assert arg["op"] in ("SCMP_CMP_MASKED_EQ", "SCMP_CMP_EQ")
    return found & arg["value"] == arg.get("valueTwo", 0) if arg["op"] == "SCMP_CMP_MASKED_EQ" else found == arg["value"]


def verdict(rules, name, *arguments):
    """0 or the error, as libseccomp has it: of the rules for a call, the one whose arguments match; else the default."""
    for rule in rules["syscalls"]:
        if name not in rule["names"] or "amd64" in rule.get("excludes", {}).get("arches", []) or "s390x" in rule.get("includes", {}).get("arches", []):
            continue
        if all(matches(arguments[arg["index"]], arg) for arg in rule.get("args", [])):
            return 0 if rule["action"] == "SCMP_ACT_ALLOW" else rule["errnoRet"]
    return rules["defaultErrnoRet"]


@pytest.fixture(scope="module")
def rules():
    return profile()


@pytest.mark.parametrize("name", GONE)
def test_what_no_container_needs_is_not_permitted(rules, name):
    assert verdict(rules, name) == EPERM


def test_no_new_namespace_by_any_call(rules):
    assert {name: verdict(rules, "clone", flag | FORK) for name, flag in NAMESPACES.items()} == dict.fromkeys(NAMESPACES, ENOSYS)
    assert verdict(rules, "clone3") == ENOSYS, "its flags are in memory, where no filter sees them"
    assert verdict(rules, "clone", FORK) == verdict(rules, "clone", THREAD) == 0


def test_what_programs_are_made_of_is_there(rules):
    assert {name for name in NEEDED if verdict(rules, name)} == set()
    assert verdict(rules, "a_call_of_a_later_kernel") == ENOSYS, "a library then takes an older one"


def test_sockets_of_known_families_alone(rules):
    assert [family for family in range(50) if verdict(rules, "socket", family, 0, 0) == 0] == [1, 2, 10, 16]
    assert verdict(rules, "socketcall") != 0


def test_no_call_has_two_verdicts(rules):
    """libseccomp refuses a profile that has."""
    whole = [name for rule in rules["syscalls"] if not rule.get("args") for name in rule["names"]]
    assert len(whole) == len(set(whole))
    assert not {name for rule in rules["syscalls"] if rule.get("args") for name in rule["names"]} & set(whole)
    assert "archMap" not in rules, "of the machine's own architecture alone"


@pytest.mark.parametrize("name", ["io_uring_setup", "unshare", "clone", "clone3", "socket", "personality", "a_new_one"])
def test_more_can_be_allowed(name):
    more = profile(podman_seccomp_allow=[name])
    assert verdict(more, name, 0x10000000 | FORK, 0, 0) == 0
    test_no_call_has_two_verdicts(more)


def test_every_container_has_it():
    units = containers(units_of({"celery_flower_enabled": True}))
    assert {name: unit_text.values(text, "Container", "SeccompProfile") for name, text in units.items()} == dict.fromkeys(units, [confined.SECCOMP])
    assert len(units) > 7


def test_role_podman_installs_it_before_anything_runs():
    (file,) = [item for item in loaded(ROLES / "podman/vars/main.yml")["__podman_system_files"] if item["src"] == "seccomp.json.j2"]
    assert file == {"src": "seccomp.json.j2", "dest": confined.SECCOMP}, "root's, 0644, never left out"


def test_a_changed_profile_is_something_that_a_unit_reads():
    text = f"[Container]\nImage=x\nSeccompProfile={confined.SECCOMP}\n"
    assert unit_text.paths_read(text, "/home/x", "/home/x/units") == [confined.SECCOMP]
    assert unit_text.seccomp_profiles("[Container]\nSeccompProfile=unconfined\n") == []


def starts(tree):
    """Each call or list that begins with the words `podman run` or `podman create`, or has them as arguments of something called podman."""
    for node in ast.walk(tree):
        words = node.args if isinstance(node, ast.Call) else node.elts if isinstance(node, ast.List | ast.Tuple) else []
        first = [word.value if isinstance(word, ast.Constant) else None for word in words[:2]]
        if not {"run", "create"} & set(first):
            continue  # to write a call out as text takes long
        called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        verbs = first[:1] if called.rpartition(".")[2] in ("podman", "_podman") else first[1:] if first[:1] in (["podman"], ["/usr/bin/podman"]) else []
        if verbs and verbs[0] in ("run", "create"):
            yield node


def unconfined(source):
    """Functions that start a container and name nothing of confined.py, by themselves or by a helper of their file."""
    tree = ast.parse(source)
    if not any(starts(tree)):
        return []
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    helpers = {node.name for node in functions if "confined.OPTIONS" in ast.unparse(node)}
    wrong = []
    for node in functions:
        text = ast.unparse(node)
        if any(True for _ in starts(node)) and "confined.OPTIONS" not in text and not any(f"*{name}(" in text for name in helpers):
            wrong.append(node.name)
    return wrong


def test_no_podman_run_in_the_tree_goes_without():
    plain = {path: path.read_text() if path.suffix == ".py" else re.sub(r"{[{%].*?[%}]}", "0", path.read_text(), flags=re.DOTALL) for path in PROGRAMS}
    found = {path.relative_to(ROOT).as_posix(): names for path, text in plain.items() if (names := unconfined(text))}
    assert found == {}
    count = sum(len(list(starts(ast.parse(path.read_text())))) for path in PROGRAMS if path.suffix == ".py")
    assert count >= 7, "the search sees those that are there"
    shells = [*ROOT.glob("roles/*/files/*"), *ROOT.glob("roles/*/t*/*"), *ROOT.glob("playbooks/**/*")]
    texts = {path.relative_to(ROOT).as_posix(): path.read_text() for path in shells if path.is_file() and path.suffix != ".py"}
    assert [path for path, text in texts.items() if re.search(r"podman,? (run|create)\b", text)] == []


def test_the_search_finds_one():
    assert unconfined('def f(user):\n    return user.podman("run", "--rm", "x")\n') == ["f"]
    assert unconfined('def f():\n    return ["podman", "create", "x"]\n') == ["f"]
    assert unconfined('def f(user):\n    return user.podman("run", *confined.OPTIONS, "x")\n') == []
    assert unconfined('def f(user):\n    return user.podman("exec", "x", "run")\n') == []


@pytest.mark.parametrize("role", ["backup", "pitr", "operator_cli"])
def test_the_options_lie_in_the_library_of_the_programs_that_use_them(role):
    assert "tasks_from: host_library" in (ROLES / role / "tasks/main.yml").read_text()
    assert hostlib.modules()["confined"] == ROLES.parent / "plugins/module_utils/host/confined.py"


def test_the_options_lie_beside_the_program_that_has_no_library():
    text = "".join((ROLES / "redis" / path).read_text() for path in ("vars/main.yml", "tasks/main.yml"))
    assert "module_utils/host/confined.py" in text and "lib/senex_redis/confined.py" in text
