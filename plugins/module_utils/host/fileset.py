"""A set of files that changes as one: compared, installed by rename, put back on failure, remembered in a manifest."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import time
from dataclasses import dataclass, field

from ansible_collections.senex.trader.plugins.module_utils.host import host_layout, untrusted

MANIFESTS = host_layout.STATE
LARGEST = 16 << 20  # bytes of a file that this engine would have written
# Around our lines in a file that is not ours; each alone is what an edit of the other one left
BEGIN, END = b"# BEGIN senex.trader: written anew by each run", b"# END senex.trader"
OLD_BLOCK = re.compile(b"^%s\n(?:.*?^%s$\n?)?|^%s$\n?" % (re.escape(BEGIN), END, END), re.MULTILINE | re.DOTALL)


@dataclass
class WantedFile:
    """One file as it should be. `secret` keeps its content out of every diff and message.

    With `block_at` the file is somebody else's, and `content` a block in it: where this pattern's match ends. Where there is no file there is no block.
    """

    path: str
    content: bytes
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    secret: bool = False
    notify: list = field(default_factory=list)
    block_at: str = ""


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
    block: bool = False

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
        # What lies there may be another's: no colours of its own on the screen, and not so much that to compare it takes for ever
        text = content[: untrusted.LIMIT].decode("utf-8", errors="replace")
        text = "".join(letter if letter.isprintable() or letter in "\n\t" else "?" for letter in text)
        return text if len(content) <= untrusted.LIMIT else f"{text}\n({len(content)} bytes in all, the others are not shown)\n"


def owner_text(owner: tuple, content: bytes | None) -> str:
    """`0644 0:0`, or `absent`."""
    return "absent" if content is None else f"{owner[0]:04o} {owner[1]}:{owner[2]}"


def components(directory: str = MANIFESTS, suffix: str = ".json") -> list[str]:
    """Names of the components that have a manifest here, or another file of their own."""
    return sorted(name[: -len(suffix)] for name in (os.listdir(directory) if os.path.isdir(directory) else []) if name.endswith(suffix))


@contextlib.contextmanager
def lock(directory: str = MANIFESTS):
    """One transaction a host at a time: a run whose connection broke may still be at work when the next one starts."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    descriptor = os.open(os.path.join(directory, "lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def read_all(paths: list[str]) -> dict[str, tuple[bytes | None, tuple]]:
    """Content and (mode, uid, gid) of each file; (None, zeros) where there is none. A link is not followed, whoever owns the directory."""
    found = {}
    for path, answer in untrusted.read(paths, LARGEST).items():
        if trouble := untrusted.problem(answer):
            raise trouble
        found[path] = (answer.get("content"), tuple(answer.get("owner", (0, 0, 0))))
    return found


def read(path: str) -> tuple[bytes | None, tuple]:
    """One file; several are cheaper at once."""
    return read_all([path])[path]


def with_block(text: bytes, block: bytes, at: str, path: str) -> bytes:
    """Somebody else's file with our block in the place of the one that it has; all other lines stay as they are, and without a block no trace stays."""
    text = OLD_BLOCK.sub(b"", text)
    if not block.strip():
        return text
    place = re.search(at.encode(), text, re.MULTILINE | re.DOTALL)
    if place is None:
        raise OSError(f"{path} has no place for what this collection adds to it: put back what the package brings, with your own lines in it")
    return text[: place.end()] + BEGIN + b"\n" + block.strip() + b"\n" + END + b"\n" + text[place.end() :]


def compare(wanted: list[WantedFile], remove: list[str], blocks: list[str] | None = None) -> list[Change]:
    """The changes that lead from the disk to the wanted set. `blocks` are files that no longer get one of ours."""
    changes, there = [], read_all([*(item.path for item in wanted), *remove, *(blocks or [])])
    for item in wanted + [WantedFile(path, b"", block_at="^") for path in blocks or []]:
        before, owner = there[item.path]
        if item.block_at:
            after = before if before is None else with_block(before, item.content, item.block_at, item.path)
            if after != before:
                changes.append(Change(item.path, before, after, owner, owner, item.secret, item.notify, block=True))
            continue
        after_owner = (item.mode, item.uid, item.gid)
        if before != item.content or owner != after_owner:
            changes.append(Change(item.path, before, item.content, owner, after_owner, item.secret, item.notify))
    for path in remove:
        before, owner = there[path]
        if before is not None:
            changes.append(Change(path, before, None, owner, secret=True))
    return changes


