"""Requests that nginx of this host holds back while something happens on another host: a process of its own holds them, until it is told or LONGEST is over."""

from __future__ import annotations

import contextlib
import os
import time

from ansible_collections.senex.trader.plugins.module_utils.host import host_layout, untrusted
from ansible_collections.senex.trader.plugins.module_utils.nginx.nginx_upstream import CONTRACT
from ansible_collections.senex.trader.plugins.module_utils.nginx.request_hold import LONGEST, RequestHold

MARK = os.path.join(host_layout.RUNTIME, "held")


def begin(run, contract: str = CONTRACT, mark: str = MARK) -> dict:
    """When this returns, what comes waits. Without nginx's contract nobody does."""
    since = time.time()
    if untrusted.kind(contract) != "file":
        return {"since": since}
    os.makedirs(os.path.dirname(mark), mode=0o755, exist_ok=True)
    with open(mark, "w", encoding="utf-8"):
        reading, writing = os.pipe()
    if not os.fork():
        with contextlib.suppress(BaseException):
            os.close(reading)
            _hold(run, contract, mark, writing)
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as ready:
        ready.read(1)  # or its end
    return {"since": since}


def _hold(run, contract: str, mark: str, writing: int) -> None:
    """Nobody waits for this process, or reads what it says."""
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nowhere, number)
    end = time.monotonic() + LONGEST
    with RequestHold({"contract": contract}, run):
        os.write(writing, b"1")
        os.close(writing)
        while os.path.exists(mark) and time.monotonic() < end:
            time.sleep(0.02)


def end(mark: str = MARK) -> dict:
    """All go on."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(mark)
    return {"until": time.time()}
