"""Brings messages out: a queue on disk, and a sender a channel, each with its own thread so that a slow one delays nothing."""

from __future__ import annotations

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

from senex_host import bounded, files, mail_login, untrusted

log = logging.getLogger("senex.delivery")
KEPT = 200  # messages a channel; the oldest go first
EXPIRES = 3 * 86400
LONGEST = 900


class Unbuildable(ValueError):
    """A message that no way out can take as it stands, whenever it is tried."""


def within(seconds: float, function: Callable, *arguments):
    """What a function answers, in a process of its own that ends when its time is over: a server that sends a byte now and then holds nobody up."""
    return untrusted.run(os.geteuid(), os.getegid(), function, *arguments, patience=seconds)


def send_mail(mail, password: str, subject: str, lines: list[str]) -> None:
    """One mail; OSError says why not, Unbuildable that it never will."""
    refused = within(3 * mail.timeout, hand_over, mail, password, written(mail, subject, lines))
    if refused:
        log.warning("mail: refused for %s", ", ".join(refused))


def written(mail, subject: str, lines: list[str]) -> EmailMessage:
    """A mail as it will go out."""
    message = EmailMessage()
    try:
        message["Subject"], message["From"], message["To"] = " ".join(subject.splitlines()), mail.sender, ", ".join(mail.to)
        message["Date"], message["Message-ID"] = email.utils.formatdate(), email.utils.make_msgid(domain=mail.sender.rpartition("@")[2] or None)
        message["Auto-Submitted"] = "auto-generated"
        message.set_content("\n\n".join(lines) + "\n")
        message.as_bytes()
    except Exception as error:  # the library raises many kinds of it
        raise Unbuildable(f"cannot be written as a mail: {error}") from None
    return message


def hand_over(mail, password: str, message: EmailMessage) -> list[str]:
    """To the mail server; the addresses that it refused."""
    context = ssl.create_default_context(cafile=mail.ca_file or None)
    if mail.security == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(mail.host, mail.port, timeout=mail.timeout, context=context)
    else:
        server = smtplib.SMTP(mail.host, mail.port, timeout=mail.timeout)
    with server:
        if mail.security == "starttls":
            server.starttls(context=context)
        if mail.user:
            mail_login.log_in(server, mail.user, password)
        return list(server.send_message(message))


def send_webhook(hook, url: str, subject: str, lines: list[str], about: dict) -> None:
    """One POST; OSError says why not, Unbuildable that it never will."""
    data = {"text": "\n".join([f"*{for_slack(subject)}*", *map(for_slack, lines)])} if hook.format == "slack" else {**about, "subject": subject, "lines": lines}
    try:
        body = json.dumps(data).encode()
    except (ValueError, TypeError) as error:
        raise Unbuildable(f"cannot be written as JSON: {error}") from None
    fetch(url, hook.timeout, body, hook.ca_file)


def for_slack(text: str) -> str:
    """Words of others name no channel and are no link: Slack's own way to say so."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def fetch(url: str, timeout: float, body: bytes | None = None, ca_file: str = "") -> None:
    """GET, or POST of JSON; any status but 2xx is an OSError. Twice its time is for all of it: looking its name up has no limit of its own."""
    within(2 * timeout, ask, url, timeout, body, ca_file)


def ask(url: str, timeout: float, body: bytes | None, ca_file: str) -> None:
    """One request. The address may be a secret, so no error names it."""
    headers = {"Content-Type": "application/json", "User-Agent": "senex-watchdog"}
    context = ssl.create_default_context(cafile=ca_file or None)
    try:
        answer = bounded.fetch(url, headers, timeout, context, method="GET" if body is None else "POST", data=body or b"", whole=False)
    except TimeoutError:
        raise OSError(f"no answer within {timeout:g} s") from None
    except ValueError:
        raise OSError("its address is none") from None
    except http.client.HTTPException as error:
        raise OSError(f"it does not speak HTTP: {type(error).__name__}") from None
    if not 200 <= answer.status < 300:
        raise OSError(f"it answered {answer.status}")


def whole(message) -> bool:
    """Whether what lay on the disk is a message."""
    kinds = {"created": int | float, "subject": str, "lines": list}
    return (
        isinstance(message, dict)
        and all(isinstance(message.get(name), kind) for name, kind in kinds.items())
        and all(isinstance(line, str) for line in message["lines"])
    )


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
            files.replace(path, json.dumps(message))
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
            if not whole(message):
                self.drop(name, "it is no message")
                continue
            if time.time() - message["created"] > EXPIRES:
                self.drop(name, "it waited for three days")
                continue
            names.append(name)
            messages.append(message)
        return names, messages + self.unsaved

    def once(self) -> bool:
        """Send all that waits, as one message; whether nothing is left. Where one of them cannot be written each goes alone, and that one is dropped."""
        names, messages = self.waiting()
        if not messages:
            return True
        try:
            return self._send(names, messages)
        except Unbuildable as error:
            if len(messages) > 1:
                log.warning("%s: each message goes alone, for one %s", self.label, error)
        good = True
        for number, message in enumerate(messages):
            name = names[number : number + 1]
            try:
                good = good and self._send(name, [message])
            except Unbuildable as error:
                if name:
                    self.drop(name[0], str(error))
                else:
                    log.error("%s: a message is given up: %s", self.label, error)
                    self.unsaved = [one for one in self.unsaved if one is not message]
        return good

    def _send(self, names: list[str], messages: list[dict]) -> bool:
        subject, lines = messages[0]["subject"], messages[0]["lines"]
        if len(messages) > 1:
            subject = f"{messages[-1]['subject']} (and {len(messages) - 1} earlier)"
            lines = [f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(one['created']))} UTC  {line}" for one in messages for line in one["lines"]]
        try:
            self.send(subject, lines[-200:])
        except Unbuildable:
            raise
        except (OSError, smtplib.SMTPException, ValueError) as error:
            said = untrusted.plain(str(error) or type(error).__name__, 300)
            if said != self.trouble:
                log.warning("%s: not delivered, kept and tried again: %s", self.label, said)
            self.trouble = said
            return False
        if self.trouble:
            log.info("%s: works again", self.label)
        self.trouble = ""
        for name in names:
            os.unlink(os.path.join(self.directory, name))
        self.unsaved = [one for one in self.unsaved if not any(one is sent for sent in messages)]
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
