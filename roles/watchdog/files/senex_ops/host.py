"""The host as the checks see it: commands with a time limit, as root, as the service user, and inside a container."""

from __future__ import annotations

import http.client
import json
import pwd
import re
import socket
import subprocess
import time
from dataclasses import dataclass

from senex_host import bounded, confined, untrusted, user_manager
from senex_host.user_manager import ROOT_ENVIRONMENT

PRINTED = 4 << 20  # bytes that a command may print: several run at once, and the watchdog itself has a limit of memory
SHOWN = (
    "Id,Transient,UnitFileState,TriggeredBy,ActiveState,SubState,LoadState,Result,NRestarts,MemoryCurrent,CPUUsageNSec,"
    "ActiveEnterTimestampMonotonic,ActiveExitTimestampMonotonic,InactiveExitTimestampMonotonic"
)


@dataclass(frozen=True)
class Ended:
    """How a command ended; 124 is 'not within its time'."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """One line of what it printed, for a message or a log: whoever it was, in printable characters."""
        lines = (self.err.strip() or self.out.strip()).splitlines()
        return untrusted.plain(lines[-1][-300:], 300) if lines else f"ended with {self.code} and said nothing"


@dataclass(frozen=True)
class Answer:
    """What an address answered: a status, or why there is none."""

    status: int
    error: str = ""
    location: str = ""
    seconds: float = 0.0
    body: str = ""


def parse_units(text: str) -> dict[str, dict[str, str]]:
    """`systemctl show` of several units."""
    return {unit["Id"]: unit for unit in user_manager.properties(text) if "Id" in unit}


class Host:
    """This machine."""

    def __init__(self, user: str, home: str):
        self.user, self.home = user, home
        try:
            entry = pwd.getpwnam(user)
        except KeyError:
            raise LookupError(f"there is no user '{user}' on this host; the common role makes it") from None
        self.uid, self.gid = entry.pw_uid, entry.pw_gid
        self.runtime = user_manager.runtime(self.uid)
        self.images: dict[str, int] = {}

    @property
    def environment(self) -> dict[str, str]:
        """What a command of the service user needs, and nothing of root's own."""
        return user_manager.environment(self.user, self.uid, self.home)

    @property
    def account(self) -> dict:
        """How a process of the service user is started."""
        return {"user": self.uid, "group": self.gid, "extra_groups": [], "env": self.environment, "cwd": "/"}

    @staticmethod
    def _run(argv: list[str], timeout: float, stdin: str | None, **more) -> Ended:
        try:
            done = untrusted.told(argv, stdin, timeout, PRINTED, **more)
        except subprocess.TimeoutExpired:
            return Ended(124, "", f"{' '.join(argv[:4])} … gave no answer within {timeout:g} s")
        except OSError as error:
            return Ended(127, "", f"{' '.join(argv[:4])}: {error.strerror}")
        return Ended(done.returncode, done.stdout, done.stderr)

    def run(self, *argv: str, timeout: float = 15, stdin: str | None = None) -> Ended:
        """A command as root."""
        return self._run(list(argv), timeout, stdin, env=ROOT_ENVIRONMENT, cwd="/")

    def as_user(self, *argv: str, timeout: float = 15, stdin: str | None = None) -> Ended:
        """A command as the service user. Root without CAP_KILL may not end it, so its time limit is the user's too."""
        done = self._run(["timeout", "--kill-after=2", f"{timeout:g}", *argv], timeout + 5, stdin, **self.account)
        return Ended(124, "", f"{' '.join(argv[:3])} … gave no answer within {timeout:g} s") if done.code == 124 else done

    def within(self, *argv: str) -> list[str]:
        """A command line that the service user's manager runs: Podman then is in no sandbox and in a control group of its own."""
        return ["systemd-run", "--user", "--quiet", "--pipe", "--wait", "--collect", "--property=LogLevelMax=warning", "--", *user_manager.verbatim(list(argv))]

    def processes(self, *names: str) -> list[str]:
        """Which of these programs run as the service user. Asked by its manager: the watchdog's own sandbox hides what others run."""
        done = self.as_user(*self.within("pgrep", "--list-name", "--exact", "--euid", str(self.uid), "|".join(names)))
        if done.code not in (0, 1) or done.err.strip():
            raise OSError(f"pgrep: {done.said}")
        return sorted({line.split()[1] for line in untrusted.records(done.out) if len(line.split()) > 1})

    def podman(self, *arguments: str, timeout: float = 20, stdin: str | None = None) -> Ended:
        """`podman …` of the service user."""
        return self.as_user(*self.within("podman", *arguments), timeout=timeout, stdin=stdin)

    def image_times(self, images: list[str]) -> dict[str, int]:
        """When each image was made. It stays so, and each is asked once: this comes twice a minute."""
        if unknown := [image for image in images if image not in self.images]:
            done = self.podman("image", "inspect", "--format", "{{.Id}} {{.Created.Unix}}", *unknown)
            pairs = [line.split() for line in untrusted.records(done.out)]
            self.images.update({pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()})
        return {image: self.images[image] for image in images if image in self.images}

    def unit_image(self, units: list[str]) -> str:
        """The image that the first of these units names which is here: what the last release wrote. Empty where none does."""
        paths = [f"{self.home}/.config/containers/systemd/{unit.removesuffix('.service')}.container" for unit in units]
        texts = (answer.get("content", b"").decode(errors="replace") for answer in untrusted.read(paths).values())
        return next((found[1] for text in texts if (found := re.search(r"^Image=(\w\S*)$", text, re.MULTILINE))), "")

    def inside(self, container: str, *argv: str, timeout: float = 20, stdin: str | None = None) -> Ended:
        """A command in a container."""
        return self.podman("exec", *(["--interactive"] if stdin is not None else []), container, *argv, timeout=timeout, stdin=stdin)

    def entry_point(self, container: str) -> list[str]:
        """The image's own entry point, which its commands want before them."""
        done = self.podman("inspect", "--format", "{{json .Config.Entrypoint}}", container)
        if done.code:
            raise OSError(f"podman inspect {container}: {done.said}")
        entry = json.loads(done.out or "null") or []
        return [entry] if isinstance(entry, str) else entry

    def systemctl(self, scope: str, *arguments: str, timeout: float = 15) -> Ended:
        """systemctl, of the system or of the service user."""
        return self.as_user("systemctl", "--user", *arguments, timeout=timeout) if scope == "user" else self.run("systemctl", *arguments, timeout=timeout)

    def units(self, scope: str, names: list[str]) -> dict[str, dict[str, str]]:
        """State of the named units; OSError when the manager does not answer."""
        if not names:
            return {}
        done = self.systemctl(scope, "show", f"--property={SHOWN}", "--", *names)
        if done.code:
            raise OSError(f"the {scope} manager does not answer: {done.said}")
        return parse_units(done.out)

    def seen(self, scope: str, names: list[str]) -> tuple[dict[str, dict[str, str]], list[str]]:
        """State of the named units, and all units that failed and are to be there again, by one question: it comes four times a minute.
        A unit that systemd-run or Podman made for a single command is whoever's ran it."""
        # --state holds for what the pattern finds, not for names
        done = self.systemctl(scope, "show", "--state=failed", f"--property={SHOWN}", "--", *names, "*")
        if done.code:
            raise OSError(f"the {scope} manager does not answer: {done.said}")
        states = parse_units(done.out)
        failed = [name for name, state in states.items() if state.get("ActiveState") == "failed" and state.get("Transient") != "yes"]
        return {name: states[name] for name in names if name in states}, failed

    def kill_container(self, name: str) -> Ended:
        """End a container that answers nothing at once: asked politely, a hung process takes the whole of its stop timeout."""
        return self.podman("kill", "--signal", "KILL", name, timeout=20)

    def revive_resolver(self, network: str, image: str) -> Ended:
        """Podman starts the resolver of a network with the next container on it: one that does nothing disturbs nobody."""
        if not image:
            return Ended(1, "", "no unit on this host names an image, which a new resolver needs a container of")
        self.as_user("pkill", "-KILL", "-u", str(self.uid), "-x", "aardvark-dns")
        closed = ("--read-only", *confined.OPTIONS, "--log-driver=none")
        return self.podman("run", "--rm", "--pull=never", *closed, "--network", network, "--entrypoint", "/bin/true", image, timeout=60)

    def connects(self, address: str, port: int, timeout: float) -> str:
        """Why a server takes no connection; nothing where it does."""
        try:
            socket.create_connection((address, port), timeout=timeout).close()
        except (OSError, UnicodeError) as error:
            return str(error)
        return ""

    def get(self, address: str, port: int, path: str, domain: str, timeout: float, tls: bool = False) -> Answer:
        """One GET, as nginx asks an instance (or, by TLS, as a browser asks nginx; whether the certificate is good is another check's matter)."""
        return get(address, port, path, domain, timeout, tls)


def get(address: str, port: int, path: str, domain: str, timeout: float, tls: bool = False) -> Answer:
    """One GET of an address that needs no name resolution."""
    began = time.monotonic()
    headers = {"Host": domain, "User-Agent": "senex-watchdog", **({} if tls else {"X-Forwarded-Proto": "https"})}
    try:
        answer = bounded.ask(address, port, path, headers, timeout, bounded.unverified() if tls else None, domain, whole=False)
        return Answer(answer.status, "", answer.headers.get("location", ""), time.monotonic() - began, answer.body[:4096].decode(errors="replace"))
    except TimeoutError:
        return Answer(0, f"no answer within {timeout:g} s", "", time.monotonic() - began)
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, str(error) or type(error).__name__, "", time.monotonic() - began)
