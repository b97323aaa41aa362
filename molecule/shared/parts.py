"""What the tests of containerised parts share: the service user's units and containers, and the role applied once more with other inputs."""

import base64
import json
import os
import re
import shlex
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

HOME = "/opt/senex-trader"
NETWORK = "senex-trader_senex_network"
FIRST_SUBID = 200000
RUN = f"cd {HOME} && runuser -u senex -- env HOME={HOME} XDG_RUNTIME_DIR=/run/user/987 DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/987/bus"
SYSTEMCTL = "systemctl --user --machine=senex@"

# A password of 64 characters that breaks whatever quotes badly. Any spelling of it but base64 keeps the mark.
MARK = "zQ7mArKx"
HOSTILE = (MARK + r"""$HOME "q' #r %n \n\ ={s} ;&|<>`id` $(id) {{ 7*7 }} éß漢€!""").ljust(64, "~")

SAMPLER = """
import glob, os, time
seen, written, end = set(), 0, time.monotonic() + 180
open("/root/sampling", "w").close()
while os.path.exists("/root/sampling") and time.monotonic() < end:
    if len(seen) > written:
        with open("/root/command-lines.next", "w") as handle:
            handle.write("\\n".join(sorted(seen)))
        os.replace("/root/command-lines.next", "/root/command-lines")
        written = len(seen)
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as handle:
                seen.add(handle.read().replace(b"\\0", b" ").decode(errors="replace"))
        except OSError:
            pass
"""

# What a process in a container asks the kernel for, and the error that it must get: by name, number on x86_64, arguments. Every image has Perl.
# Without the filter unshare, the first clone and keyctl succeed, and the others fail otherwise or not at all.
EPERM, ENOSYS = 1, 38
CALLS = {
    "unshare": (272, "0x10000000", EPERM), "unshare of a network": (272, "0x40000000", EPERM), "clone with CLONE_NEWUSER": (56, "0x10000011,0,0,0,0", ENOSYS),
    "clone3": (435, "0,0", ENOSYS), "setns": (308, "0,0", EPERM), "mount": (165, "0,0,0,0,0", EPERM), "umount2": (166, "0,0", EPERM),
    "pivot_root": (155, "0,0", EPERM), "open_tree": (428, "-100,0,1", EPERM), "fsopen": (430, "0,0", EPERM), "keyctl": (250, "0,-3,0", EPERM),
    "add_key": (248, "0,0,0,0,0", EPERM), "request_key": (249, "0,0,0,0", EPERM), "bpf": (321, "0,0,0", EPERM), "perf_event_open": (298, "0,0,0,0,0", EPERM),
    "userfaultfd": (323, "1", EPERM), "open_by_handle_at": (304, "0,0,0", EPERM), "ptrace": (101, "0,0,0,0", EPERM), "io_uring_setup": (425, "1,0", EPERM),
    "a socket of AF_ALG": (41, "38,5,0", ENOSYS),
}  # fmt: skip

# An index whose order was right when its rows came, by a comparison that is another one now
FICKLE = """
create function compared(int, int) returns int language sql immutable as 'select case when $1 < $2 then -1 when $1 > $2 then 1 else 0 end';
create operator class upside for type int using btree as operator 1 <, operator 2 <=, operator 3 =, operator 4 >=, operator 5 >, function 1 compared(int, int);
create table fickle as select g as id from generate_series(1, 5000) g;
create index fickle_index on fickle (id upside);
create or replace function compared(int, int) returns int language sql immutable as 'select case when $1 < $2 then 1 when $1 > $2 then -1 else 0 end';
"""


