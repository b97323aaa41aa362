"""Commands, messages and the lock: what every part of the lab needs."""

import contextlib
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

from settings import DIRECTORY


class LabError(Exception):
    """Something the person who called the lab has to know."""


def say(message):
    print(f"lab: {message}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def step(message):
    say(f"{message} …")
    start = time.monotonic()
    yield
    say(f"{message}: {time.monotonic() - start:.1f} s")


# Seconds that Podman gets: it waits without end for a lock of its own that other work of it has. By its verb, what moves a whole image
PODMAN_SECONDS = 600
LONG_PODMAN_SECONDS = {"build": 3600, "commit": 1800, "push": 1800, "exec": 1800}


def limit(argv):
    """How long a command may take by itself; None where nobody says."""
    words = [str(word) for word in argv[:2]]
    return LONG_PODMAN_SECONDS.get(words[-1], PODMAN_SECONDS) if words[0] == "podman" else None


def run(*argv, check=True, timeout=None, text=None):
    """Run quietly; the output is shown when the command fails."""
    timeout = timeout or limit(argv)
    try:
        done = subprocess.run(
            [str(a) for a in argv],
            input=text,
            stdin=None if text is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    except FileNotFoundError as error:
        raise LabError(f"{argv[0]} is not installed; tests/run --prepare installs what the lab needs") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"no answer in {timeout} s from: {' '.join(map(str, argv))}") from error
    if check and done.returncode:
        raise LabError(f"exit {done.returncode} from: {' '.join(map(str, argv))}\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return done


def output(*argv, **kwargs):
    return run(*argv, **kwargs).stdout.strip()


def succeeds(*argv, **kwargs):
    return run(*argv, check=False, **kwargs).returncode == 0


REMOVALS = 3


def remove_container(name, *options):
    """Podman 4.3 gives up on one that ends by itself in the moment in which it is to be killed ("container state improper"); the next try finds it ended."""
    argv = ("podman", "rm", "--force", "--time", "5", *options, name)
    for _ in range(REMOVALS - 1):
        if succeeds(*argv):
            return
        time.sleep(1)
    run(*argv)


def runs(name):
    """Whether a container runs; podman's word alone also stands when its processes were killed."""
    state = output("podman", "inspect", "--format", "{{.State.Running}} {{.State.Pid}}", name, check=False).split()
    return state[:1] == ["true"] and Path("/proc", state[1]).exists()


# Seconds that a lock is waited for without a word: most holders need one, and who asks may read what is said here as the output of a command
TOLD_AFTER = 10


@contextlib.contextmanager
def lock(name="lock", timeout=1800):
    """The kernel drops the lock when its holder dies, so it can't go stale."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    with open(DIRECTORY / name, "w", encoding="utf-8") as handle:
        begin, told = time.monotonic(), False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > begin + timeout:
                    raise LabError(f"another process has held {DIRECTORY / name} for {timeout} s") from None
                if not told and time.monotonic() > begin + TOLD_AFTER:
                    say("waiting for another run of the lab")
                    told = True
                time.sleep(0.5)
        yield


# Tells the programs that a holder calls that the demo's host is theirs
HELD = "SENEX_DEMO_HELD"


@contextlib.contextmanager
def demo_held():
    """Held while a run has the demo's host for itself: there is one on a machine, and snapshots of it are made with it."""
    if os.environ.get(HELD):
        yield
        return
    with lock("demo.lock", timeout=3600):
        os.environ[HELD] = "1"
        try:
            yield
        finally:
            del os.environ[HELD]
