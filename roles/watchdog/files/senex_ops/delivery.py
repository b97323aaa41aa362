"""Brings messages out: a queue on disk, and a sender a channel, each with its own thread so that a slow one delays nothing."""

from __future__ import annotations

import base64
import email.utils
import http.client
import json
import logging
import os
import smtplib
import ssl
import threading
import time
from collections.abc import Callable
from email.message import EmailMessage

from . import bounded

log = logging.getLogger("senex.delivery")
KEPT = 200  # messages a channel; the oldest go first
EXPIRES = 3 * 86400
LONGEST = 900


def log_in(server: smtplib.SMTP, user: str, password: str) -> None:
    """smtplib knows ASCII alone; PLAIN takes any password (RFC 4616)."""
    if (user + password).isascii():
        server.login(user, password)
        return
    server.ehlo_or_helo_if_needed()
    word = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
    code, said = server.docmd("AUTH", f"PLAIN {word}")
    if code != 235:
        raise smtplib.SMTPAuthenticationError(code, said)


def send_mail(mail, password: str, subject: str, lines: list[str]) -> None:
    """One mail; OSError or SMTPException says why not."""
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = subject.replace("\n", " "), mail.sender, ", ".join(mail.to)
    message["Date"], message["Message-ID"] = email.utils.formatdate(), email.utils.make_msgid(domain=mail.sender.rpartition("@")[2] or None)
    message["Auto-Submitted"] = "auto-generated"
    message.set_content("\n\n".join(lines) + "\n")
    context = ssl.create_default_context(cafile=mail.ca_file or None)
    if mail.security == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(mail.host, mail.port, timeout=mail.timeout, context=context)
    else:
        server = smtplib.SMTP(mail.host, mail.port, timeout=mail.timeout)
    with server:
        if mail.security == "starttls":
            server.starttls(context=context)
        if mail.user:
            log_in(server, mail.user, password)
        refused = server.send_message(message)
    if refused:
        log.warning("mail: refused for %s", ", ".join(refused))


def send_webhook(hook, url: str, subject: str, lines: list[str], about: dict) -> None:
    """One POST; OSError says why not."""
    data = {"text": "\n".join([f"*{subject}*", *lines])} if hook.format == "slack" else {**about, "subject": subject, "lines": lines}
    fetch(url, hook.timeout, json.dumps(data).encode(), hook.ca_file)


def fetch(url: str, timeout: float, body: bytes | None = None, ca_file: str = "") -> None:
    """GET, or POST of JSON; any status but 2xx is an OSError. The address may be a secret, so no error names it."""
    headers = {"Content-Type": "application/json", "User-Agent": "senex-watchdog"}
    context = ssl.create_default_context(cafile=ca_file or None)
    try:
        answer = bounded.fetch(url, headers, timeout, context, method="GET" if body is None else "POST", data=body or b"", whole=False)
    except http.client.HTTPException as error:
        raise OSError(type(error).__name__) from None
    if not 200 <= answer.status < 300:
        raise OSError(f"it answered {answer.status}")


class Channel(threading.Thread):
    """One way out, with its directory of messages that wait."""

    def __init__(self, name: str, directory: str, retry: float, send: Callable[[str, list[str]], None]):
        super().__init__(name=f"senex-{name}", daemon=True)
        self.label, self.directory, self.retry, self.send = name, os.path.join(directory, name), retry, send
        self.wake, self.trouble = threading.Event(), ""
        self.unsaved: list[dict] = []
        os.makedirs(self.directory, mode=0o700, exist_ok=True)

    def put(self, message: dict) -> None:
        """Keep a message until it is out."""
        name = f"{time.time_ns():020d}.json"
        path = os.path.join(self.directory, name)
        try:
            with open(path + ".part", "w", encoding="utf-8") as handle:
                json.dump(message, handle)
                handle.flush()
                os.fsync(handle.fileno())
            os.rename(path + ".part", path)
        except OSError as error:
            log.error("%s: a message cannot be kept on disk (%s), so a restart loses it: %s", self.label, error, message["subject"])
            self.unsaved = [*self.unsaved, message][-KEPT:]
        for old in self.names()[:-KEPT]:
            self.drop(old, f"more than {KEPT} wait")
        self.wake.set()

    def names(self) -> list[str]:
        """Messages that wait, oldest first."""
        return sorted(name for name in os.listdir(self.directory) if name.endswith(".json"))

    def drop(self, name: str, reason: str) -> None:
        """Give a message up."""
        log.error("%s: a message of %s is given up: %s", self.label, name, reason)
        os.unlink(os.path.join(self.directory, name))

    def waiting(self) -> tuple[list[str], list[dict]]:
        """Names and contents of what waits; one that cannot be read is dropped."""
        names, messages = [], []
        for name in self.names():
            try:
                with open(os.path.join(self.directory, name), encoding="utf-8") as handle:
                    message = json.load(handle)
            except (OSError, ValueError) as error:
                self.drop(name, str(error))
                continue
            if time.time() - message["created"] > EXPIRES:
                self.drop(name, "it waited for three days")
                continue
            names.append(name)
            messages.append(message)
        return names, messages + self.unsaved

    def once(self) -> bool:
        """Send all that waits, as one message; whether nothing is left."""
        names, messages = self.waiting()
        if not messages:
            return True
        unsaved = len(self.unsaved)
        subject, lines = messages[0]["subject"], messages[0]["lines"]
        if len(messages) > 1:
            subject = f"{messages[-1]['subject']} (and {len(messages) - 1} earlier)"
            lines = [f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(one['created']))} UTC  {line}" for one in messages for line in one["lines"]]
        try:
            self.send(subject, lines[-200:])
        except (OSError, smtplib.SMTPException, ValueError) as error:
            said = " ".join((str(error) or type(error).__name__).split())[:300]
            if said != self.trouble:
                log.warning("%s: not delivered, kept and tried again: %s", self.label, said)
            self.trouble = said
            return False
        if self.trouble:
            log.info("%s: works again", self.label)
        self.trouble = ""
        for name in names:
            os.unlink(os.path.join(self.directory, name))
        self.unsaved = self.unsaved[unsaved:]
        log.info("%s: delivered: %s", self.label, subject)
        return True

    def run(self) -> None:
        """Until the process ends."""
        delay = self.retry
        while True:
            try:
                done = self.once()
            except Exception:
                log.exception("%s: unexpected", self.label)
                done = False
            delay = self.retry if done else min(LONGEST, delay * 2)
            self.wake.wait(3600 if done else delay)
            self.wake.clear()
