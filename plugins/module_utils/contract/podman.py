"""Throw-away containers, volumes, secrets and a network: bounded in time, named after one check, removed at its end or by the next one."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import secrets
import select
import signal
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

PREFIX = "senex-check"
NAME = re.compile(rf"({PREFIX}-([0-9a-f]+)-[0-9a-f]{{8}})(-[a-z0-9-]+)?")
OUTPUT = 256 << 10
# The error of crun where it may not set what a cgroup needs, as in a container without CAP_SYS_RESOURCE: there nothing can be limited
NO_CGROUPS = "RLIM_MEMLOCK"
LISTS = {
    "container": ("ps", "--all", "--format={{.Names}}"),
    "volume": ("volume", "ls", "--format={{.Name}}"),
    "secret": ("secret", "ls", "--format={{.Name}}"),
    "network": ("network", "ls", "--format={{.Name}}"),
}
REMOVES = {"container": ("rm", "--force", "--time=0", "--volumes"), "volume": ("volume", "rm", "--force"), "secret": ("secret", "rm"),
           "network": ("network", "rm", "--force")}  # fmt: skip


class Broken(Exception):
    """The check itself cannot go on: no Podman, no image, no time left."""


class Interrupted(BaseException):
    """Whoever asked is gone, or wants no more."""


@dataclass
class Done:
    """How a command ended."""

    code: int
    output: str
    seconds: float = 0.0


def interruptible() -> None:
    """From now on a signal ends the check in order, and so does the end of whoever reads its answer: Ansible tells a module nothing when it is stopped."""

    def raise_it(number, _frame):
        raise Interrupted(signal.Signals(number).name)

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, raise_it)

    def watch():
        poll = select.poll()
        poll.register(1, 0)
        while not any(event & (select.POLLERR | select.POLLNVAL) for _, event in poll.poll()):
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    if not os.isatty(1):
        threading.Thread(target=watch, daemon=True).start()


class Tail(threading.Thread):
    """The end of what a command prints through `writing`: an image may print without end, and neither memory nor disk is to hold it."""

    def __init__(self):
        super().__init__(daemon=True)
        self.kept = bytearray()
        self.reading, self.writing = os.pipe()
        self.start()

    def run(self) -> None:
        while piece := os.read(self.reading, 1 << 16):
            self.kept += piece
            del self.kept[:-OUTPUT]
        os.close(self.reading)

    def text(self) -> str:
        """All of it, once `writing` is closed; what the command left behind may hold it open."""
        self.join(1)
        return bytes(self.kept).decode(errors="replace")


class Podman:
    """The containers of one check."""

    def __init__(self, seconds: int, options: list[str]):
        self.end = time.monotonic() + seconds
        self.seconds, self.options = seconds, options
        self.name = f"{PREFIX}-{int(time.time()) + seconds + 60:x}-{secrets.token_hex(4)}"
        self.limited = True
        self.volumes: set[str] = set()
        self.kept: dict[str, str] = {}

    def call(self, *words: str, data: str = "", timeout: float = 60, check: bool = True, passed: tuple[int, ...] = ()) -> Done:
        """A podman command and the end of its output. What takes longer is killed, and its code is 124."""
        begin = time.monotonic()
        limit = min(timeout, self.end - begin)
        if limit <= 0:
            raise Broken(f"the check did not end within {self.seconds} s")
        tail = Tail()
        try:
            done = subprocess.run(
                ["podman", "--log-level=error", *words], input=data.encode(), stdout=tail.writing, stderr=subprocess.STDOUT, timeout=limit, pass_fds=passed,
                check=False,
            )  # fmt: skip
            code = done.returncode
        except subprocess.TimeoutExpired:
            code = 124
        except FileNotFoundError:
            raise Broken("podman is not installed where the check runs") from None
        finally:
            os.close(tail.writing)
        text = tail.text()
        if check and code:
            raise Broken(f"podman {words[0]}: {text.strip()[-600:] or f'exit code {code}'}")
        return Done(code, text, time.monotonic() - begin)

    def begin(self, image: str) -> None:
        """Remove what checks left whose time is over, see to the image, and make the network."""
        now = time.time()
        self._remove(lambda name: (found := NAME.fullmatch(name)) and int(found[2], 16) < now)
        self.have(image)
        self.call("network", "create", "--internal", self.name)

    def have(self, image: str, named: str = "image") -> None:
        """Pull an image that is not here. `named`: the input that names it."""
        if self.call("image", "exists", image, check=False).code:
            done = self.call("pull", "--quiet", image, timeout=300, check=False)
            if done.code:
                why = done.output.strip()[-400:] or f"exit code {done.code}"
                raise Broken(f"{named}: {image} is not among the images of Podman on this machine (podman images), and cannot be pulled: {why}")

    def remove(self) -> None:
        """Everything of this check, whatever happens meanwhile."""
        before = {}
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            with contextlib.suppress(ValueError):  # not in the main thread
                before[number] = signal.signal(number, signal.SIG_IGN)
        self.end = time.monotonic() + 60
        try:
            self._remove(lambda name: (found := NAME.fullmatch(name)) and found[1] == self.name)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _remove(self, wanted) -> None:
        for kind, words in LISTS.items():
            names = [name for name in self.call(*words, check=False).output.split() if wanted(name)]
            if names:
                self.call(*REMOVES[kind], *names, check=False)

    def volume(self, name: str) -> str:
        """A volume of the check by a name of its own."""
        name = re.sub("[^a-z0-9]+", "-", name.lower())
        full = f"{self.name}-{name}"
        if name not in self.volumes:
            self.call("volume", "create", full)
            self.volumes.add(name)
        return full

    def files(self, name: str) -> list[str]:
        """The files in a volume."""
        with tempfile.TemporaryFile() as archive:
            handle = archive.fileno()
            # Podman before 5 writes nothing to its standard output
            done = self.call("volume", "export", f"--output=/proc/self/fd/{handle}", self.volume(name), passed=(handle,), check=False)
            if done.code or not archive.seek(0, io.SEEK_END):
                return []
            archive.seek(0)
            with tarfile.open(fileobj=archive) as found:
                return [member.name for member in found if member.isfile()]

    def file(self, content: str) -> str:
        """Keep a text that containers mount; no file of the host has it."""
        if content not in self.kept:
            self.kept[content] = f"{self.name}-f{len(self.kept)}"
            self.call("secret", "create", self.kept[content], "-", data=content)
        return self.kept[content]

    def start(self, part: str, image: str, words: list[str], options: list[str], environment: str = "", seccomp: str = "") -> Done:
        """A container in the background; it ends when the check must."""
        if not self.limited:
            options = [word for word in options if not word.startswith(("--memory", "--pids-limit"))]
        fixed = [
            "--detach", f"--name={self.name}-{part}", f"--network={self.name}", "--pull=never", f"--timeout={self.seconds}", "--log-driver=k8s-file",
            "--log-opt=max-size=1mb", "--security-opt=label=disable", "--no-healthcheck", "--env-file=/dev/stdin",
            "--http-proxy=false",  # whoever runs the check may have a password in theirs
        ]  # fmt: skip
        with contextlib.ExitStack() as stack:
            passed = ()
            if seccomp:
                handle = os.memfd_create("seccomp", 0)
                stack.callback(os.close, handle)
                os.write(handle, seccomp.encode())
                passed = (handle,)
                fixed.append(f"--security-opt=seccomp=/proc/self/fd/{handle}")
            done = self.call("run", *fixed, *self.options, *options, image, *words, data=environment, passed=passed, check=False)
        if done.code and self.limited and NO_CGROUPS in done.output:
            self.limited = False
            self.options.append("--cgroups=disabled")
            self.drop(part)
            return self.start(part, image, words, options, environment, seccomp)
        return done

    def execute(self, part: str, *words: str, data: str = "", timeout: float = 40) -> Done:
        """A command in a container."""
        return self.call("exec", *(["--interactive"] if data else []), f"{self.name}-{part}", *words, data=data, timeout=timeout, check=False)

    def talk(self, part: str, *words: str) -> tuple[subprocess.Popen, Tail]:
        """A command in a container whose output is read while it runs."""
        command, tail = ["podman", "--log-level=error", "exec", f"{self.name}-{part}", *words], Tail()
        try:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=tail.writing, stderr=subprocess.STDOUT), tail
        finally:
            os.close(tail.writing)

    def state(self, part: str) -> dict:
        """Podman's State of a container; empty where there is none."""
        done = self.call("inspect", "--type=container", "--format={{json .State}}", f"{self.name}-{part}", check=False)
        return json.loads(done.output) if done.code == 0 else {}

    def running(self, part: str) -> bool:
        """Whether it runs."""
        return bool(self.state(part).get("Running"))

    def wait(self, part: str, seconds: float) -> bool:
        """Whether it ends in time."""
        return self.call("wait", f"{self.name}-{part}", timeout=seconds, check=False).code == 0

    def address(self, part: str) -> str:
        """Its address in the network of the check."""
        words = ("inspect", "--type=container", "--format={{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
        return self.call(*words, f"{self.name}-{part}").output.strip()

    def logs(self, part: str, lines: int = 200) -> str:
        """The end of what it printed."""
        # Not by --tail, which leaves out a first line that was written in pieces, as Python does with PYTHONUNBUFFERED
        done = self.call("logs", f"{self.name}-{part}", check=False)
        return "\n".join(done.output.split("\n")[-lines - 1 :]) if done.code == 0 else ""

    def stop(self, part: str, seconds: int, signal_name: str = "SIGTERM", meanwhile: Callable[[], object] = lambda: None) -> Done:
        """Send the signal, do something, and wait so many seconds for the end: its exit code (137 where it would be killed), and how long it took."""
        begin = time.monotonic()
        self.call("kill", f"--signal={signal_name}", f"{self.name}-{part}", check=False)
        meanwhile()
        ended = self.wait(part, seconds)
        took = time.monotonic() - begin
        return Done(self.state(part).get("ExitCode", -1) if ended else 137, "", took)

    def drop(self, part: str) -> None:
        """Remove a container."""
        self.call("rm", "--force", "--time=0", "--volumes", f"{self.name}-{part}", check=False)

    def until(self, passes, seconds: float, pause: float = 0.3) -> bool:
        """Whether it comes true in time."""
        give_up = min(time.monotonic() + seconds, self.end)
        while not passes():
            if time.monotonic() > give_up:
                return False
            time.sleep(pause)
        return True
