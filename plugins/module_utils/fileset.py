"""A set of files that changes as one: compared, installed by rename, put back on failure, remembered in a manifest."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import tempfile
from dataclasses import dataclass, field

MANIFESTS = "/var/lib/senex.trader"


@dataclass
class WantedFile:
    """One file as it should be. `secret` keeps its content out of every diff and message."""

    path: str
    content: bytes
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    secret: bool = False
    notify: list = field(default_factory=list)


@dataclass
class Change:
    """What happens to one path. `before` or `after` is None where the file does not exist."""

    path: str
    before: bytes | None
    after: bytes | None
    before_owner: tuple = (0, 0, 0)
    after_owner: tuple = (0, 0, 0)
    secret: bool = False
    notify: list = field(default_factory=list)

    def diff(self) -> dict:
        """The change as Ansible's --diff shows it."""
        header = {
            "before_header": f"{self.path} {owner_text(self.before_owner, self.before)}",
            "after_header": f"{self.path} {owner_text(self.after_owner, self.after)}",
        }
        return {**header, "before": self._shown(self.before, "old"), "after": self._shown(self.after, "new")}

    def _shown(self, content: bytes | None, which: str) -> str:
        if content is None:
            return ""
        if self.secret:
            label = which if self.before != self.after else "same"
            return f"(secret, {label} content not shown)\n"
        return content.decode("utf-8", errors="replace")


def owner_text(owner: tuple, content: bytes | None) -> str:
    """`0644 0:0`, or `absent`."""
    return "absent" if content is None else f"{owner[0]:04o} {owner[1]}:{owner[2]}"


def read(path: str) -> tuple[bytes | None, tuple]:
    """Content and (mode, uid, gid) of a file; (None, zeros) where there is none."""
    try:
        with open(path, "rb") as handle:
            info = os.fstat(handle.fileno())
            return handle.read(), (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid)
    except FileNotFoundError:
        return None, (0, 0, 0)


def compare(wanted: list[WantedFile], remove: list[str]) -> list[Change]:
    """The changes that lead from the disk to the wanted set."""
    changes = []
    for item in wanted:
        before, owner = read(item.path)
        after_owner = (item.mode, item.uid, item.gid)
        if before != item.content or owner != after_owner:
            changes.append(Change(item.path, before, item.content, owner, after_owner, item.secret, item.notify))
    for path in remove:
        before, owner = read(path)
        if before is not None:
            changes.append(Change(path, before, None, owner, secret=True))
    return changes


def put(path: str, content: bytes | None, owner: tuple) -> None:
    """Write one file whole or not at all (temporary name, fsync, rename), or remove it."""
    if content is None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    mode, uid, gid = owner
    directory = os.path.dirname(path)
    os.makedirs(directory, exist_ok=True)
    # The generator and nginx read by suffix, so a name they ignore
    descriptor, temporary = tempfile.mkstemp(prefix=".senex-", suffix=".new", dir=directory)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(content)
            os.fchmod(handle.fileno(), mode)
            if (uid, gid) != (os.geteuid(), os.getegid()):
                os.fchown(handle.fileno(), uid, gid)
            handle.flush()
            os.fsync(handle.fileno())
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def install(changes: list[Change]) -> None:
    """Bring every change to the disk."""
    for change in changes:
        put(change.path, change.after, change.after_owner)


def put_back(changes: list[Change]) -> None:
    """Undo `install`, in reverse."""
    for change in reversed(changes):
        put(change.path, change.before, change.before_owner)


def digest(*parts: bytes | str | None) -> str:
    """SHA-256 over parts, each kept apart from the next."""
    total = hashlib.sha256()
    for part in parts:
        data = b"\0absent" if part is None else part.encode() if isinstance(part, str) else part
        total.update(f"{len(data)}:".encode() + data)
    return total.hexdigest()


class Manifest:
    """What a part has put on this host: its files, secrets and units, and what each unit last started with."""

    def __init__(self, part: str, directory: str = MANIFESTS):
        self.path = os.path.join(directory, f"{part}.json")
        content, _owner = read(self.path)
        self.found = content is not None
        data = json.loads(content) if content else {}
        self.files: list[str] = data.get("files", [])
        self.secrets: list[str] = data.get("secrets", [])
        self.units: list[str] = data.get("units", [])
        self.started: dict[str, str] = data.get("started", {})

    def save(self) -> None:
        """Write the manifest, 0600, where it differs."""
        data = {"files": self.files, "secrets": self.secrets, "units": self.units, "started": self.started}
        content = (json.dumps(data, indent=1, sort_keys=True) + "\n").encode()
        if read(self.path)[0] != content:
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            put(self.path, content, (0o600, os.geteuid(), os.getegid()))
        self.found = True

    def delete(self) -> None:
        """Forget the part."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    def of_others(self) -> set[str]:
        """Paths that other parts' manifests hold as well (a shared file stays while one part has it)."""
        directory = os.path.dirname(self.path)
        paths: set[str] = set()
        for name in os.listdir(directory) if os.path.isdir(directory) else []:
            if name.endswith(".json") and name != os.path.basename(self.path):
                paths.update(Manifest(name[: -len(".json")], directory).files)
        return paths
