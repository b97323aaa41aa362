"""A Redis that is asked over TLS, from its host or from another one: an answer comes in milliseconds, where a program in its container takes half a second."""

from __future__ import annotations

import socket
import ssl
from typing import NamedTuple


class Refused(OSError):
    """Redis answered, and said no."""


class Address(NamedTuple):
    """Where it listens, who signs its certificate, and how to log in."""

    host: str
    port: int
    authority: str
    user: str
    password: str


class Client:
    """`with Client(address) as ask: ask("INFO", "replication")`."""

    def __init__(self, address: Address, timeout: float = 3.0):
        context = ssl.create_default_context(cadata=address.authority)
        bare = socket.create_connection((address.host, address.port), timeout=timeout)
        try:
            self.socket = context.wrap_socket(bare, server_hostname=address.host)
        except OSError:
            bare.close()
            raise
        self.file = self.socket.makefile("rb")
        try:
            self("AUTH", address.user, address.password)
        except OSError:
            self.close()
            raise

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """No more questions."""
        self.file.close()
        self.socket.close()

    def __call__(self, *words: str) -> str:
        """What it answers to a command whose answer is a text, a number, or a word."""
        parts = [word.encode() for word in words]
        self.socket.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
        return self._answer()

    def _answer(self) -> str:
        line = self.file.readline(65536)
        if not line.endswith(b"\r\n"):
            raise OSError("Redis ended the connection")
        kind, text = line[:1], line[1:-2].decode(errors="replace")
        if kind == b"-":
            raise Refused(f"Redis says: {text}")
        if kind != b"$":
            return text
        if int(text) < 0:
            return ""
        body = self.file.read(int(text) + 2)
        if len(body) != int(text) + 2:
            raise OSError("Redis ended the connection")
        return body[:-2].decode(errors="replace")


def fields(info: str) -> dict[str, str]:
    """The lines of INFO."""
    return dict(line.rstrip("\r").split(":", 1) for line in info.split("\n") if ":" in line and not line.startswith("#"))
