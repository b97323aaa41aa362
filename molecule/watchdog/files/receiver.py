"""A mail server with STARTTLS and login, and a web server, both on loopback; what comes is kept as lines of JSON.

/root/receiver/mode: `slow` takes a mail and does not answer, `refuse` says no to it.
"""

import asyncio
import email
import email.policy
import json
import ssl
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

HERE = Path("/root/receiver")
PASSWORD = "mail-password-$\"'%é"


def keep(name, data):
    with open(HERE / name, "a", encoding="utf-8") as handle:
        handle.write(json.dumps({"at": time.time(), **data}) + "\n")


class Mail:
    async def handle_DATA(self, server, session, envelope):
        mode = (HERE / "mode").read_text().strip() if (HERE / "mode").exists() else ""
        if mode:
            keep("attempts.jsonl", {"mode": mode})
        if mode == "slow":
            await asyncio.sleep(120)
        if mode == "refuse":
            return "451 not now"
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        about = {"to": envelope.rcpt_tos, "subject": message["Subject"], "body": message.get_content(), "tls": bool(session.ssl)}
        keep("mails.jsonl", {**about, "user": (session.auth_data.login or b"").decode()})
        return "250 taken"


class Hooks(BaseHTTPRequestHandler):
    def do_GET(self):
        keep("beats.jsonl", {"path": self.path})
        self.answer()

    def do_POST(self):
        keep("hooks.jsonl", {"path": self.path, **json.loads(self.rfile.read(int(self.headers["Content-Length"])))})
        self.answer()

    def log_message(self, *words):
        """Nothing: the paths are secrets."""

    def answer(self):
        self.send_response(204)
        self.end_headers()


def login(server, session, envelope, mechanism, data):
    return AuthResult(success=data.password == PASSWORD.encode(), auth_data=data)


def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(HERE / "tls.crt", HERE / "tls.key")
    controller = Controller(
        Mail(), hostname="127.0.0.1", port=2587, tls_context=context, require_starttls=True, auth_required=True, authenticator=login
    )  # fmt: skip
    controller.start()
    ThreadingHTTPServer(("127.0.0.1", 2580), Hooks).serve_forever()


if __name__ == "__main__":
    main()
