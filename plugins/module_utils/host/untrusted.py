"""How root reads, looks and acts below directories that are not root's.

Whoever owns a directory decides where a path through it leads: to a link, a FIFO, a file system that never answers. So root walks by
descriptors, and from the first directory that is another's it goes on as that owner, in a process of its own with a time limit.
To change something there it becomes the owner altogether (`run`), in such a process too.

Standard library alone, and no import from __future__: role common installs this file with the library of the programs on the host (senex_host), and
puts its text into the fact script.
"""

import base64
import contextlib
import errno
import fnmatch
import functools
import itertools
import json
import os
import pwd
import re
import select
import signal
import stat
import time

from .child import own_keyring, told  # noqa: F401  (and their programs)
from .words import lines, major, plain, printable, records  # noqa: F401  (the words of those whose files are read)

LIMIT = 64 << 10  # bytes of a file that is read for what is in it; a larger one is not read at all
PATIENCE = 10.0  # seconds for all that is asked at once
MOST = 1000  # paths that one pattern may lead to
NAMES = 50_000  # names that are looked through for it
TOTAL = 16 << 20  # bytes of all files that are read at once: root keeps them several times on their way
LINKS = 40  # as the kernel has it
NOBODY = 65534
ABOVE = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
KINDS = {stat.S_IFDIR: "directory", stat.S_IFREG: "file", stat.S_IFLNK: "link"}


def run(uid: int, gid: int, function, *arguments, patience: float = PATIENCE):
    """What a function answers in a process that is this user's for good: anything that JSON holds, and bytes. Its OSError is raised here."""

    def work():
        if os.getuid() == 0:
            os.setsid()  # as `told`, for programs that it runs
            os.seteuid(0)
            own_keyring()
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
        return function(*arguments)

    return _forked(work, patience)


def _forked(work, patience: float):
    """What `work` answers in a process of its own, which ends when its time is over."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reading)
            # Root without CAP_KILL, as the watchdog is, may not end a process of another user
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, patience + 1)
            _send(writing, work)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    pieces: list[bytes] = []
    try:
        end = time.monotonic() + patience
        waiting = select.poll()
        waiting.register(reading, select.POLLIN)
        while True:
            if not waiting.poll(max(0.0, end - time.monotonic()) * 1000):
                raise TimeoutError(errno.ETIMEDOUT, f"no answer within {patience:g} s")
            piece = os.read(reading, 1 << 16)
            if not piece:
                break
            pieces.append(piece)
    finally:
        os.close(reading)
        with contextlib.suppress(OSError):
            os.kill(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)
    try:
        said = json.loads(b"".join(pieces), object_hook=lambda value: base64.b64decode(value["\0"]) if "\0" in value else value)
    except ValueError:
        raise OSError("the process that asked ended without an answer") from None
    if "error" in said:
        raise OSError(*[word for word in said["error"] if word is not None])
    return said["answer"]


def _send(writing: int, work) -> None:
    try:
        said = {"answer": work()}
    except OSError as error:
        name = error.filename if isinstance(error.filename, str) else None
        said = {"error": [error.errno, error.strerror, name] if error.errno is not None else [str(error)]}
    except Exception as error:  # told to whoever asked
        said = {"error": [f"{type(error).__name__}: {error}"]}
    with open(writing, "wb") as pipe:
        pipe.write(json.dumps(said, default=lambda value: {"\0": base64.b64encode(value).decode()}).encode())


class Foreign(Exception):
    """The path goes on through what is another user's."""

    def __init__(self, uid: int):
        super().__init__(uid)
        self.uid = uid