def own_ground(paths: list[str]) -> None:
    """An error where root would write by a path that leads through another's directory; whoever acts as that owner may."""
    if os.geteuid() == 0:
        for directory in {os.path.dirname(path.rstrip("/")): path for path in paths}.values():
            owner = untrusted.owner_above(directory)
            if owner is not None:
                raise OSError(f"{directory} lies below a directory of the user {owner}, where root writes nothing: choose another place")


def stage(path: str, content: bytes, owner: tuple) -> str:
    """Write a file beside where it will be, whole and on disk; what a killed run left there is replaced."""
    mode, uid, gid = owner
    os.makedirs(os.path.dirname(path), exist_ok=True)
    # The generator and nginx read by suffix, so a name they ignore
    temporary = os.path.join(os.path.dirname(path), f".senex-{os.path.basename(path)}.new")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as handle:
            handle.write(content)
            if (uid, gid) != (os.geteuid(), os.getegid()):
                os.fchown(handle.fileno(), uid, gid)
            os.fchmod(handle.fileno(), mode)
            handle.flush()
            os.fsync(handle.fileno())
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    return temporary


def _sync(directory: str) -> None:
    """The names in it are on the disk: state and what it speaks of may lie on two file systems."""
    with contextlib.suppress(FileNotFoundError):  # something was to be removed there, and there is nothing
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def swap(wanted: list[tuple[str, bytes | None, tuple]]) -> None:
    """Files replaced (or, with None, removed) together: all are written before the first is renamed, so a full disk changes nothing."""
    staged: dict[str, str] = {}
    own_ground([path for path, _content, _owner in wanted])
    try:
        for path, content, owner in wanted:
            if content is not None:
                staged[path] = stage(path, content, owner)
        for path, content, _owner in wanted:
            if content is None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
            else:
                os.rename(staged[path], path)
                del staged[path]
        for directory in dict.fromkeys(os.path.dirname(path) for path, _content, _owner in wanted):
            _sync(directory)
    finally:
        for temporary in staged.values():
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def install(changes: list[Change]) -> None:
    """Bring every change to the disk."""
    swap([(change.path, change.after, change.after_owner) for change in changes])


def put_back(changes: list[Change]) -> None:
    """Undo as much of `install` as happened, also on a disk that is full by now. What cannot be undone is an error when all else is."""
    there, troubles = read_all([change.path for change in changes]), []
    undo = [(change.path, change.before, change.before_owner) for change in reversed(changes)]
    undo = [item for item in undo if there[item[0]] != item[1:]]
    try:
        swap(undo)
        return
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
    for item in sorted(undo, key=lambda item: item[1] is not None):  # what goes makes room for what comes back
        try:
            swap([item])
        except OSError as error:
            try:
                overwrite(*item)
            except OSError:
                troubles.append(f"{item[0]}: {error.strerror}")
    if troubles:
        raise OSError("; ".join(troubles))


def overwrite(path: str, content: bytes, owner: tuple) -> None:
    """A file written over where it lies, which takes no room that it does not have already. Only where `swap` finds none."""
    with open(os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "wb", buffering=0) as handle:
        left = memoryview(content)
        while left:
            left = left[handle.write(left) :]
        handle.truncate(len(content))
        if owner[1:] != (os.geteuid(), os.getegid()):
            os.fchown(handle.fileno(), *owner[1:])
        os.fchmod(handle.fileno(), owner[0])
        os.fsync(handle.fileno())


def directories(paths: list[str]) -> dict[str, dict]:
    """What untrusted.look says of each; something else of that name is an error, and so is one that does not answer: a user may mount anything there."""
    found = untrusted.look(paths)
    for path, seen in found.items():
        if trouble := untrusted.problem(seen):
            raise trouble
        if seen.get("kind", "directory") != "directory":
            raise OSError(f"{path} must be a directory and is something else: move it away")
    return found


