"""A key in the session keyring of root's login is root's: no program of the service user reads it, or puts one beside it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.senex.trader.plugins.module_utils.host import child
from rendered import value

ROOT = Path(__file__).parents[2]
NOBODY = 65534
# Prints what it is told of root's key, and leaves one of its own
LOOKING = """
import ctypes, os
l = ctypes.CDLL(None)
key, add = {"x86_64": (249, 248)}.get(os.uname().machine, (218, 217))
print(os.getuid(), l.syscall(key, b"user", b"of-root", None, 0) > 0)
l.syscall(add, b"user", b"planted", b"x", 1, -3)
"""
# A login of root's: a session keyring with a key in it. It prints at its end whether another one is there
LOGIN = f"""
import ctypes, os, subprocess, sys
sys.path.insert(0, {os.path.dirname(os.path.dirname(child.__file__))!r})
from host import untrusted
l = ctypes.CDLL(None)
key, add, ctl = {{"x86_64": (249, 248, 250)}}.get(os.uname().machine, (218, 217, 219))
l.syscall(ctl, 1, None)
if l.syscall(add, b"user", b"of-root", b"secret", 6, -3) < 0:
    sys.exit(77)
user = dict(user={NOBODY}, group={NOBODY}, extra_groups=[], cwd="/", env={{"PATH": "/usr/bin:/bin"}})
looking = ["/usr/bin/python3", "-IBc", {LOOKING!r}]
def started():
    CALL
child = os.fork()  # the login itself stays as it is
if not child:
    started()
    os._exit(0)
os.waitpid(child, 0)
print("planted", l.syscall(key, b"user", b"planted", None, 0) > 0)
"""
RELAYED = f"""
    sys.path.insert(0, {str(ROOT / "tests/unit")!r})
    import watched
    from senex_ops import command
    open("systemd-run", "w").write("#!/bin/sh\\nwhile [ $1 != -- ]; do shift; done; shift; exec \\"$@\\"\\n")
    os.chmod("systemd-run", 0o755)
    class Host:
        uid = gid = {NOBODY}
        environment = {{"PATH": os.getcwd() + ":/usr/bin:/bin"}}
        account = {{**user, "env": environment}}
    command.ROOT_ENVIRONMENT.update(Host.environment)
    command.become(Host(), looking)
"""
WAYS = {
    "told": "    print(untrusted.told(looking, **user).stdout, end='')",
    "run": f"    print(untrusted.run({NOBODY}, {NOBODY}, lambda: subprocess.run(looking, capture_output=True, text=True).stdout), end='')",
    "the command senex": RELAYED,
    "a task": "    subprocess.run(TASK + looking)",
}


def login(place, way):
    words = [str(word) for word in value("django", "__senex_as_user")]
    words[words.index("--user") + 1] = "nobody"
    words = words[: words.index("env")]  # what follows is where the home is
    code = LOGIN.replace("    CALL", way.strip("\n").replace("TASK", repr(words)))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=place, timeout=60)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize("name", [*WAYS, "inherited"])
def test_no_program_of_another_user_has_roots_keys(tmp_path, name):
    tmp_path.chmod(0o755)
    for above in tmp_path.parents[:3]:
        if "pytest" in above.name:
            above.chmod(0o755)
    done = login(tmp_path, WAYS.get(name, "    print(subprocess.run(looking, capture_output=True, text=True, **user).stdout, end='')"))
    if done.returncode == 77:
        pytest.skip("no keyrings here")
    expected = [f"{NOBODY} {name == 'inherited'}", f"planted {name == 'inherited'}"]
    assert done.stdout.splitlines() == expected, done.stderr


def test_the_system_calls_number_is_the_same_in_both_places():
    text = value("django", "__senex_own_keyring")
    assert dict(re.findall(r'"(\w+)": (\d+)', text)) == {name: str(number) for name, number in child.KEYCTL.items()}
