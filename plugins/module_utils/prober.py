"""Ask a site as its users do, all through a release: HTTP ten times a second, twice a second what needs database and Redis, and one WebSocket
that stays open.

Runs by itself on the host of nginx: `python3 prober.py CONFIGURATION STATE`. STATE is a JSON file, replaced twice a second.
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

PAUSE = 0.1
READY_PAUSE = 0.5
KEPT = 20  # failures that are kept with their text


@functools.cache
def context() -> ssl.SSLContext:
    """Made once and without the system's authorities, whose loading costs more than all the rest of a request."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    return made


def connect(target: dict, timeout: float) -> ssl.SSLSocket:
    """TLS to the site's address under its name."""
    raw = socket.create_connection((target["address"], target["port"]), timeout)
    return context().wrap_socket(raw, server_hostname=target["domain"])


class Results:
    """What was seen, shared by both probes."""

    def __init__(self, path: str):
        self.path, self.lock = path, threading.Lock()
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
        self.data["failures"] = [*self.data["failures"], f"{moment} {problem}"][-KEPT:]

    def save(self) -> None:
        with self.lock:
            text = json.dumps(self.data)
        temporary = f"{self.path}.new"
        with open(temporary, "w", encoding="utf-8") as handle:
            handle.write(text)
        os.rename(temporary, self.path)


def ask(target: dict, path: str) -> str:
    """One request on a connection of its own; what is wrong with the answer, or nothing."""
    try:
        with connect(target, target["timeout"]) as stream:
            head = f"GET {path} HTTP/1.1\r\nHost: {target['domain']}\r\nUser-Agent: senex-prober\r\nConnection: close\r\n\r\n"
            stream.sendall(head.encode())
            answer = http.client.HTTPResponse(stream)
            answer.begin()
            answer.read()
    except (OSError, http.client.HTTPException) as error:
        return f"{path}: {type(error).__name__}: {error}"
    # 429: nginx's own limit for this address; a limit is no outage
    return "" if answer.status < 400 or answer.status == 429 else f"{path}: {answer.status} {answer.reason}"


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
        self.stream = connect(target, target["timeout"])
        key = base64.b64encode(os.urandom(16)).decode()
        self.stream.sendall(
            f"GET {target['websocket_path']} HTTP/1.1\r\nHost: {target['domain']}\r\nOrigin: https://{target['domain']}\r\n"
            f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        self.reader = self.stream.makefile("rb")
        status = self.reader.readline().decode("latin-1").split()
        while self.reader.readline().strip():
            pass
        if status[1:2] != ["101"]:
            raise OSError(f"no WebSocket: {' '.join(status)}")
        self.stream.settimeout(None)  # a quiet server is none that fails

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
    results, stop = Results(sys.argv[2]), threading.Event()
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