class Part:
    """One container of the service user, and its unit."""

    def __init__(self, host, name):
        self.host, self.name, self.unit = host, name, f"{name}.service"

    def podman(self, words):
        return self.host.check_output(f"{RUN} podman {words}")

    def inspect(self, path, name=None):
        return self.podman(f"inspect --format '{{{{{path}}}}}' {name or self.name}")

    @property
    def pid(self):
        return int(self.inspect(".State.Pid"))

    def show(self, name, unit=None):
        return self.host.check_output(f"{SYSTEMCTL} show --property={name} --value {unit or self.unit}")

    @property
    def started(self):
        return self.show("ActiveEnterTimestampMonotonic")

    def systemctl(self, verb):
        """How many seconds it took."""
        begin = time.monotonic()
        self.host.check_output(f"{SYSTEMCTL} {verb} {self.unit}")
        return time.monotonic() - begin

    def journal(self, lines=40, since=0):
        return self.host.check_output(
            f"journalctl _SYSTEMD_USER_UNIT={self.unit} _UID=987 + CONTAINER_NAME={self.name} --no-pager -q -n {lines} --since=@{int(since)}"
        )

    def now(self):
        return int(self.host.check_output("date +%s"))

    def script(self, text, container=None):
        """Run a shell script in a container; it travels by standard input, so nothing of it is on a command line."""
        code = base64.b64encode(text.encode()).decode()
        return self.host.run(f"echo {code} | base64 -d | ({RUN} podman exec -i {container or self.name} sh -s)")

    def kill(self):
        """Kill the main process, and wait until the unit is up again: seconds."""
        pid, begin = self.pid, time.monotonic()
        self.host.check_output(f"kill -9 {pid}")
        while time.monotonic() < begin + 60:
            state = self.host.run(f"{SYSTEMCTL} is-active {self.unit}; {RUN} podman inspect --format '{{{{.State.Pid}}}}' {self.name}").stdout.split()
            if state[:1] == ["active"] and state[1:] not in ([], ["0"], [str(pid)]):
                return time.monotonic() - begin
            time.sleep(0.3)
        pytest.fail(f"{self.unit} was not back in 60 s\n{self.journal()}")

    def fire(self, name):
        """Let a timer of the service user fire in two seconds, by a calendar of its own; the unit's result when it has ended."""
        drop_in = f"{HOME}/.config/systemd/user/{name}.timer.d"
        at = self.host.check_output("date -u -d '+2 seconds' '+%F %T UTC'")
        before = self.show("InvocationID", f"{name}.service")
        text = f"[Timer]\nOnCalendar=\nOnCalendar={at}\nRandomizedDelaySec=0\nAccuracySec=100ms\n"
        self.host.check_output(f"{RUN} mkdir -p {drop_in} && printf %s {shlex.quote(text)} > {drop_in}/soon.conf")
        self.host.check_output(f"{SYSTEMCTL} daemon-reload && {SYSTEMCTL} restart {name}.timer")
        try:
            eventually(lambda: self.show("InvocationID", f"{name}.service") != before, 30)
            return self.outcome(name)
        finally:
            self.host.check_output(f"rm -r {drop_in} && {SYSTEMCTL} daemon-reload && {SYSTEMCTL} restart {name}.timer")

    def begin(self, name):
        """Start the unit of a timer, as that does; its result when it has ended. That the timer starts it, `fire` shows once for each."""
        eventually(lambda: self.show("ActiveState", f"{name}.service") in ("inactive", "failed"), 120)  # to start what runs does nothing
        # systemd refuses a sixth start within ten seconds, as tests make and timers do not
        self.host.run(f"{SYSTEMCTL} reset-failed {name}.service; {SYSTEMCTL} start {name}.service")  # until it has ended, well or not
        return self.outcome(name)

    def outcome(self, name):
        """The result of a unit's run, when its failure has been told too."""
        for unit in (f"{name}.service", f"{name.partition('-')[0]}-failed@{name}.service"):
            eventually(lambda unit=unit: self.is_over(unit), 120)
        return self.show("Result", f"{name}.service")

    def is_over(self, unit):
        """Not running, and not about to: a unit whose start is queued is inactive too."""
        shown = dict(line.split("=", 1) for line in self.host.check_output(f"{SYSTEMCTL} show --property=ActiveState,Job {unit}").splitlines())
        return shown["ActiveState"] in ("inactive", "failed") and shown.get("Job", "") in ("", "0")

    def is_confined(self, uid):
        """Assert what the kernel says of the main process."""
        status = dict(line.split(":\t", 1) for line in self.host.file(f"/proc/{self.pid}/status").content_string.splitlines() if ":\t" in line)
        assert set(status["Uid"].split()) == {str(FIRST_SUBID + uid - 1)}
        assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        assert status["NoNewPrivs"] == "1"
        mounts = [line.split() for line in self.host.file(f"/proc/{self.pid}/mountinfo").content_string.splitlines()]
        assert "ro" in next(words[5] for words in mounts if words[4] == "/").split(",")
        assert "Read-only file system" in self.script("touch /anywhere").stderr
        self.is_filtered()

    def is_filtered(self):
        """Assert what the kernel answers to calls from inside, and that programs and children still start."""
        asked = "".join(f"$!=0; $r=syscall({number},{words}); exit if !$r; print $! + 0, qq( );" for number, words, _ in CALLS.values())
        said = self.script(f"perl -e '{asked}' && (true & wait) && sh -c 'unshare --user true; echo $?'").stdout.split()
        assert dict(zip(CALLS, map(int, said), strict=False)) == {name: error for name, (_, _, error) in CALLS.items()}
        assert said[len(CALLS) :] != ["0"]

    def is_unpublished(self, port):
        """Assert that the host listens on the port nowhere."""
        assert f":{port} " not in self.host.check_output("ss -Hltn")
        assert self.podman(f"port {self.name}") == ""

    def hash_of(self, *paths):
        return self.host.check_output(f"cat {' '.join(paths)} | sha256sum")

    def sample_command_lines(self):
        """Collect all command lines on the host from now on, in the background."""
        self.host.check_output(f"rm -f /root/command-lines; python3 -c {shlex.quote(SAMPLER)} >/dev/null 2>&1 &")

    def sampled(self, *wanted, meanwhile):
        """All command lines seen, once those wanted are among them: they live for milliseconds, so each is looked for until it is met."""

        def met():
            meanwhile()
            seen = self.host.run("cat /root/command-lines").stdout
            return all(words in seen for words in wanted) and seen

        try:
            return eventually(met, 90)
        finally:
            self.host.check_output("rm /root/sampling")

    def shows_nowhere(self):
        """Assert that the marked password is in no place that anybody but its owner sees."""
        pattern = f"{MARK[:-1]}[{MARK[-1]}]"  # not the mark itself: journald keeps the command line of who logs in
        places = {"nobody": "/etc /opt /run /tmp /var /home", "root": f"/etc /tmp /var {HOME}/.config {HOME}/config /run/systemd /run/user/987/systemd"}
        for user, where in places.items():
            found = self.host.run(f"runuser -u {user} -- grep -rls -e {pattern} {where}").stdout
            assert found == "", f"seen by {user}: {found}"
        assert MARK not in self.podman(f"inspect {self.podman('ps -aq').replace(chr(10), ' ')}")
        assert self.host.run(f"journalctl --no-pager -q --output=export | grep -a -e {pattern}").stdout == ""
        for path in self.host.check_output(f"find {HOME} -name secretsdata.json").split():
            assert self.host.file(path).mode == 0o600

    def is_gone(self):
        """Assert that units and secrets are gone."""
        assert self.show("LoadState") == "not-found"
        assert self.name not in self.podman("ps -a --format '{{.Names}}'").split()
        assert self.podman("secret ls --format '{{.Name}}'") == ""


