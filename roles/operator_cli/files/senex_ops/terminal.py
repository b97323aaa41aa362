"""Programs of the service user beside root's terminal: whoever holds a descriptor of it, or has it for controlling terminal, reads what is typed there and
types there. So they get pipes, or a terminal of their own; root copies."""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from typing import IO, TextIO

from senex_host import process

REST = 1 << 20  # bytes that are shown of what was printed before the end; others may hold the terminal open, and go on


def there() -> bool:
    """Whether anything of a terminal would be inherited: a descriptor, or the terminal itself."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return any(os.isatty(descriptor) for descriptor in (0, 1, 2))
    return True


@contextlib.contextmanager
def signals_to(running: subprocess.Popen) -> Iterator[list[int]]:
    """What asks this process to end asks the program, whose end ends this one. The signals that came."""
    kinds = [kind for kind in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(kind) != signal.SIG_IGN]  # as nohup leaves it
    came: list[int] = []

    def hand_on_signal(number, _frame) -> None:
        came.append(number)
        running.send_signal(number)

    before = [signal.signal(kind, hand_on_signal) for kind in kinds]
    try:
        yield came
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)


def status(code: int) -> int:
    """An exit status, as a shell has it."""
    return code if code >= 0 else 128 - code


def relayed(argv: list[str], gone: Callable[[], None], **account) -> int:
    """Run a program that has nothing of the terminal but its lines. `gone` is called where it was asked to end before its time."""
    ways: dict = {name: subprocess.PIPE if number else subprocess.DEVNULL for number, name in enumerate(("stdin", "stdout", "stderr")) if os.isatty(number)}
    sys.stdout.flush()
    running = subprocess.Popen(argv, start_new_session=True, **account, **ways)
    told = [threading.Thread(target=hand_on, args=pair, daemon=True) for pair in ((running.stdout, sys.stdout), (running.stderr, sys.stderr)) if pair[0]]
    for thread in told:
        thread.start()
    try:
        with signals_to(running) as came:
            code = running.wait()
        if came:
            gone()
    except KeyboardInterrupt:
        running.send_signal(signal.SIGINT)
        gone()
        raise
    for thread in told:
        thread.join(5)  # what it left behind may hold its pipes for ever
    return status(code)


def hand_on(source: IO[bytes], target: TextIO) -> None:
    """To a terminal, in printable characters: some of them are a visitor's."""
    words = codecs.getincrementaldecoder("utf-8")("replace")
    while piece := os.read(source.fileno(), 1 << 16):
        target.write(process.printable(words.decode(piece), also="\n\t\r"))
        target.flush()


def interactive(argv: list[str], uid: int, gone: Callable[[], None], **account) -> int:
    """Run a program on a terminal of its own, which is as this one is, and as large. `gone`: see `relayed`; also where this terminal is gone."""
    sys.stdout.flush()
    before = termios.tcgetattr(0)
    master, slave = os.openpty()
    try:
        os.fchown(slave, uid, -1)  # which programs open by its name
        termios.tcsetattr(slave, termios.TCSANOW, before)
        resize(master)
        ways: dict = {"stdin": slave, "stdout": slave, **({"stderr": slave} if os.isatty(2) else {})}
        running = subprocess.Popen(argv, start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0), **account, **ways)
        os.close(slave)
        resized = signal.signal(signal.SIGWINCH, lambda number, frame: resize(master))
        try:
            with signals_to(running) as came:
                try:
                    tty.setraw(0, termios.TCSADRAIN)
                    attended = copy(master, running)
                finally:
                    # What a terminal answers to what was printed is for the program: the shell after this one would take it for typed
                    with contextlib.suppress(termios.error):
                        termios.tcsetattr(0, termios.TCSAFLUSH, before)
                code = status(running.wait())
                if came or not attended:
                    gone()
                return code
        finally:
            signal.signal(signal.SIGWINCH, resized)
    finally:
        os.close(master)


def resize(master: int) -> None:
    """The size of this terminal is that of the other one too; the kernel tells who runs on it."""
    with contextlib.suppress(OSError):
        fcntl.ioctl(master, termios.TIOCSWINSZ, fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8)))


def copy(master: int, running: subprocess.Popen) -> bool:
    """Keys to the program and what it prints to the terminal, until it ends. It need not read what it is sent, so that is never waited for.
    False where this terminal is gone."""
    os.set_blocking(master, False)
    ended = os.pidfd_open(running.pid)
    keys = b""
    try:
        while True:
            ready, free, _ = select.select([master, ended, *([] if keys else [0])], [master] if keys else [], [])
            if 0 in ready:
                keys = typed()
                if not keys:
                    running.send_signal(signal.SIGHUP)
                    return False
            if free:
                with contextlib.suppress(BlockingIOError):
                    keys = keys[os.write(master, keys) :]
            if master in ready:
                try:
                    show(master)
                except BlockingIOError:
                    pass
                except OSError:  # nobody has it any more
                    return True
            if ended in ready:
                with contextlib.suppress(OSError):
                    left = REST
                    while left > 0:
                        left -= show(master)
                return True
    finally:
        os.close(ended)


def typed() -> bytes:
    """What was typed; nothing where the terminal is gone."""
    try:
        return os.read(0, 1 << 12)
    except OSError:
        return b""


def show(master: int) -> int:
    """Print some of what the program has printed; the number of its bytes."""
    piece = os.read(master, 1 << 14)
    left = memoryview(piece)
    while left:
        left = left[os.write(1, left) :]
    return len(piece)
