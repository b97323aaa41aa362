"""Stands in for a web instance: says what it was asked, and echoes over a WebSocket."""

import base64
import hashlib
import json
import sys
import time
import urllib.parse
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
ASKED = Counter()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.headers.get("Upgrade", "").lower() == "websocket":
            return self.websocket()
        length = int(self.headers.get("Content-Length", 0))
        self.rfile.read(length)
        path, _, query = self.path.partition("?")
        ASKED[path] += path != "/asked"
        if path == "/slow":
            time.sleep(3)
        if path == "/crash":  # as a process that is killed over a request
            self.close_connection = True
            return None
        if path.startswith("/events"):  # three of them, half a second apart
            return self.events()
        status = {"/missing": 404, "/unavailable": 503, "/log-in": 302}.get(path, 200)
        asked = {"port": self.server.server_port, "method": self.command, "path": self.path, "headers": dict(self.headers)}
        body = b"x" * int(query) if path == "/large" else json.dumps({"application": "stand-in", "asked": ASKED[query], **asked}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if path == "/own-policy":
            self.send_header("Content-Security-Policy", "default-src 'none'")
            self.send_header("X-Frame-Options", "SAMEORIGIN")
        if path == "/log-in":  # as Django's log-in repeats where one came from, quoted once more
            self.send_header("Location", "/accounts/login/?next=" + urllib.parse.quote(self.path))
        if path == "/large-header":
            self.send_header("X-Large", "x" * int(query.partition("&")[0]))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_HEAD = do_GET

    def events(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.close_connection = True
        for number in range(3):
            self.wfile.write(f"data: {number}\n\n".encode())
            time.sleep(0.5)

    def websocket(self):
        accept = hashlib.sha1((self.headers["Sec-WebSocket-Key"] + GUID).encode()).digest()
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(accept).decode())
        self.end_headers()
        _, length = self.rfile.read(2)
        mask = self.rfile.read(4)
        data = bytes(byte ^ mask[index % 4] for index, byte in enumerate(self.rfile.read(length & 127)))
        self.wfile.write(bytes([0x81, len(data)]) + data)
        self.close_connection = True

    def log_message(self, *_):
        """Keep the journal short."""


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
