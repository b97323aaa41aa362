"""A terminal of root's stays root's: whoever is handed a descriptor of it reads what is typed there for as long as it is open."""

import contextlib
import fcntl
import os
import pty
import signal
import struct
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
    def systemctl(self, *words, timeout):
        with open({place!r} + "/stopped", "a") as file:
            print(*words, file=file)
sys.exit(command.become(Host(), ["podman", "exec", "x"], lambda: open({place!r} + "/gone", "w").close()))
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
    (place / "command.py").write_text(COMMAND.format(ops=str(OPS.parents[2] / "tests/unit"), path=f"{place}:{os.environ['PATH']}", place=str(place)))
    return on_a_terminal(place, ["/bin/sh", "-c", f"cd {place}; {sys.executable} command.py {ways}; exit $?"])


def seen(place):
    return (place / "has").read_text() if (place / "has").exists() else ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize("ways", ["</dev/null", ">out", ">out 2>err", "</dev/null 2>err", "</dev/null >out", "</dev/null >out 2>err"])
def test_no_program_of_the_service_user_is_handed_a_terminal(tmp_path, ways):
    code, shown = run(tmp_path, ways)
    assert code == 7 and seen(tmp_path) == "", shown
    said = shown + "".join((tmp_path / name).read_text() for name in ("out", "err") if (tmp_path / name).exists())
    assert "said" in said and "\u00e9" in said and "complained" in said and "--pipe" in (tmp_path / "words").read_text()
    assert "\x1b" not in shown


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_a_command_of_a_module_has_none_of_ansibles(tmp_path):
    """Where a module's output goes to a terminal (no pipelining), what is written there passes for its answer."""
    place = os.path.dirname(os.path.dirname(untrusted.__file__))
    code = f"import sys; sys.path.insert(0, {place!r}); from host import untrusted; user = dict(user=0, group=0, extra_groups=[])\n"
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


# In the place of systemd-run on a terminal: it says which one it has, and what came of what was typed there
ATTENDED = """#!/bin/sh
{{ tty; stty size; stty -a | grep -o '\\<erase = [^;]*'; }} >{place}/told
trap 'stty size >>{place}/told' WINCH
echo "$*" >{place}/words
printf 'ready \\033[1mbold\\033[0m\\n'
while read -r line || read -r line; do # a signal ends a read
    [ "$line" = end ] && break
    echo "got $line" >>{place}/told
done
printf last
exit {code}
"""


