"""HTTP for code that has more rights than whom it asks: so many bytes, so many seconds for all of it however slowly they come, and no redirect.

Standard library alone, and no import from __future__: role common installs this file with the library of the programs on the host (senex_host), and
the traffic probe of a release has it beside itself.
"""

import contextlib
import http.client
import io
import socket
import ssl
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

LIMIT = 16 << 20  # bytes of an answer, with its headers
KEPT = 64 << 10  # bytes of a body that are handed on


class Reading(io.RawIOBase):
    """What comes through a socket, until a moment and up to a number of bytes (None: for ever, and any)."""

    def __init__(self, stream: socket.socket, end: float | None, limit: int | None):
        super().__init__()
        self.stream, self.end, self.limit = stream, end, limit

    def readable(self) -> bool:
        """For io.BufferedReader."""
        return True

    def readinto(self, buffer) -> int:
        """The next bytes; TimeoutError when time is over."""
        self.stream.settimeout(None if self.end is None else left(self.end))
        count = self.stream.recv_into(buffer)
        if self.limit is not None:
            self.limit -= count
            if self.limit < 0:
                raise OSError("the answer is too long")
        return count

    def makefile(self, _mode: str) -> io.BufferedReader:
        """What http.client asks a socket for."""
        return io.BufferedReader(self)


@dataclass
class Reply:
    """An answer. Names of headers are in lower case."""

    status: int
    reason: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


def printable(words: object) -> str:
    """What a server says of itself, so that it is taken for nothing else on a screen."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(words))[:200]


def left(end: float) -> float:
    """Seconds until a moment; TimeoutError when it is over."""
    seconds = end - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("timed out")
    return seconds


def unverified() -> ssl.SSLContext:
    """Takes any certificate, and loads no authorities, which costs more than all the rest of a request."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    return made


def connect(address: str, port: int, end: float, context: ssl.SSLContext | None = None, name: str = "") -> socket.socket:
    """A connection, by TLS under a name where there is a context."""
    try:
        raw = socket.create_connection((address, port), left(end))
    except UnicodeError:
        raise OSError("its address is none") from None
    try:
        raw.settimeout(left(end))
        return context.wrap_socket(raw, server_hostname=name) if context else raw
    except BaseException:
        raw.close()
        raise


def ask(
    address: str,
    port: int,
    path: str,
    headers: dict[str, str],
    timeout: float,
    context: ssl.SSLContext | None = None,
    name: str = "",
    method: str = "GET",
    data: bytes = b"",
    limit: int = LIMIT,
    whole: bool = True,
) -> Reply:
    """One request on a connection of its own. OSError or http.client.HTTPException where there is no answer, or not the `whole` of it.

    The words of its first line are printable, for they go into messages; headers and body are as they came.
    """
    end = time.monotonic() + timeout
    words = {"Connection": "close", **({"Content-Length": str(len(data))} if data else {}), **headers}
    for word in (path, *words, *words.values()):
        if any(ord(letter) <= 32 and letter != " " for letter in word) or (word is path and " " in path):
            raise OSError("the request has a character that none may have")
    with contextlib.closing(connect(address, port, end, context, name)) as stream:
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{key}: {value}\r\n" for key, value in words.items()) + "\r\n"
        stream.settimeout(left(end))
        stream.sendall(head.encode() + data)
        answer = http.client.HTTPResponse(Reading(stream, end, limit), method=method)  # type: ignore[arg-type]
        try:
            answer.begin()
        except (http.client.BadStatusLine, http.client.UnknownProtocol) as error:
            raise type(error)(printable(error)) from None
        found = Reply(answer.status, printable(answer.reason), {key.lower(): value for key, value in answer.getheaders()})
        found.body = answer.read(KEPT)
        while whole and answer.read(1 << 16):
            pass
        if whole and answer.length:  # http.client says it of a body that is read at once, and keeps all of it in memory
            raise http.client.IncompleteRead(found.body[:0], answer.length)
        return found


def fetch(url: str, headers: dict[str, str], timeout: float, context: ssl.SSLContext | None = None, **options) -> Reply:
    """The same of a URL (http, https); the certificate must be good, unless the context thinks otherwise."""
    try:
        split = urlsplit(url)
        secure, port = split.scheme == "https", split.port
    except ValueError:
        raise OSError("its address is none") from None
    if split.scheme not in ("http", "https") or not split.hostname:
        raise OSError("its address is none")
    path = (split.path or "/") + (f"?{split.query}" if split.query else "")
    context = (context or ssl.create_default_context()) if secure else None
    words = {"Host": split.netloc.rpartition("@")[2], **headers}
    return ask(split.hostname, port or (443 if secure else 80), path, words, timeout, context, split.hostname, **options)
