"""The host as the checks see it: commands with a time limit, as root, as the service user, and inside a container."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pwd
import socket
import ssl
import subprocess
import threading
import time
from dataclasses import dataclass

ROOT_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
SHOWN = "Id,ActiveState,SubState,LoadState,Result,NRestarts,ActiveExitTimestampMonotonic,InactiveExitTimestampMonotonic"


@dataclass(frozen=True)
class Ended:
    """How a command ended; 124 is 'not within its time'."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """One line of what it printed, for a message."""
        lines = (self.err.strip() or self.out.strip()).splitlines()
        return lines[-1][-300:] if lines else f"ended with {self.code} and said nothing"


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
    blocks = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in text.split("\n\n")]
    return {block["Id"]: block for block in blocks if "Id" in block}


def parse_failed(text: str) -> list[str]:
    """`systemctl list-units --failed --plain --no-legend`."""
    return [line.split()[0] for line in text.splitlines() if line.strip()]


class Host:
    """This machine."""

    def __init__(self, user: str, home: str):
        self.user, self.home = user, home
        try:
            entry = pwd.getpwnam(user)
        except KeyError:
            raise LookupError(f"there is no user '{user}' on this host; the common role makes it") from None
        self.uid, self.gid = entry.pw_uid, entry.pw_gid
        self.runtime = f"/run/user/{self.uid}"

    @property
    def environment(self) -> dict[str, str]:
        """What a command of the service user needs, and nothing of root's own."""
        own = {"HOME": self.home, "USER": self.user, "LOGNAME": self.user, "XDG_RUNTIME_DIR": self.runtime}
        return {**ROOT_ENVIRONMENT, **own, "DBUS_SESSION_BUS_ADDRESS": f"unix:path={self.runtime}/bus"}

    @property
    def account(self) -> dict:
        """How a process of the service user is started."""
        return {"user": self.uid, "group": self.gid, "extra_groups": [], "env": self.environment, "cwd": "/"}

    @staticmethod
    def _run(argv: list[str], timeout: float, stdin: str | None, **more) -> Ended:
        try:
            done = subprocess.run(
                argv, input=stdin or "", capture_output=True, text=True, errors="replace", timeout=timeout, check=False, **more
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return Ended(124, "", f"{' '.join(argv[:4])} … gave no answer within {timeout:g} s")
        except OSError as error:
            return Ended(127, "", f"{argv[0]}: {error.strerror}")
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
        return ["systemd-run", "--user", "--quiet", "--pipe", "--wait", "--collect", "--property=LogLevelMax=warning", "--", *argv]

    def processes(self, *names: str) -> list[str]:
        """Which of these programs run as the service user. Asked by its manager: the watchdog's own sandbox hides what others run."""
        done = self.as_user(*self.within("pgrep", "--list-name", "--exact", "--euid", str(self.uid), "|".join(names)))
        if done.code not in (0, 1) or done.err.strip():
            raise OSError(f"pgrep: {done.said}")
        return sorted({line.split()[1] for line in done.out.splitlines() if len(line.split()) > 1})

    def podman(self, *arguments: str, timeout: float = 20, stdin: str | None = None) -> Ended:
        """`podman …` of the service user."""
        return self.as_user(*self.within("podman", *arguments), timeout=timeout, stdin=stdin)

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

    def failed(self, scope: str) -> list[str]:
        """Units that failed."""
        done = self.systemctl(scope, "list-units", "--failed", "--plain", "--no-legend", "--full")
        if done.code:
            raise OSError(f"the {scope} manager does not answer: {done.said}")
        return parse_failed(done.out)

    def kill_container(self, name: str) -> Ended:
        """End a container that answers nothing at once: asked politely, a hung process takes the whole of its stop timeout."""
        return self.podman("kill", "--signal", "KILL", name, timeout=20)

    def revive_resolver(self, network: str, image: str) -> Ended:
        """Podman starts the resolver of a network with the next container on it: one that does nothing disturbs nobody."""
        self.as_user("pkill", "-KILL", "-u", str(self.uid), "-x", "aardvark-dns")
        return self.podman("run", "--rm", "--pull=never", "--log-driver=none", "--network", network, "--entrypoint", "/bin/true", image, timeout=60)

    def get(self, address: str, port: int, path: str, domain: str, timeout: float, tls: bool = False) -> Answer:
        """One GET, as nginx asks an instance (or, by TLS, as a browser asks nginx; whether the certificate is good is another check's matter)."""
        return get(address, port, path, domain, timeout, tls)


def cut_off(connected: socket.socket, seconds: float, late: threading.Event) -> threading.Timer:
    """End a connection when its time is over, however often a byte comes by it: a socket's own limit begins anew with each."""
    twin = socket.socket(fileno=os.dup(connected.fileno()))

    def cut() -> None:
        late.set()
        with contextlib.suppress(OSError):
            twin.shutdown(socket.SHUT_RDWR)

    class Alarm(threading.Timer):
        """Lets go of the connection with the timer."""

        def run(self) -> None:
            """Wait, and cut where nobody has cancelled it."""
            super().run()
            twin.close()

    alarm = Alarm(seconds, cut)
    alarm.daemon = True
    alarm.start()
    return alarm


def get(address: str, port: int, path: str, domain: str, timeout: float, tls: bool = False) -> Answer:
    """One GET of an address that needs no name resolution."""
    began = time.monotonic()
    connection: http.client.HTTPConnection | None = None
    late = threading.Event()
    alarm: threading.Timer | None = None
    try:
        if tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            raw = socket.create_connection((address, port), timeout=timeout)
            alarm = cut_off(raw, timeout, late)
            connection = http.client.HTTPConnection(address, port, timeout=timeout)
            connection.sock = context.wrap_socket(raw, server_hostname=domain)
            headers = {"Host": domain}
        else:
            connection = http.client.HTTPConnection(address, port, timeout=timeout)
            connection.connect()
            alarm = cut_off(connection.sock, timeout, late)
            headers = {"Host": domain, "X-Forwarded-Proto": "https"}
        connection.request("GET", path, headers={**headers, "User-Agent": "senex-watchdog", "Connection": "close"})
        answer = connection.getresponse()
        body = answer.read(4096).decode(errors="replace")
        if late.is_set():
            raise TimeoutError
        return Answer(answer.status, "", answer.getheader("Location") or "", time.monotonic() - began, body)
    except (OSError, http.client.HTTPException) as error:
        says = f"no answer within {timeout:g} s" if late.is_set() or isinstance(error, TimeoutError) else str(error) or type(error).__name__
        return Answer(0, says, "", time.monotonic() - began)
    finally:
        if alarm is not None:
            alarm.cancel()
        if connection is not None:
            connection.close()
