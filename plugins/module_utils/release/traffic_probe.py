"""Ask a site as its users do, all through a release: HTTP ten times a second, twice a second what needs database and Redis, and one WebSocket
that stays open.

Runs by itself on the host of nginx: `python3 traffic_probe.py CONFIGURATION >STATE`, as a user that may write nothing else. STATE has two places of
the same size, each a JSON object and a line; they are written in turn, twice a second, so that one of them is always whole.
Certificates are not verified here: what is asked is whether the application answers.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import http.client
import json
import os
import signal
import socket
import ssl
import struct
import sys
import threading
import time

try:
    from ansible_collections.senex.trader.plugins.module_utils.host import bounded, untrusted
except ImportError:  # of its own on the host: there it reads nothing that it wrote
    import bounded  # type: ignore[no-redef]

PAUSE = 0.1
READY_PAUSE = 0.5
KEPT = 20  # failures that are kept with their text
LONGEST = 200  # characters of each
PLACE = 32 << 10  # bytes of one of the two places of STATE
NUMBERS = ("requests", "failed", "slowest", "reconnects", "cut", "longest_gap", "began", "saved")
FRAME = 1 << 20  # bytes of a WebSocket message; a longer one is as good as none


@functools.cache
def context() -> ssl.SSLContext:
    """Made once."""
    return bounded.unverified()


def latest(text: bytes | None) -> dict:
    """What STATE says: of the places that are whole the one written last; nothing where there is none.

    Its writer has seen what the application says, and whoever reads this is root: numbers and printable lines, and nothing else.
    """
    found = []
    for line in (text or b"").split(b"\n"):
        with contextlib.suppress(ValueError, RecursionError):
            found.append(json.loads(line))
    whole = max((one for one in found if isinstance(one, dict)), key=lambda one: _number(one.get("saved")) or 0, default={})
    numbers = {name: number for name in NUMBERS if (number := _number(whole.get(name))) is not None}
    failures = whole["failures"] if isinstance(whole.get("failures"), list) else None
    return {**numbers, **({"failures": [untrusted.plain(one, LONGEST) for one in failures[-KEPT:]]} if failures is not None else {})}


def _number(value: object) -> int | float | None:
    """One that can be reckoned with and shown, or None."""
    return value if type(value) in (int, float) and abs(value) < 1e15 else None  # type: ignore[operator, return-value]


class Results:
    """What was seen, shared by both probes."""

    def __init__(self, descriptor: int):
        self.descriptor, self.saved, self.lock = descriptor, 0, threading.Lock()
        self.data = {"requests": 0, "failed": 0, "slowest": 0.0, "failures": [], "reconnects": 0, "cut": 0, "longest_gap": 0.0, "began": time.time()}

    def request(self, seconds: float, problem: str) -> None:
        with self.lock:
            self.data["requests"] += 1
            self.data["slowest"] = round(max(self.data["slowest"], seconds), 3)
            if problem:
                self.data["failed"] += 1
                self._keep(problem)

    def gap(self, seconds: float, told: bool) -> None:
        with self.lock:
            self.data["reconnects"] += 1
            self.data["cut"] += not told
            self.data["longest_gap"] = round(max(self.data["longest_gap"], seconds), 2)

    def _keep(self, problem: str) -> None:
        moment = time.strftime("%H:%M:%S", time.gmtime())
        self.data["failures"] = [*self.data["failures"], f"{moment} {problem}"[:LONGEST]][-KEPT:]

    def save(self) -> None:
        with self.lock:
            self.saved += 1
            text = json.dumps({**self.data, "saved": self.saved}).encode()
        os.pwrite(self.descriptor, text.ljust(PLACE - 1) + b"\n", self.saved % 2 * PLACE)


def ask(target: dict, path: str) -> str:
    """One request on a connection of its own; what is wrong with the answer, or nothing."""
    headers = {"Host": target["domain"], "User-Agent": "senex-prober", **({"X-Forwarded-Proto": "https"} if target.get("plain") else {})}
    secure = None if target.get("plain") else context()
    try:
        answer = bounded.ask(target["address"], int(target["port"]), path, headers, target["timeout"], secure, target["domain"])
    except (OSError, http.client.HTTPException) as error:
        return f"{path}: {type(error).__name__}: {error}"
    # 429: nginx's own limit for this address; a limit is no outage
    good = answer.status == 200 if target.get("plain") else answer.status < 400 or answer.status == 429
    return "" if good else f"{path}: {answer.status} {answer.reason}"


def probe_http(target: dict, results: Results, stop: threading.Event) -> None:
    """Pages that stand for all that needs neither database nor Redis."""
    _probe(target, target["paths"], PAUSE, results, stop)


def probe_ready(target: dict, results: Results, stop: threading.Event) -> None:
    """Database and Redis through the site. Beside the other pages, for what hangs here must not hold those up."""
    _probe({**target, "timeout": target["ready_timeout"]}, [target["ready_path"]], READY_PAUSE, results, stop)


def _probe(target: dict, paths: list[str], pause: float, results: Results, stop: threading.Event) -> None:
    """Due times, not pauses: a slow answer is followed by the next at once, so that an outage is not seen smaller than it is."""
    due, count = time.monotonic(), 0
    while not stop.wait(max(0.0, due - time.monotonic())):
        begin = time.monotonic()
        problem = ask(target, paths[count % len(paths)])
        results.request(time.monotonic() - begin, problem)
        due, count = max(due + pause, time.monotonic() - 1), count + 1


class WebSocket:
    """As much of RFC 6455 as a client needs that only listens."""

    def __init__(self, target: dict):
        end = time.monotonic() + target["timeout"]
        self.stream = bounded.connect(target["address"], target["port"], end, context(), target["domain"])
        key = base64.b64encode(os.urandom(16)).decode()
        self.stream.sendall(
            f"GET {target['websocket_path']} HTTP/1.1\r\nHost: {target['domain']}\r\nOrigin: https://{target['domain']}\r\n"
            f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        reading = bounded.Reading(self.stream, end, 1 << 16)
        self.reader = reading.makefile("rb")
        status = self.reader.readline(1 << 16).decode("latin-1").split()
        while self.reader.readline(1 << 16).strip():
            pass
        if status[1:2] != ["101"]:
            raise OSError(f"no WebSocket: {' '.join(status)}")
        reading.end = reading.limit = None  # a quiet server is none that fails

    def _exactly(self, count: int) -> bytes:
        data = self.reader.read(count)
        if len(data) < count:
            raise ConnectionResetError("cut")
        return data

    def told_to_go(self) -> bool:
        """Read until the server closes: with a close frame (True), or by cutting the connection (False)."""
        try:
            while True:
                first, second = self._exactly(2)
                size = second & 0x7F
                if size > 125:
                    size = struct.unpack("!H" if size == 126 else "!Q", self._exactly(2 if size == 126 else 8))[0]
                if size > FRAME:
                    return False
                payload = self._exactly(size)
                if first & 0x0F == 8:
                    return True
                if first & 0x0F == 9:
                    self._pong(payload)
        except OSError:
            return False

    def _pong(self, payload: bytes) -> None:
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
        self.stream.sendall(bytes([0x8A, 0x80 | len(payload)]) + mask + masked)

    def close(self) -> None:
        """Wakes a reader in another thread too."""
        with contextlib.suppress(OSError):
            self.stream.shutdown(socket.SHUT_RDWR)


def probe_websocket(target: dict, results: Results, stop: threading.Event) -> None:
    """One open WebSocket; each time it goes, how long until there is a new one."""
    lost, told, first = time.monotonic(), True, True
    while not stop.is_set():
        try:
            connection = WebSocket(target)
        except OSError:
            stop.wait(PAUSE)
            continue
        if not first:
            results.gap(time.monotonic() - lost, told)
        first = False
        watcher = threading.Thread(target=lambda open_one=connection: (stop.wait(), open_one.close()), daemon=True)
        watcher.start()
        told = connection.told_to_go()
        lost = time.monotonic()


def main() -> None:
    """Probe until SIGTERM."""
    with open(sys.argv[1], encoding="utf-8") as handle:
        target = json.load(handle)
    results, stop = Results(sys.stdout.fileno()), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threads = [threading.Thread(target=probe_http, args=(target, results, stop), daemon=True)]
    if target["ready_path"]:
        threads.append(threading.Thread(target=probe_ready, args=(target, results, stop), daemon=True))
    if target["websocket_path"]:
        threads.append(threading.Thread(target=probe_websocket, args=(target, results, stop), daemon=True))
    for thread in threads:
        thread.start()
    while not stop.wait(0.5 if results.data["requests"] else 0.05):  # who started it waits for the first answer
        results.save()
    for thread in threads:
        thread.join(timeout=5)
    results.save()


if __name__ == "__main__":
    main()
