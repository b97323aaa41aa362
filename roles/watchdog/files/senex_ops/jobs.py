"""What the watchdog asks periodically, and the question by which it sees whether it works itself."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from .host import Answer


class Own:
    """Answers this process alone, through a pair of sockets: every user of the host can connect to what listens, and so many of them that its own
    question waits for a place, which is taken for trouble of the watchdog's own."""

    @staticmethod
    def _answer(theirs: socket.socket) -> None:
        with theirs, contextlib.suppress(OSError):
            theirs.sendall(theirs.recv(1))

    def ask(self, timeout: float) -> Answer:
        """Its own question, which fails only when the asking is what is broken: no processor, no file, no thread."""
        began, good, error = time.monotonic(), False, ""
        try:
            ours, theirs = socket.socketpair()
            with ours:
                threading.Thread(target=self._answer, args=(theirs,), daemon=True).start()
                ours.settimeout(timeout)
                ours.sendall(b"?")
                good = ours.recv(1) == b"?"
        except (OSError, RuntimeError) as trouble:
            error = str(trouble) or type(trouble).__name__
        return Answer(200 if good else 0, error, "", time.monotonic() - began)


@dataclass
class Job:
    """A check that runs periodically: its name, seconds between two runs, and the function."""

    name: str
    interval: float
    run: Callable
    take: Callable
    next: float = 0.0
    future: Future | None = None
    began: float = 0.0
    stuck: bool = False