class Walk:
    """Paths, a component at a time. What belongs to another than root is entered as its owner where `switching`, and else not at all.

    A process that is not root walks as what it is.
    """

    def __init__(self, switching: bool = False):
        self.switching, self.root = switching, os.geteuid() == 0
        self.who = self.base = 0
        self.room = TOTAL
        self.known: dict[str, tuple] = {}  # directories that were walked to, each once
        self.opened = contextlib.ExitStack()

    # What may be asked of a path; each answer has `error` where there is none
    def read(self, path: str, limit: int, follow: bool) -> dict:
        """Content and owner of a regular file. Its last component may be a link where `follow`."""
        with self._last(path, follow) as (above, name, info):
            if stat.S_ISLNK(info.st_mode):
                raise OSError(f"{path} must be a file and is a link: move it away")
            self._regular(path, info)
            descriptor = os.open(name, FILE, dir_fd=above)
        with open(descriptor, "rb") as handle:
            info = os.fstat(descriptor)
            self._regular(path, info)
            most = min(limit, self.room)
            content = handle.read(most + 1) if info.st_size <= most else b""
            size = max(info.st_size, len(content))
            if size > limit:
                raise OSError(f"{path} has more than {limit} bytes: move it away")
            if size > self.room:
                raise OSError(f"{path} and what is read with it have more than {TOTAL} bytes: move some away")
            self.room -= size
        return {"content": content, "owner": [stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid]}

    def look(self, path: str, follow: bool) -> dict:
        """What lies there: kind, mode, owner, size."""
        with self._last(path, follow) as (_above, _name, info):
            kind = KINDS.get(stat.S_IFMT(info.st_mode), "something else")
            return {"kind": kind, "mode": stat.S_IMODE(info.st_mode), "uid": info.st_uid, "gid": info.st_gid, "size": info.st_size}

    def space(self, path: str) -> dict:
        """Size, room and inodes of the file system that a path lies on."""
        with self._last(path, True) as (above, name, info):
            descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
            try:
                seen = os.fstatvfs(descriptor)
            finally:
                os.close(descriptor)
        numbers = {name: getattr(seen, f"f_{name}") for name in ("frsize", "blocks", "bavail", "files", "favail")}
        return {"device": info.st_dev, **numbers}

    def names(self, path: str, most: int) -> dict:
        """The first names in a directory, or in the one that a link leads to."""
        with self._last(f"{path}/.", False) as (above, name, _info):
            descriptor = os.open(name, LIST, dir_fd=above)
        try:
            with os.scandir(descriptor) as entries:
                return {"names": [entry.name for entry in itertools.islice(entries, most)]}
        finally:
            os.close(descriptor)

    def matching(self, pattern: str, limit: int, follow: bool) -> dict:
        """`read` of every path that a pattern (* and ? within a component) leads to."""
        return {path: self.safely("read", path, limit, follow) for path in self._expanded(pattern)}

    def safely(self, what: str, path: str, *options) -> dict:
        """One of the questions; an OSError is an answer too."""
        try:
            return getattr(self, what)(path, *options)
        except NotADirectoryError:
            return {"error": [f"{path}: a directory above it is a file: move that away"]}
        except OSError as error:
            return {"error": [error.errno, error.strerror, path] if error.errno is not None else [str(error)]}

    @staticmethod
    def _regular(path: str, info: os.stat_result) -> None:
        if not stat.S_ISREG(info.st_mode):
            raise OSError(f"{path} must be a file and is something else: move it away")

    @contextlib.contextmanager
    def _last(self, path: str, follow: bool):
        """Descriptor of the directory of a path, the name in it, and what lies there. Links on the way are resolved here, never by the kernel."""
        directory, rest, links = os.path.dirname(path.rstrip("/")), _parts(path), 0
        if directory in self.known:
            above, who, self.base = self.known[directory]
            if isinstance(above, Foreign):
                raise above
            self._become(who)
            rest = rest[:1]
        else:
            self._become(0)
            above = self._enter("/", None)
        while True:
            name = rest.pop()
            if not rest and not links:
                self.known[directory] = (above, self.who, self.base)
            info = os.stat(name, dir_fd=above, follow_symlinks=False)
            try:
                if stat.S_ISLNK(info.st_mode) and (rest or follow):
                    self._met(info.st_uid)  # where anybody may make names, a link in a directory of root's need not be root's
                    links += 1
                    if links > LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                    target = os.readlink(name, dir_fd=above)
                    above = self._enter("/", None) if target.startswith("/") else above
                    rest += _parts(target)
                elif rest:
                    above = self._enter(name, above)
                    self._met(os.fstat(above).st_uid)
                else:
                    break
            except Foreign as foreign:
                if rest:
                    self.known[directory] = (foreign, 0, 0)
                raise
        yield above, name, info

    def _enter(self, name: str, above: int | None) -> int:
        descriptor = os.open(name, ABOVE, dir_fd=above)
        self.opened.callback(os.close, descriptor)
        return descriptor

    def close(self) -> None:
        """Give back what it holds of the directories on its ways."""
        self.opened.close()

    def _expanded(self, pattern: str) -> list[str]:
        found = [""]
        for part in reversed(_parts(pattern)):
            if "*" not in part and "?" not in part:
                found = [f"{base}/{part}" for base in found]
                continue
            names = []
            for base in found:
                names += [(base, name) for name in self._names(base or "/", NAMES + 1 - len(names))]
            if len(names) > NAMES:
                raise OSError(f"{pattern} has more than {NAMES} names on its way: move some away")
            found = [f"{base}/{name}" for base, name in names if fnmatch.fnmatchcase(name, part) and (part[0] == "." or name[0] != ".")][:MOST]
        return sorted(path for path in found if not {errno.ENOENT, errno.ENOTDIR} & set(self.safely("look", path, False).get("error", [])[:1]))

    def _names(self, path: str, most: int) -> list[str]:
        try:
            with self._last(f"{path}/.", False) as (above, name, _info):
                descriptor = os.open(name, LIST, dir_fd=above)
        except OSError:
            return []
        try:
            with os.scandir(descriptor) as entries:
                return sorted(entry.name for entry in itertools.islice(entries, most))
        finally:
            os.close(descriptor)

    def _met(self, uid: int) -> None:
        """Go on as the owner: from root to anybody, from there to the subordinate ids of that user, and never back to root."""
        if not self.root or uid in (0, self.who) or (self.who != 0 and uid != self.base and uid not in subordinate(self.base)):
            return
        if not self.switching:
            raise Foreign(uid)
        if self.who == 0:
            self.base = uid
        self._become(uid)

    def _become(self, uid: int) -> None:
        if self.switching and self.root and uid != self.who:
            os.seteuid(0)
            os.setgroups([])
            os.setegid(group(uid))
            os.seteuid(uid)
        self.who = uid


