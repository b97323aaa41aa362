"""Requests that nginx holds back while a service restarts that the application asks: they are answered some seconds later, and none fails.

Before each request to the application nginx asks the socket of its contract, where that is there (site.conf.j2). Nobody accepts while this holds, so
whoever asks waits. At the end each gets an answer; should this process die, the kernel ends the connections. Either way nginx lets the request go on,
as it does after a time of its own: nothing can stay held.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import threading
import time

from ansible_collections.senex.trader.plugins.module_utils.nginx.nginx_upstream import CONTRACT, POLL, connections, read_contract

# Seconds, all of it: what is not up again by then would keep visitors longer than an error does
LONGEST = 20.0
# Before anybody waits
BEFORE_SECONDS = 300
# What is under way may take so long to end
DRAIN_SECONDS = 5.0
# WebSockets stay, and look like requests that last. nginx ends a connection that is idle after 1 s, so what does not change for longer is those
SETTLED = 1.3
SOCKET = "socket"


class RequestHold:
    """`wanted` has `contract` (of role nginx), and command lines of the service user: `before`, which may take its time and makes the restart short;
    `pause` and `resume` for what else would ask the service; `busy`, which prints 0 when nobody is being served. `run` runs one. Without `wanted`
    nothing is held."""

    def __init__(self, wanted: dict | None, run):
        self.wanted, self.run = wanted, run
        self.contract = {"servers": []}
        if wanted:
            with contextlib.suppress(OSError):  # not understood
                self.contract = read_contract(wanted.get("contract", CONTRACT))
        self.place = (self.contract.get("hold") or {}).get("directory", "")
        self.ending = threading.Lock()
        self.door: socket.socket | None = None
        self.timer = threading.Timer(LONGEST, self.release)
        self.timer.daemon = True

    def __enter__(self) -> RequestHold:
        """What comes waits from here on; and what had come has ended."""
        if self.wanted:
            self._command("before", BEFORE_SECONDS)
            self.timer.start()
            with contextlib.suppress(OSError, KeyError):  # nothing to hold by is no reason not to restart
                self._close_door()
            paused = threading.Thread(target=self._command, args=("pause",), daemon=True)
            paused.start()
            self._drain()
            paused.join()
        return self

    def __exit__(self, *_) -> None:
        """All go on."""
        if self.wanted:
            self.timer.cancel()
            self.release()
            self._command("resume")

    def release(self) -> None:
        """Let those that wait go on, and hold nobody any more."""
        with self.ending:
            door, self.door = self.door, None
            if door is None:
                return
            remove(self.place)
            with door, contextlib.suppress(OSError):  # nobody left, as a rule
                while True:
                    asking, _address = door.accept()
                    with asking, contextlib.suppress(OSError):
                        asking.settimeout(1)
                        asking.recv(65536)  # what is left unread would reset the connection
                        asking.sendall(b"HTTP/1.0 204 No Content\r\n\r\n")

    def _close_door(self) -> None:
        """There at once, for nginx must never find a place without somebody who listens."""
        if not self.place:
            return
        new = f"{self.place}.new"
        owner = pwd.getpwnam(self.contract["hold"]["user"])
        for left in (new, self.place):  # of a run that was killed
            remove(left)
        os.makedirs(new, mode=0o755)
        door = socket.socket(socket.AF_UNIX)
        door.bind(os.path.join(new, SOCKET))
        os.chmod(os.path.join(new, SOCKET), 0o600)
        os.chown(os.path.join(new, SOCKET), owner.pw_uid, owner.pw_gid)
        door.listen(65535)  # the kernel takes no more than net.core.somaxconn
        door.setblocking(False)
        os.rename(new, self.place)
        self.door = door

    def _drain(self) -> None:
        """Wait until what is under way has ended, so that the restart meets nobody."""
        last, since, give_up = -1, time.monotonic(), time.monotonic() + DRAIN_SECONDS
        while time.monotonic() < give_up:
            now = connections(self.contract["servers"])
            if now != last:
                last, since = now, time.monotonic()
            if time.monotonic() - since >= SETTLED and self._command("busy") in ("", "0"):
                return
            time.sleep(POLL)

    def _command(self, name: str, timeout: int = 5) -> str:
        """What it prints; that it fails is no reason not to restart."""
        words = self.wanted.get(name)
        with contextlib.suppress(OSError):
            return self.run(words, check=False, timeout=timeout).stdout.strip() if words else ""
        return ""


def remove(place: str) -> None:
    """The socket and its directory, where they are."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(place, SOCKET))
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(place)
