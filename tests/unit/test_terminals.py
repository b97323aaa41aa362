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


def run(place, ways):
    """What the terminal shows of a command that a shell has redirected, and its exit status."""
    program = place / "systemd-run"
    program.write_text(MANAGER.format(place=place))
    program.chmod(0o755)
    (place / "command.py").write_text(COMMAND.format(ops=str(OPS.parents[2] / "tests/unit"), path=f"{place}:{os.environ['PATH']}"))
    master, slave = pty.openpty()
    words = ["/bin/sh", "-c", f"cd {place}; {sys.executable} command.py {ways}; exit $?"]
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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize("ways", ["</dev/null", ">out", ">out 2>err", "</dev/null 2>err", "</dev/null >out", "</dev/null >out 2>err"])
def test_no_program_of_the_service_user_is_handed_a_terminal(tmp_path, ways):
    code, shown = run(tmp_path, ways)
    has = (tmp_path / "has").read_text() if (tmp_path / "has").exists() else ""
    assert code == 7 and "descriptor" not in has, shown
    assert not has or ways == "</dev/null >out 2>err", "without any descriptor of it, systemd-run itself takes the place of the command"
    said = shown + "".join((tmp_path / name).read_text() for name in ("out", "err") if (tmp_path / name).exists())
    assert "said" in said and "\u00e9" in said and "complained" in said and "--pipe" in (tmp_path / "words").read_text()
    assert "\x1b" not in shown


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_on_a_terminal_of_its_own_it_is_interactive(tmp_path):
    code, _shown = run(tmp_path, "")
    assert code == 7 and "--pty" in (tmp_path / "words").read_text()