class Attended:
    """The command `senex` on a terminal of 33 lines, which a test types on."""

    def __init__(self, place, redirected="", code="7", waits=True, program=ATTENDED, before=""):
        self.place = place
        (place / "systemd-run").write_text(program.format(place=place, code=code))
        (place / "systemd-run").chmod(0o755)
        (place / "command.py").write_text(COMMAND.format(ops=str(OPS.parents[2] / "tests/unit"), path=f"{place}:{os.environ['PATH']}", place=str(place)))
        self.master, self.slave = pty.openpty()
        self.name = os.ttyname(self.slave)
        self.resize(33)
        now = termios.tcgetattr(self.slave)
        now[6][termios.VERASE] = b"\x07"
        termios.tcsetattr(self.slave, termios.TCSANOW, now)
        self.before = termios.tcgetattr(self.slave)
        words = ["/bin/sh", "-c", f"{before}cd {place}; {sys.executable} command.py {redirected}; echo $? >code; read -r rest; echo $rest >rest"]
        self.shell = subprocess.Popen(
            words, stdin=self.slave, stdout=self.slave, stderr=self.slave, start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        )
        os.set_blocking(self.master, False)
        self.shown = ""
        if waits:
            self.until(lambda: "ready" in self.shown)

    def was_stopped(self):
        """The unit that it has asked for, and what its caller has begun besides."""
        [unit] = [word.removeprefix("--unit=") for word in self.file("words").split() if word.startswith("--unit=")] or ["-"]
        return self.file("stopped") == f"user stop {unit}\n" and (self.place / "gone").exists()

    def resize(self, lines):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, 77, 0, 0))

    def file(self, name):
        return (self.place / name).read_text() if (self.place / name).exists() else ""

    def type(self, text):
        os.write(self.master, text.encode())

    def until(self, so):
        end = time.monotonic() + 20
        while not so():
            assert time.monotonic() < end, (self.shown, self.file("told"))
            with contextlib.suppress(BlockingIOError):
                self.shown += os.read(self.master, 10_000).decode()
            time.sleep(0.02)

    def ends(self):
        self.until(lambda: self.file("code").strip())
        assert termios.tcgetattr(self.slave) == self.before
        self.type("mine\n")
        self.shell.wait(20)
        os.close(self.master)
        os.close(self.slave)
        return int(self.file("code"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize("redirected", ["", "2>err"])
def test_what_is_interactive_has_a_terminal_of_its_own(tmp_path, redirected):
    on = Attended(tmp_path, redirected)
    name, size, erase = on.file("told").splitlines()
    assert name.startswith("/dev/pts/") and name != on.name and "--pty" in on.file("words")
    assert (size, erase) == ("33 77", "erase = ^G") and "\x1b[1mbold" in on.shown
    on.resize(44)
    on.until(lambda: "44 77" in on.file("told"))
    on.type("words \u00e9\n")
    on.until(lambda: "got words \u00e9" in on.file("told") and "words \u00e9" in on.shown)
    on.type("end\n")
    on.until(lambda: on.shown.endswith("last"))
    assert on.ends() == 7 and on.file("rest") == "mine\n" and on.file("stopped") == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_ctrl_c_reaches_what_runs_and_nothing_else(tmp_path):
    on = Attended(tmp_path)
    on.type("\x03")
    assert on.ends() == 128 + signal.SIGINT


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_what_asks_it_to_end_ends_what_runs(tmp_path):
    on = Attended(tmp_path)
    (command,) = [int(pid) for pid in Path(f"/proc/{on.shell.pid}/task/{on.shell.pid}/children").read_text().split()]
    os.kill(command, signal.SIGTERM)
    assert on.ends() == 128 + signal.SIGTERM
    assert on.was_stopped(), "its manager would go on with it"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_a_terminal_that_is_gone_leaves_nothing_behind(tmp_path):
    """A connection that breaks: an open transaction would hold its locks for ever."""
    on = Attended(tmp_path)
    os.close(on.slave)
    os.close(on.master)
    end = time.monotonic() + 20
    while not on.was_stopped():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize("redirected", [">out", "<input"])
def test_ctrl_c_ends_what_is_redirected_too(tmp_path, redirected):
    (tmp_path / "input").touch()
    on = Attended(tmp_path, redirected, waits=False, program='#!/bin/sh\necho "$*" >{place}/words\nexec sleep 60\n')
    end = time.monotonic() + 20
    while not on.was_stopped():
        assert time.monotonic() < end
        if on.file("words"):
            on.type("\x03")
        time.sleep(0.3)
    os.close(on.slave)
    os.close(on.master)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_what_nohup_has_begun_goes_on(tmp_path):
    on = Attended(tmp_path, ">out", waits=False, program='#!/bin/sh\necho "$*" >{place}/words\nsleep 3\nexit 7\n', before="trap '' HUP; ")
    on.until(lambda: on.file("words"))
    os.killpg(on.shell.pid, signal.SIGHUP)
    assert on.ends() == 7 and on.file("stopped") == ""


def test_a_session_in_a_container_is_ended_by_its_name(tmp_path):
    import watched  # noqa: F401  (the path)
    from senex_ops import command

    mine, other = [subprocess.Popen(["sleep", "60"], env={"SENEX_SESSION": name, "PATH": os.environ["PATH"]}) for name in ("0a1b", "0a1c")]
    assert subprocess.run(["sh", "-c", command.END_SESSION, "sh", "0a1b"], check=False, timeout=60).returncode == 0
    assert mine.wait(5) == -signal.SIGINT and other.poll() is None
    other.kill()
    other.wait(5)


# What systemd makes of a command line (systemd.service(5), Command lines), and then of this one: to print it
EXPANDING = """#!{python}
import re, sys
words = sys.argv[sys.argv.index("--") + 1:]
print(*[re.sub(r"[$][{{].*?[}}]|[$]([$])", lambda found: found[1] or "", word) for word in words], sep="|")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_systemd_fills_nothing_in_what_is_run(tmp_path):
    """A script's own variables, and dollar quotes of SQL."""
    import watched  # noqa: F401  (the path)
    from senex_ops.host import Host

    for name, text in (("systemd-run", EXPANDING.format(python=sys.executable)), ("timeout", '#!/bin/sh\nshift 2; exec "$@"\n')):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    words = ["sh", "-c", 'a=1; echo "${a#x}" $a', "select $$a$$"]
    script = COMMAND.replace('["podman", "exec", "x"]', repr(words).replace("{", "{{").replace("}", "}}"))
    script = script.format(ops=str(OPS.parents[2] / "tests/unit"), path=f"{tmp_path}:{os.environ['PATH']}", place=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", script], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, start_new_session=True)
    assert done.stdout.strip().split("|") == words, done.stderr
    mine = Host("root", "/")
    assert (
        subprocess.run([str(tmp_path / "systemd-run"), *mine.within(*words)[1:]], capture_output=True, text=True, check=True).stdout.strip().split("|") == words
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_more_is_typed_than_is_read(tmp_path):
    """A long statement that is pasted."""
    on = Attended(tmp_path)
    for number in range(200):
        on.type(f"{number} {'x' * 60}\n")
        on.until(lambda: True)
        time.sleep(0.001)
    on.until(lambda: f"got 199 {'x' * 60}" in on.file("told"))
    on.type("end\n")
    assert on.ends() == 7 and on.file("told").count("got ") == 200


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize("redirected", ["<input >out 2>err", ">out 2>err"])
def test_what_a_script_of_roots_has_open_is_not_handed_on(tmp_path, redirected):
    """Without a terminal, as by cron, the command becomes the program."""
    (tmp_path / "systemd-run").write_text("#!/bin/sh\nls -l /proc/$$/fd\nexit 7\n")
    (tmp_path / "systemd-run").chmod(0o755)
    for name in ("input", "kept"):
        (tmp_path / name).touch()
    (tmp_path / "command.py").write_text(COMMAND.format(ops=str(OPS.parents[2] / "tests/unit"), path=f"{tmp_path}:{os.environ['PATH']}", place=str(tmp_path)))
    script = f"exec 3>>{tmp_path}/kept; cd {tmp_path}; {sys.executable} command.py {redirected}"
    done = subprocess.run(["/bin/sh", "-c", script], stdin=subprocess.DEVNULL, start_new_session=True, check=False)
    assert done.returncode == 7 and "/out" in (tmp_path / "out").read_text() and "/kept" not in (tmp_path / "out").read_text()