def missing_directory(path: str) -> bool:
    """Whether a directory has to be made; something else of that name is an error."""
    if os.path.lexists(path) and not os.path.isdir(path):
        raise OSError(f"{path} must be a directory and is something else: move it away")
    return not os.path.isdir(path)


def make_directory(path: str, own, writes=lambda function, *arguments: function(*arguments)) -> None:
    """Make a directory that appears under its name only when `own` has given it its owner and mode: a killed run starts over.

    `writes` calls what makes it: whose file operations these are.
    """
    parent, name = os.path.split(path.rstrip("/"))
    temporary = os.path.join(parent, f".senex-{name}.new")
    writes(_begun, path, parent, temporary)
    own(temporary)
    writes(os.rename, temporary, path)


def _begun(path: str, parent: str, temporary: str) -> None:
    own_ground([path])
    os.makedirs(parent, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(temporary)
    os.mkdir(temporary, 0o700)


def digest(*parts: bytes | str | None) -> str:
    """SHA-256 over parts, each kept apart from the next."""
    total = hashlib.sha256()
    for part in parts:
        data = b"\0absent" if part is None else part.encode() if isinstance(part, str) else part
        total.update(f"{len(data)}:".encode() + data)
    return total.hexdigest()


def by_hand(changes: list[Change], manifest: Manifest) -> list[Change]:
    """Those that undo what somebody else did to a file since the last run; also where a manifest of before does not say how that left it."""
    ours = [change for change in changes if change.after is not None and not change.block and change.path in manifest.files]
    return [change for change in ours if manifest.written.get(change.path) in (None, as_written(change.after, change.after_owner))]


def as_written(content: bytes, owner: tuple) -> str:
    """The digest that a manifest keeps of a file."""
    return digest(content, owner_text(owner, content))


class Manifest:
    """What a component has put on this host: its files, secrets and units, and what each unit last started with."""

    def __init__(self, component: str, directory: str = MANIFESTS):
        self.path = os.path.join(directory, f"{component}.json")
        content, _owner = read(self.path)
        self.found = content is not None
        try:
            data = json.loads(content) if self.found else {}
            self.files: list[str] = list(data.get("files", []))
            self.secrets: list[str] = list(data.get("secrets", []))
            self.units: list[str] = list(data.get("units", []))
            self.started: dict[str, str] = dict(data.get("started", {}))
            self.blocks: list[str] = list(data.get("blocks", []))  # files of others that hold a block of ours
            # Digest of each file and secret as the last run left it, and how many times somebody else's hand was undone: what reads it starts anew then
            self.written: dict[str, str] = dict(data.get("written", {}))
            self.repairs: dict[str, int] = {name: int(count) for name, count in dict(data.get("repairs", {})).items()}
            # A run that has begun to change things and has not come to its end
            self.unfinished = bool(data.get("unfinished", False))
        except (ValueError, TypeError, AttributeError) as error:
            raise OSError(
                f"the manifest {self.path} is damaged ({error}): put it back from a backup, or remove it; "
                "without it the next run restarts the component's units and leaves behind what the component no longer has"
            ) from error

    def save(self) -> None:
        """Write the manifest, 0600, where it differs."""
        data: dict = {"files": self.files, "secrets": self.secrets, "units": self.units, "started": self.started}
        data.update({name: value for name in ("blocks", "written", "repairs") if (value := getattr(self, name))})
        if self.unfinished:
            data["unfinished"] = True
        content = (json.dumps(data, indent=1, sort_keys=True) + "\n").encode()
        if read(self.path)[0] != content:
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            swap([(self.path, content, (0o600, os.geteuid(), os.getegid()))])
        self.found = True

    def settle(self) -> None:
        """Write it where a run has failed: the old one says of units that they have started with what was put back since. Where there is no room for both,
        the old one gives its own; without any the next run restarts the units."""
        try:
            self.save()
        except OSError:
            self.delete()
            self.save()

    def since(self) -> str:
        """When it was written: the last run that changed something."""
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(os.stat(self.path).st_mtime))

    def delete(self) -> None:
        """Remove the manifest."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    def others(self) -> list[Manifest]:
        """The manifests of the other components: what they have as well stays when this one gives it up."""
        directory, own = os.path.split(self.path)
        return [Manifest(name, directory) for name in components(directory) if f"{name}.json" != own]
