"""The prober of a release, against a real server with TLS on the loopback address."""

import base64
import datetime
import hashlib
import http.server
import json
import os
import shutil
import ssl
import struct
import subprocess
import sys
import threading
import time
import tracemalloc

import pytest
from ansible_collections.senex.trader.plugins.module_utils.host import bounded
from ansible_collections.senex.trader.plugins.module_utils.release import traffic_probe, traffic_probe_unit
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def certificate(place):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "site.test")])
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    signed = made.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256())
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    place.write_bytes(secret + signed.public_bytes(serialization.Encoding.PEM))
    return place


class Site(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    status, broken, hanging, body, length = 200, "", "", b"", None
    goodbye = b"\x88\x02" + struct.pack("!H", 1012)  # a close frame

    def do_GET(self):
        if "Sec-WebSocket-Key" in self.headers:
            accept = base64.b64encode(hashlib.sha1((self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()  # noqa: S324
            self.wfile.write(f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n".encode())
            self.wfile.write(b"\x81\x05hello" + b"\x89\x02hi")
            assert self.rfile.read(1) == b"\x8a", "a ping is answered by a pong"
            self.wfile.write(self.goodbye)
            self.close_connection = True
            return
        if self.path == self.hanging:
            time.sleep(4)
        self.send_response(503 if self.path == self.broken else self.status)
        self.send_header("Content-Length", str(len(self.body) if self.length is None else self.length))
        self.end_headers()
        self.wfile.write(self.body)
        self.close_connection = self.length is not None

    def log_message(self, *_):
        pass


@pytest.fixture
def site(tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path / "site.pem"))
    handler = type("Handler", (Site,), {})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    target = {"address": "127.0.0.1", "port": server.server_port, "domain": "site.test", "paths": ["/", "/health/"], "websocket_path": "/ws/", "timeout": 5}
    target |= {"ready_path": "", "ready_timeout": 1}
    yield handler, target
    server.shutdown()
    server.server_close()


def test_good_answers_and_bad_ones(site, tmp_path):
    handler, target = site
    assert traffic_probe.ask(target, "/") == ""
    handler.status = 301
    assert traffic_probe.ask(target, "/") == ""
    handler.status = 502
    assert traffic_probe.ask(target, "/x").startswith("/x: 502")
    assert "refused" in traffic_probe.ask({**target, "port": 1}, "/").lower()


def test_what_was_written_last_and_whole_counts():
    assert traffic_probe.latest(None) == traffic_probe.latest(b"") == {}
    assert traffic_probe.latest(b'{"failed": 3}') == {"failed": 3}, "of an older prober"
    assert traffic_probe.latest(b'{"saved": 9, "failed": 2}   \n{"saved": 8, "failed": 1}   \n')["failed"] == 2
    assert traffic_probe.latest(b'{"saved": 9, "fai  \n{"saved": 8, "failed": 1}   \n')["failed"] == 1, "the other one is being written"


def test_a_body_of_any_size_is_read_and_not_kept(site, monkeypatch):
    handler, target = site
    handler.body = b"x" * (3 << 20)
    tracemalloc.start()
    assert traffic_probe.ask(target, "/") == ""
    assert tracemalloc.get_traced_memory()[1] < 2 << 20
    tracemalloc.stop()
    monkeypatch.setattr(bounded.ask, "__defaults__", tuple(1 << 20 if one == bounded.LIMIT else one for one in bounded.ask.__defaults__))
    assert "too long" in traffic_probe.ask(target, "/")


def test_a_body_that_is_cut_off_is_a_failure(site):
    handler, target = site
    handler.body, handler.length = b"x" * 10, 11
    assert "IncompleteRead" in traffic_probe.ask(target, "/")


def test_what_is_told_of_failures_fits_into_its_place(site, tmp_path):
    state = tmp_path / "state.json"
    with open(state, "wb") as handle:
        results = traffic_probe.Results(handle.fileno())
        for _ in range(2 * traffic_probe.KEPT):
            results.request(1.0, "\x80" * 10000)
        results.save()
        results.save()
    assert traffic_probe.latest(state.read_bytes())["failed"] == 2 * traffic_probe.KEPT and state.stat().st_size == 2 * traffic_probe.PLACE


def test_the_unit_of_the_prober_may_do_little(monkeypatch, tmp_path):
    """What it is started with; that it runs so is seen on a host, in each release."""
    told = []
    monkeypatch.setattr(traffic_probe_unit, "PLACE", str(tmp_path))
    monkeypatch.setattr(traffic_probe_unit, "STATE", str(tmp_path / "prober.json"))
    monkeypatch.setattr(traffic_probe_unit.fileset, "swap", lambda files: told.extend(files))
    monkeypatch.setattr(traffic_probe_unit, "run", lambda *argv, check=True: told.append(argv))
    monkeypatch.setattr(traffic_probe_unit, "seen", lambda: {"requests": 1})
    monkeypatch.setattr(traffic_probe_unit, "source", lambda module: "")
    traffic_probe_unit.start({})
    assert {os.path.basename(path) for path, *_ in [one for one in told if isinstance(one[1], bytes)]} == {
        "traffic_probe.py", "bounded.py", "prober-target.json", "prober.json"}  # fmt: skip
    words = told[-1]
    assert {"--property=DynamicUser=yes", "--property=MemoryMax=128M", "--property=LimitFSIZE=1M", "--property=CapabilityBoundingSet="} <= set(words)
    assert f"--property=StandardOutput=file:{tmp_path}/prober.json" in words and "-I" not in words


def run(probe, target, tmp_path, seconds):
    results, stop = traffic_probe.Results(os.open(tmp_path / "state.json", os.O_RDWR | os.O_CREAT)), threading.Event()
    thread = threading.Thread(target=probe, args=(target, results, stop))
    thread.start()
    time.sleep(seconds)
    stop.set()
    thread.join(timeout=10)
    assert not thread.is_alive()
    return results.data


def test_ten_requests_a_second_are_counted_with_what_failed(site, tmp_path):
    handler, target = site
    handler.status = 500
    seen = run(traffic_probe.probe_http, target, tmp_path, 1.2)
    assert 8 <= seen["requests"] <= 14
    assert seen["failed"] == seen["requests"] and "500" in seen["failures"][-1]


@pytest.fixture
def seen(site, tmp_path):
    """What a prober of its own wrote down after so many seconds."""
    _handler, target = site
    for module in (traffic_probe, bounded):  # side by side, as on the host
        shutil.copy(module.__file__, tmp_path)

    def run(seconds, **changes):
        state, wanted = tmp_path / "seen.json", tmp_path / "target.json"
        wanted.write_text(json.dumps({**target, "websocket_path": "", "paths": ["/"], **changes}))
        with open(state, "wb") as handle:
            process = subprocess.Popen([sys.executable, "-E", "-s", "-B", tmp_path / "traffic_probe.py", str(wanted)], stdout=handle)
        end = time.monotonic() + 10  # until Python is up, which a busy machine takes its time for
        while time.monotonic() < end and not (state.stat().st_size and traffic_probe.latest(state.read_bytes()).get("requests")):
            time.sleep(0.02)
        time.sleep(seconds)
        process.terminate()
        assert process.wait(10) == 0
        assert state.stat().st_size <= 2 * traffic_probe.PLACE
        return traffic_probe.latest(state.read_bytes())

    return run


def test_what_needs_the_database_is_asked_too_and_what_fails_there_counts(site, seen):
    handler, _target = site
    handler.broken = "/ready/"
    found = seen(1.8, ready_path="/ready/")
    assert 2 <= found["failed"] <= 5 and found["requests"] - found["failed"] >= 8
    assert all(" /ready/: 503 " in line for line in found["failures"])
    assert seen(0.8, ready_path="")["failed"] == 0


def test_what_hangs_for_want_of_the_database_holds_nothing_else_up(site, seen):
    handler, _target = site
    handler.hanging = "/ready/"
    found = seen(2.8, ready_path="/ready/", ready_timeout=1)
    assert found["failed"] >= 1 and "/ready/: TimeoutError" in found["failures"][0]
    assert found["requests"] - found["failed"] >= 15


def test_a_websocket_that_is_told_to_go_comes_back(site, tmp_path):
    _handler, target = site
    seen = run(traffic_probe.probe_websocket, target, tmp_path, 0.5)
    assert seen["reconnects"] >= 1 and seen["cut"] == 0 and seen["longest_gap"] < 0.5


def test_a_websocket_that_is_cut_is_told_apart(site, tmp_path):
    handler, target = site
    handler.goodbye = b""
    seen = run(traffic_probe.probe_websocket, target, tmp_path, 0.5)
    assert seen["cut"] >= 1
