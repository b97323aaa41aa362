"""The prober of a release, against a real server with TLS on the loopback address."""

import base64
import datetime
import hashlib
import http.server
import json
import ssl
import struct
import subprocess
import sys
import threading
import time

import pytest
from ansible_collections.senex.trader.plugins.module_utils import prober
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
    status, broken, hanging = 200, "", ""
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
        self.send_header("Content-Length", "0")
        self.end_headers()

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
    assert prober.ask(target, "/") == ""
    handler.status = 301
    assert prober.ask(target, "/") == ""
    handler.status = 502
    assert prober.ask(target, "/x").startswith("/x: 502")
    assert "refused" in prober.ask({**target, "port": 1}, "/").lower()


def run(probe, target, tmp_path, seconds):
    results, stop = prober.Results(str(tmp_path / "state.json")), threading.Event()
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
    seen = run(prober.probe_http, target, tmp_path, 1.2)
    assert 8 <= seen["requests"] <= 14
    assert seen["failed"] == seen["requests"] and "500" in seen["failures"][-1]


@pytest.fixture
def seen(site, tmp_path):
    """What a prober of its own wrote down after so many seconds."""
    _handler, target = site

    def run(seconds, **changes):
        state, wanted = tmp_path / "seen.json", tmp_path / "target.json"
        wanted.write_text(json.dumps({**target, "websocket_path": "", "paths": ["/"], **changes}))
        process = subprocess.Popen([sys.executable, "-I", prober.__file__, str(wanted), str(state)])
        time.sleep(seconds)
        process.terminate()
        assert process.wait(10) == 0
        return json.loads(state.read_text())

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
    seen = run(prober.probe_websocket, target, tmp_path, 0.5)
    assert seen["reconnects"] >= 1 and seen["cut"] == 0 and seen["longest_gap"] < 0.5


def test_a_websocket_that_is_cut_is_told_apart(site, tmp_path):
    handler, target = site
    handler.goodbye = b""
    seen = run(prober.probe_websocket, target, tmp_path, 0.5)
    assert seen["cut"] >= 1
