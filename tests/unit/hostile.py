"""A home whose owner is not root, and what that owner may do to a path while root is at work."""

import mmap
import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest

NOBODY = 65534
KINDS = ("link", "fifo", "directory", "huge", "words")
SECRETS = ("hunter2", "hunter3")
ROOT_ALONE = pytest.mark.skipif(os.geteuid() != 0, reason="only root has something to lose")
# Everything that resolves a path or acts on what one led to
CALLS = ("open", "stat", "lstat", "mkdir", "rename", "chmod", "chown", "fchmod", "fchown", "rmdir", "unlink", "listdir", "readlink", "statvfs", "fork")


class Ground:
    """Root's directory with a directory of root's own and a secret in it, and the home of a user beside them."""

    def __init__(self):
        # Not pytest's own place, which is closed to every other user
        self.base = Path(tempfile.mkdtemp(prefix="senex-ground-"))
        self.base.chmod(0o755)
        self.home, self.victim, self.secret = self.base / "home", self.base / "victim", self.base / "secret"
        self.secret.write_text("hunter2-of-root")
        self.secret.chmod(0o600)
        self.directory("home", 0o751)
        self.directory("home/.config", 0o700)
        self.victim.mkdir(0o755)
        (self.victim / "user").mkdir(0o755)

    def directory(self, name, mode=0o755, owner=NOBODY):
        path = self.base / name
        path.mkdir()
        path.chmod(mode)
        os.chown(path, owner, owner)
        return path

    def file(self, name, text, owner=NOBODY):
        path = self.base / name
        path.write_text(text)
        os.chown(path, owner, owner)
        return path

    def plant(self, name, kind):
        """What a user may put where root expects a file."""
        path = self.base / name
        {"link": lambda: path.symlink_to(self.secret), "fifo": lambda: os.mkfifo(path, 0o600), "directory": path.mkdir,
         "huge": lambda: path.write_bytes(b"1" * 70_000), "words": lambda: path.write_text("hunter3-of-the-user\n")}[kind]()  # fmt: skip
        os.lchown(path, NOBODY, NOBODY)
        return path

    def seen(self):
        """Owner, mode and name of all that is root's."""
        found = [self.victim, *sorted(self.victim.rglob("*"))]
        return [(str(path.relative_to(self.base)), path.lstat().st_uid, path.lstat().st_gid, stat.S_IMODE(path.lstat().st_mode)) for path in found]

    def swap(self, name=".config"):
        """The user's directory gives way to a link to root's."""
        os.rename(self.home / name, self.home / f"{name}.aside")
        os.symlink(self.victim, self.home / name)


class Steps:
    """Does something right before the n-th call of the system, in whatever process that happens."""

    def __init__(self, monkeypatch, at, action):
        self.count = mmap.mmap(-1, 8)  # shared with processes that are forked
        self.at, self.action, self.busy = at, action, False
        for name in CALLS:
            monkeypatch.setattr(os, name, self.wrapped(getattr(os, name)))

    def wrapped(self, call):
        def counted(*arguments, **keywords):
            if not self.busy:
                number = int.from_bytes(self.count[:], "little")
                self.count[:] = (number + 1).to_bytes(8, "little")
                if number == self.at:
                    self.busy = True
                    try:
                        self.action()
                    finally:
                        self.busy = False
            return call(*arguments, **keywords)

        return counted

    @property
    def seen(self):
        return int.from_bytes(self.count[:], "little")


def at_every_step(monkeypatch, prepare, act):
    """Prepare new ground, and act on it with the swap before the first step, the second, and so on, until one comes to its end before the swap. How many
    steps there were. One that refuses is over early, so the number of its own says nothing."""
    step, swapped = -1, True
    while swapped:
        step += 1
        ground = Ground()
        try:
            swap = prepare(ground)
            before = ground.seen()
            with monkeypatch.context() as patch:
                steps = Steps(patch, step, swap)
                try:
                    act(ground)
                except OSError:
                    pass  # a refusal is well
                except Exception as error:
                    assert type(error).__name__ in ("ApplyError", "Refused"), error
            after, swapped = ground.seen(), steps.seen > step
        finally:
            shutil.rmtree(ground.base)
        assert after == before, f"step {step}"
    return step


def secret_of(said):
    """Whether anything of those words is in it."""
    return any(word in str(said) for word in SECRETS)
