"""Servers of an nginx upstream: drained while what listens there is replaced, and back in service when it is ready."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import os
import re
import socket
import sys
import time

from ansible_collections.senex.trader.plugins.module_utils.host import bounded, fileset

# What role nginx says of its upstream: {version, servers: [address:port], hosts: [address], flags: directory, ask: {path, host}}. A file in the
# directory, which nginx looks for with each request, leaves out the server of that name or all servers of that host: no reload, so no client's connection
# is closed. `ask` is a page that a server answers when it serves
CONTRACT = "/etc/nginx/senex/upstream.json"
VERSION = 1
# Where there is no contract yet, until the next site.yml: what earlier versions of the role wrote
EARLIER, EARLIER_FLAGS = "/etc/nginx/conf.d/senex-maps.conf", "/run/senex.trader/out"
DRAIN_SECONDS = 15.0
PRE_STOP_AFTER = 0.2  # a usual request has ended by then; what is left may be a WebSocket
POLL = 0.1
ASKING = 3.0  # seconds that a server has to answer before another one leaves
LOOKS = 3  # that it gets, for one that has just restarted may need them
# An old worker may still send on what it had just accepted, so one look that finds nothing is not enough
QUIET_POLLS = 3
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


def read_contract(path: str) -> dict:
    """What nginx's upstream is; no servers where there is none. An error where it is not understood, for to restart a server that still
    gets requests would fail them."""
    content, _owner = fileset.read(path)
    if content is None:
        return of_earlier_version()
    try:
        found = json.loads(content)
        if found["version"] == VERSION:
            ask = {name: str(found["ask"][name]) for name in ("path", "host")} if "ask" in found else {}  # of before: that it takes connections
            return {**found, "servers": list(found["servers"]), "hosts": list(found["hosts"]), "flags": str(found["flags"]), "ask": ask}
        trouble = f"is of version {found['version']}, and this collection knows {VERSION}"
    except (KeyError, TypeError, ValueError) as error:
        trouble = f"cannot be read ({type(error).__name__}: {error})"
    raise OSError(f"{path} {trouble}: run playbooks/site.yml of this collection first, which writes it")


def of_earlier_version() -> dict:
    """The same, by the upstreams of nginx's own file. All its versions had one without each server, and one without each host."""
    content, _owner = fileset.read(EARLIER)
    text = (content or b"").decode(errors="replace")
    first = re.search(r"^upstream senex_web \{(.*?)^\}", text, re.MULTILINE | re.DOTALL)
    servers = re.findall(r"^ *server (\S+?)[ ;]", first[1], re.MULTILINE) if first else []
    hosts = list(dict.fromkeys(map(host_of, servers))) if "\nupstream senex_web_elsewhere_1 " in text else []
    return {"servers": servers, "hosts": hosts, "flags": EARLIER_FLAGS}


def serves(server: str, ask: dict) -> bool:
    """Whether a server answers, with a page of the application where it is known which."""
    try:
        if not ask:
            host, _, port = server.rpartition(":")
            bounded.connect(host.strip("[]"), int(port), time.monotonic() + ASKING).close()
            return True
        headers = {"Host": ask["host"], "X-Forwarded-Proto": "https"}
        return 0 < bounded.fetch(f"http://{server}{ask['path']}", headers, ASKING, whole=False).status < 500
    except (OSError, http.client.HTTPException):
        return False


def host_of(server: str) -> str:
    """The address alone, of address:port or of an address alone."""
    return re.sub(r":[0-9]+$", "", server)


class UpstreamServers:
    """`wanted` has `contract` (of role nginx), `server` (address:port) or `servers`, and `drain`, the seconds that connections have to end.
    An address alone stands for all servers there, be there any or none."""

    def __init__(self, wanted: dict | None):
        self.wanted = wanted or {}
        self.named = self.wanted.get("servers") or [server for server in [self.wanted.get("server")] if server]
        self.contract = read_contract(self.wanted.get("contract", CONTRACT)) if self.named else {"servers": [], "hosts": [], "flags": ""}
        self.servers = list(dict.fromkeys(server for name in self.named for server in self._meant(name)))
        self.cut = 0  # connections that were left when the time was over
        self.last_in_service = False  # whether they stay in service because no other server answers

    def drain(self, pre_stop_hook=None) -> bool:
        """Send no more requests to the servers if another one of the upstream answers. Whether they are drained now."""
        flag = self.flag()
        self.last_in_service = bool(self.servers) and not self.another_answers()
        if not flag or self.missing() or self.last_in_service:
            return False
        os.makedirs(self.contract["flags"], mode=0o755, exist_ok=True)
        with open(self._file(flag), "w", encoding="utf-8"):
            pass
        self.cut = self._await_connections(pre_stop_hook)
        if not self.another_answers():  # it died meanwhile, and these still serve
            self.restore()
            self.last_in_service = True
        return not self.last_in_service

    def restore(self) -> bool:
        """Send requests to the servers again. Whether that changed anything."""
        lowered = False
        for name in {*self.named, *self.servers, *map(host_of, self.servers)}:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._file(name))
                lowered = True
        return lowered

    def drained(self) -> list[str]:
        """Those of the servers that get no requests now."""
        return [server for server in self.contract["servers"] if server in self.servers and self._is_drained(server)]

    def others(self) -> list[str]:
        """Servers of the upstream that get requests and are none of these."""
        return [server for server in self.contract["servers"] if server not in self.servers and not self._is_drained(server)]

    def another_answers(self) -> bool:
        """Whether one of the others answers: that it is not flagged says nothing of one that is dead."""
        others, ask = self.others(), self.contract.get("ask") or {}
        for look in range(LOOKS if others else 0):
            if any(serves(server, ask) for server in others):
                return True
            if look + 1 < LOOKS:
                time.sleep(5 * POLL)
        return False

    def missing(self) -> list[str]:
        """Those of the servers that the upstream does not have."""
        return [server for server in self.servers if server not in self.contract["servers"]]

    def flag(self) -> str:
        """The name under which nginx leaves these servers out: one server's, or that of a host whose servers all are meant; empty when they have none."""
        if len(self.servers) == 1:
            return self.servers[0]
        hosts = set(map(host_of, self.servers))
        whole = {server for server in self.contract["servers"] if host_of(server) in hosts} == set(self.servers)
        return hosts.pop() if len(hosts) == 1 and whole and hosts <= set(self.contract["hosts"]) else ""

    def _meant(self, name: str) -> list[str]:
        return [name] if host_of(name) != name else [server for server in self.contract["servers"] if host_of(server) == name]

    def _file(self, name: str) -> str:
        return os.path.join(self.contract["flags"], name)

    def _is_drained(self, server: str) -> bool:
        """Whether its own flag is there, or that of all servers of its host."""
        return any(os.path.exists(self._file(name)) for name in (server, host_of(server)))

    def _await_connections(self, pre_stop_hook) -> int:
        """Wait for what is under way; how many connections are left. `pre_stop_hook` is called when some do not end by themselves."""
        began, quiet = time.monotonic(), 0
        while True:
            left, passed = connections(self.servers), time.monotonic() - began
            quiet = 0 if left else quiet + 1
            if quiet >= QUIET_POLLS or passed >= float(self.wanted.get("drain", DRAIN_SECONDS)):
                return left
            if left and pre_stop_hook and passed >= PRE_STOP_AFTER:
                pre_stop_hook()
                pre_stop_hook = None
            time.sleep(POLL)