def _parts(path: str) -> list[str]:
    """Components, the first one last."""
    return [part for part in reversed(path.split("/")) if part] or ["."]


@functools.cache
def group(uid: int) -> int:
    """The group of a user's own."""
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return NOBODY


@functools.cache
def subordinate(uid: int, file: str = "/etc/subuid") -> set | range:
    """The user ids that containers of this user have outside; of several ranges the first."""
    try:
        name = pwd.getpwuid(uid).pw_name
        with open(file, encoding="utf-8") as handle:
            found = re.search(rf"^(?:{re.escape(name)}|{uid}):(\d+):(\d+)$", handle.read(), re.MULTILINE)
    except (OSError, KeyError):
        return set()
    return range(int(found[1]), int(found[1]) + int(found[2])) if found else set()


def _asked(what: str, names, *options) -> dict[str, dict]:
    """An answer for each name: at once where all on the way is root's, and in one process for all the others."""
    found, foreign = {}, []
    with contextlib.closing(Walk()) as walk:
        for name in dict.fromkeys(names):
            try:
                found[name] = walk.safely(what, name, *options)
            except Foreign:
                foreign.append(name)
    if foreign:

        def work() -> dict:
            walk = Walk(switching=True)
            return {name: walk.safely(what, name, *options) for name in foreign}

        try:
            found.update(_forked(work, PATIENCE))
        except OSError as error:
            found.update({name: {"error": [error.errno, error.strerror, name]} for name in foreign})
    return {name: found[name] for name in names}


def problem(answer: dict) -> OSError | None:
    """Why there is no answer; None where there is one, or where nothing lies there."""
    if "error" not in answer or answer["error"][0] == errno.ENOENT:
        return None
    return OSError(*[word for word in answer["error"] if word is not None])


def read(paths, limit: int = LIMIT, follow: bool = False) -> dict[str, dict]:
    """`content` and `owner` (mode, uid, gid), or `error`, of each file."""
    return _asked("read", paths, limit, follow)


def matching(patterns, limit: int = LIMIT, follow: bool = False) -> dict[str, dict]:
    """As `read`, for all that lies where the patterns lead; the pattern itself has an `error` where nobody answered."""
    found = _asked("matching", patterns, limit, follow)
    return {path: one for name, answer in found.items() for path, one in ({name: answer} if "error" in answer else answer).items()}


def names(paths, most: int = 3) -> dict[str, dict]:
    """`names`, the first few in each directory, or `error`."""
    return _asked("names", paths, most)


def look(paths, follow: bool = True) -> dict[str, dict]:
    """`kind`, `mode`, `uid`, `gid` and `size`, or `error`, of what lies at each path, or where its link leads."""
    return _asked("look", paths, follow)


def kind(path: str, follow: bool = True) -> str:
    """directory, file, link, something else; empty where nothing is or where it cannot be reached."""
    return look([path], follow)[path].get("kind", "")


def space(paths) -> dict[str, dict]:
    """`device`, `frsize`, `blocks`, `bavail`, `files` and `favail`, or `error`, of each path's file system."""
    return _asked("space", paths)


def owner_above(path: str) -> int | None:
    """The owner of the first directory above a path that is not root's; None where root may go by the path, and in a process that is not root.

    OSError where it cannot be known: a user may mount a file system over a directory that answers root with a refusal, and take it away again.
    """
    try:
        with contextlib.closing(Walk()) as walk:
            walk.look(os.path.dirname(path.rstrip("/")) + "/.", True)
    except Foreign as foreign:
        return foreign.uid
    except FileNotFoundError:
        pass  # what is missing will be root's when root has made it
    return None
