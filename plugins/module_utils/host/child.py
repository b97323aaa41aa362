"""A program that is run for what it prints: as text, in bounds of time and length, and without anything of root's.

Standard library alone, and no import from __future__: it belongs to untrusted.py, and goes where that one does.
"""

import contextlib
import errno
import os
import selectors
import subprocess
import time

SAID = 16 << 20  # bytes that a command may print
KEYCTL = {"x86_64": 250, "i686": 288, "armv7l": 311, "ppc64le": 271, "s390x": 280, "aarch64": 219, "riscv64": 219}  # the system call, by machine


def own_keyring() -> None:
    """A session keyring of its own for what this process starts: another user's program inherits that of root's login, and reads and adds keys there."""
    import ctypes  # at the cost of some milliseconds

    if number := KEYCTL.get(os.uname().machine):
        ctypes.CDLL(None).syscall(number, 1, None)  # KEYCTL_JOIN_SESSION_KEYRING; a container may refuse it


def told(argv: list[str], stdin=None, timeout: float | None = None, limit: int = 0, began=None, exact: bool = False, **process):
    """As subprocess.run with a text or a file as input, and all that is printed as text.

    Whoever prints more than `limit` bytes (SAID) is ended: OSError (EFBIG). `began` is called with the process. `exact`: a carriage return is no end of a line.
    """
    limit = limit or SAID
    file, given = (stdin, b"") if hasattr(stdin, "fileno") else (None, (stdin or "").encode())
    source = file or (subprocess.PIPE if given else subprocess.DEVNULL)
    # Another user's programs have no terminal of root's: what they write there passes for an answer of Ansible's module where that has one
    process = {"start_new_session": "user" in process, **process}
    if "user" in process:
        own_keyring()
    end = None if timeout is None else time.monotonic() + timeout
    running = subprocess.Popen(argv, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **process)
    if began:
        began(running)
    out, errors = bytearray(), bytearray()
    try:
        with selectors.DefaultSelector() as waiting:
            waiting.register(running.stdout, selectors.EVENT_READ, out)
            waiting.register(running.stderr, selectors.EVENT_READ, errors)
            if given:
                os.set_blocking(running.stdin.fileno(), False)
                waiting.register(running.stdin, selectors.EVENT_WRITE)
            while waiting.get_map():
                ready = waiting.select(1.0 if end is None else max(0.0, min(1.0, end - time.monotonic())))
                if end is not None and time.monotonic() >= end:
                    raise subprocess.TimeoutExpired(argv, timeout)
                if not ready and running.poll() is not None:
                    break  # what it left behind may hold its pipes for ever
                for key, _events in ready:
                    if key.data is None:
                        given = _put(key.fd, given)
                        over = not given
                    else:
                        piece = os.read(key.fd, 1 << 16)
                        key.data.extend(piece)
                        over = not piece
                    if over:
                        waiting.unregister(key.fileobj)
                        key.fileobj.close()
                if len(out) + len(errors) > limit:
                    raise OSError(errno.EFBIG, f"printed more than {limit} bytes")
        running.wait(None if end is None else max(0.0, end - time.monotonic()))
    except BaseException:
        with contextlib.suppress(OSError):  # root without CAP_KILL: it ends by its pipes, or by a limit of its own
            running.kill()
        _close(running)
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(5)
        raise
    _close(running)
    return subprocess.CompletedProcess(argv, running.returncode, _text(out, exact), _text(errors))


def _close(running: subprocess.Popen) -> None:
    for stream in (running.stdin, running.stdout, running.stderr):
        with contextlib.suppress(AttributeError, OSError):
            stream.close()


def _put(descriptor: int, given: bytes) -> bytes:
    """What is still to be written to a pipe; nothing where nobody reads it."""
    try:
        return given[os.write(descriptor, given[: 1 << 16]) :]
    except BrokenPipeError:
        return b""


def _text(said: bytearray, exact: bool = False) -> str:
    text = said.decode(errors="replace")
    return text if exact else text.replace("\r\n", "\n").replace("\r", "\n")