class Applied:
    def __init__(self, result):
        self.output = result.stdout + result.stderr
        self.rc = result.returncode
        self.changed = sum(int(count) for count in re.findall(r"changed=(\d+)", self.output))

    @property
    def message(self):
        """The output with its line breaks undone."""
        return " ".join(self.output.split())


def apply(inputs=None, check=True, options=(), role=None):
    """Apply the scenario's role, or another, once more. Values are taken literally, whatever they look like."""
    # An unsafe text of nothing would arrive as None
    lines = [f"{name}: {'!unsafe ' if value and isinstance(value, str) else ''}{json.dumps(value)}" for name, value in (inputs or {}).items()]
    playbook = Path(__file__).with_name("converge.yml")
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as handle:
        handle.write("\n".join(lines) or "{}")
        handle.flush()
        command = ["ansible-playbook", "--inventory", os.environ["MOLECULE_INVENTORY_FILE"], "-e", f"@{handle.name}", *options, str(playbook)]
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "COLUMNS": "400", **({"MOLECULE_SCENARIO_NAME": role} if role else {})}
        result = Applied(subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment))
    if check and result.rc:
        pytest.fail(result.output)
    return result


def eventually(attempt, seconds=30):
    """The first true answer; a failing test otherwise. What takes long is asked for less often: each question is a login on the host."""
    begin = time.monotonic()
    while time.monotonic() < begin + seconds:
        answer = attempt()
        if answer:
            return answer
        time.sleep(0.3 if time.monotonic() < begin + 10 else 0.7)
    pytest.fail(f"not within {seconds} s")


def played(playbook, *options, limit=280, **variables):
    """One of the collection's playbooks on the inventory of the scenario."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as handle:
        json.dump(variables, handle)
        handle.flush()
        path = Path(__file__).parents[2] / "playbooks" / f"{playbook}.yml"
        command = ["ansible-playbook", "-i", os.environ["MOLECULE_INVENTORY_FILE"], "-e", f"@{handle.name}", *options, str(path)]
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "COLUMNS": "400"}
        return Applied(subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False, env=environment))
