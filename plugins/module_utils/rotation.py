"""Servers of an nginx upstream out of rotation while what listens there is replaced, and back in when it is healthy."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import socket
import subprocess
import sys
import time

from ansible_collections.senex.trader.plugins.module_utils import fileset

SYSTEMCTL = "/usr/bin/systemctl"
# One file a server that is out, which nginx looks for with each request: no reload, so no client's connection is closed. Gone with a reboot
FLAGS = "/run/senex.trader/out"
DRAIN_SECONDS = 15.0
NOTICE_AFTER = 0.2  # a usual request has ended by then; what is left may be a WebSocket
POLL = 0.1
# An old worker may still send on what it had just accepted, so one look that finds nothing is not enough
QUIET_POLLS = 3
RELOAD_SECONDS = 10.0
ESTABLISHED = "01"


def connections(servers: list[str]) -> int:
    """Connections that are established from this host to one of the servers (address:port)."""
    wanted = {address for server in servers for address in _kernel_addresses(server)}
    found = 0
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError), open(table, encoding="ascii") as lines:
            next(lines, None)
            found += sum(words[3] == ESTABLISHED and words[2] in wanted for words in map(str.split, lines))
    return found


def _kernel_addresses(server: str) -> list[str]:
    """address:port as /proc/net/tcp and tcp6 write it: words of 32 bits in the machine's byte order."""
    host, _, port = server.rpartition(":")
    found = []
    for *_, place in socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM):
        address = ipaddress.ip_address(place[0])
        mapped = [ipaddress.ip_address(b"\0" * 10 + b"\xff\xff" + address.packed)] if address.version == 4 else []
        for form in [address, *mapped]:
            words = (form.packed[at : at + 4] for at in range(0, len(form.packed), 4))
            found.append("".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words) + f":{int(port):04X}")
    return found


def serving_workers() -> set[str]:
    """Ids of nginx's worker processes that take requests: not those of an earlier configuration, which only finish theirs."""
    shown = subprocess.run([SYSTEMCTL, "show", "--property=MainPID", "--value", "nginx.service"], capture_output=True, text=True, check=False)
    master = shown.stdout.strip()
    found = set()
    with contextlib.suppress(OSError):
        with open(f"/proc/{master}/task/{master}/children", encoding="ascii") as handle:
            children = handle.read().split()
        for child in children:
            with contextlib.suppress(OSError), open(f"/proc/{child}/cmdline", encoding="utf-8", errors="replace") as handle:
                if "shutting down" not in handle.read():
                    found.add(child)
    return found


def reload_nginx() -> None:
    """Have nginx read its files, and wait until no worker goes by the old ones."""
    before = serving_workers()
    subprocess.run([SYSTEMCTL, "try-reload-or-restart", "nginx.service"], capture_output=True, check=False, timeout=60)
    give_up = time.monotonic() + RELOAD_SECONDS
    while before & serving_workers() and time.monotonic() < give_up:
        time.sleep(POLL / 2)


def is_out(server: str, line: str) -> bool:
    """Whether a server gets no requests: its line of the upstream says so, or its flag is there, or that of all servers of its host."""
    return line.endswith(" down;") or any(os.path.exists(os.path.join(FLAGS, name)) for name in (server, host_of(server)))


def host_of(server: str) -> str:
    """The address alone, of address:port or of an address alone."""
    return re.sub(r":[0-9]+$", "", server)


class Rotation:
    """`wanted` has `file` (of the nginx role, which puts it right again if a run is killed in between), `server` (address:port) or
    `servers`, and `drain`, the seconds that connections have to end. An address alone stands for all servers there, be there any or none."""

    def __init__(self, wanted: dict | None):
        self.wanted = wanted or {}
        self.named = self.wanted.get("servers") or [server for server in [self.wanted.get("server")] if server]
        self.servers = list(dict.fromkeys(server for name in self.named for server in self._meant(name)))
        self.cut = 0  # connections that were left when the time was over

    def leave(self, tell=None) -> bool:
        """Send no more requests to the servers, where another one of the upstream can take them. Whether they are out now."""
        if not self.servers or self.missing() or not self.others():
            return False
        if flag := self._flag():
            self._raise_flag(flag)
        else:
            self._mark(" down")
        self.cut = self._drain(tell)
        return True

    def back(self) -> bool:
        """Send requests to the servers again. Whether that changed anything."""
        lowered = False
        for name in {*self.named, *self.servers, *map(host_of, self.servers)}:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(FLAGS, name))
                lowered = True
        return self._mark("") or lowered

    def out(self) -> list[str]:
        """Those of the servers that get no requests now."""
        return [server for server, text in self._lines().items() if server in self.servers and is_out(server, text)]

    def others(self) -> list[str]:
        """Servers of the file that get requests and are none of these."""
        return [server for server, text in self._lines().items() if server not in self.servers and not is_out(server, text)]

    def missing(self) -> list[str]:
        """Those of the servers that the file does not have."""
        lines = self._lines()
        return [server for server in self.servers if server not in lines]

    def _meant(self, name: str) -> list[str]:
        return [name] if host_of(name) != name else [server for server in self._lines() if host_of(server) == name]

    def _flag(self) -> str:
        """The flag for these servers, where nginx's files know one: they do for one server, and for all of one host."""
        text, lines = self._content()[0], self._lines()
        if FLAGS not in text:
            return ""
        if len(self.servers) == 1:
            return self.servers[0]
        host = host_of(self.servers[0])
        whole = {server for server in lines if host_of(server) == host} == set(self.servers)
        return host if whole and f"{FLAGS}/{host} " in text else ""

    def _raise_flag(self, name: str) -> None:
        os.makedirs(FLAGS, mode=0o755, exist_ok=True)
        with open(os.path.join(FLAGS, name), "w", encoding="utf-8"):
            pass

    def _drain(self, tell) -> int:
        """Wait for what is under way; how many connections are left. `tell` is called when some do not end by themselves."""
        began, quiet = time.monotonic(), 0
        while True:
            left, passed = connections(self.servers), time.monotonic() - began
            quiet = 0 if left else quiet + 1
            if quiet >= QUIET_POLLS or passed >= float(self.wanted.get("drain", DRAIN_SECONDS)):
                return left
            if left and tell and passed >= NOTICE_AFTER:
                tell()
                tell = None
            time.sleep(POLL)

    def _content(self) -> tuple[str, tuple]:
        content, owner = fileset.read(self.wanted["file"]) if self.named else (None, (0, 0, 0))
        return (content or b"").decode(errors="replace"), owner

    def _lines(self) -> dict[str, str]:
        return {match[2]: match[0].strip() for match in re.finditer(r"^( *server )(\S+)( [^;\n]*)?;", self._content()[0], re.MULTILINE)}

    def _mark(self, state: str) -> bool:
        """Write the servers' lines with or without `down`, and tell nginx, where that changes anything."""
        text, owner = self._content()
        if not text:
            return False
        names = "|".join(map(re.escape, self.servers))
        line = re.compile(rf"^( *server (?:{names})(?: [^;\n]*?)?)(?: down)?;", re.MULTILINE)
        marked = line.sub(rf"\g<1>{state};", text)
        if marked == text:
            return False
        fileset.swap([(self.wanted["file"], marked.encode(), owner)])
        reload_nginx()
        return True
