"""A terminal of root's stays root's: whoever is handed a descriptor of it reads what is typed there for as long as it is open."""

import fcntl
import os
import pty
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from ansible_collections.senex.trader.plugins.module_utils.host import untrusted
from rendered import value

OPS = Path(__file__).parents[2] / "roles/watchdog/files"
# In the place of systemd-run, which hands its manager these descriptors
MANAGER = """#!/bin/sh
for number in 0 1 2; do [ ! -t $number ] || echo "descriptor $number" >>{place}/has; done
(: </dev/tty) 2>/dev/null && echo "controlling terminal" >>{place}/has
echo "$*" >{place}/words
printf 'said \\033[2J\\303\\251\\n'
echo complained >&2
exit 7
"""
COMMAND = """
import os, sys
sys.path.insert(0, {ops!r})
import watched
from senex_ops import command
class Host:
    uid, gid, environment = os.getuid(), os.getgid(), {{"PATH": {path!r}}}
    account = {{"user": uid, "group": gid, "extra_groups": [], "env": environment, "cwd": "/"}}
sys.exit(command.become(Host(), ["podman", "exec", "x"]))
"""


def on_a_terminal(place, words):
    """What a terminal shows of a command, and its exit status."""
    for name in ("systemd-run", "runuser"):
        (place / name).write_text(MANAGER.format(place=place))
        (place / name).chmod(0o755)
    master, slave = pty.openpty()
    shell = subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
    code = shell.wait(30)
    time.sleep(0.1)
    os.set_blocking(master, False)
    try:
        shown = os.read(master, 100_000).decode()
    except OSError:
        shown = ""
    os.close(master)
    os.close(slave)
    return code, shown


def run(place, ways):
    """The same of the command `senex`, redirected."""
    (place / "command.py").write_text(COMMAND.format(ops=str(OPS.parents[2] / "tests/unit"), path=f"{place}:{os.environ['PATH']}"))
    return on_a_terminal(place, ["/bin/sh", "-c", f"cd {place}; {sys.executable} command.py {ways}; exit $?"])


def seen(place):
    return (place / "has").read_text() if (place / "has").exists() else ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize("ways", ["</dev/null", ">out", ">out 2>err", "</dev/null 2>err", "</dev/null >out", "</dev/null >out 2>err"])
def test_no_program_of_the_service_user_is_handed_a_terminal(tmp_path, ways):
    code, shown = run(tmp_path, ways)
    has = seen(tmp_path)
    assert code == 7 and "descriptor" not in has, shown
    assert not has or ways == "</dev/null >out 2>err", "without any descriptor of it, systemd-run itself takes the place of the command"
    said = shown + "".join((tmp_path / name).read_text() for name in ("out", "err") if (tmp_path / name).exists())
    assert "said" in said and "\u00e9" in said and "complained" in said and "--pipe" in (tmp_path / "words").read_text()
    assert "\x1b" not in shown


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_on_a_terminal_of_its_own_it_is_interactive(tmp_path):
    code, _shown = run(tmp_path, "")
    assert code == 7 and "--pty" in (tmp_path / "words").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_a_command_of_a_module_has_none_of_ansibles(tmp_path):
    """Where a module's output goes to a terminal (no pipelining), what is written there passes for its answer."""
    code = f"import sys; sys.path.insert(0, {os.path.dirname(untrusted.__file__)!r}); import untrusted; user = dict(user=0, group=0, extra_groups=[])\n"
    program = [str(tmp_path / "runuser")]
    piped = "stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL"
    for call in (f"untrusted.told({program}, **user)", f"import subprocess; untrusted.run(0, 0, lambda: subprocess.call({program}, {piped}))"):
        (tmp_path / "words").unlink(missing_ok=True)
        assert on_a_terminal(tmp_path, [sys.executable, "-c", code + call])[0] == 0 and (tmp_path / "words").exists()
        assert seen(tmp_path) == "", call


@pytest.mark.parametrize(("role", "name", "given"), [
    ("backup", "__backup_command", ""), ("pitr", "__pitr_program", ""), ("pitr", "__pitr_program_if_there", ""), ("django", "__senex_as_user", ""),
    ("podman", "__senex_as_user_reading", "a password"),
])  # fmt: skip
def test_nor_has_a_command_of_a_task(tmp_path, role, name, given):
    words = [str(word) for word in value(role, name)]
    # As Ansible's module runs it: what it prints is read, and its standard input is the module's own unless the task gives one
    code = f"import os, subprocess; os.environ['PATH'] = {str(tmp_path) + ':' + os.environ['PATH']!r}\n"
    code += f"subprocess.run({[*words, 'x']!r}, capture_output=True, **({{'input': {given.encode()!r}}} if {given!r} else {{}}))"
    assert on_a_terminal(tmp_path, [sys.executable, "-c", code])[0] == 0 and (tmp_path / "words").exists()
    assert seen(tmp_path) in ("", "controlling terminal\n" if name == "__backup_command" else "")
