"""Who changes this host now, and what was released: a lock with a lease, and one line of JSON a release."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator

from ansible_collections.senex.trader.plugins.module_utils.host import fileset
from ansible_collections.senex.trader.plugins.module_utils.host.collection_mark import Mark
from ansible_collections.senex.trader.plugins.module_utils.host.host_layout import BOOT, LEASE, LOCK, PASSING_LEASE, RECORDS
from ansible_collections.senex.trader.plugins.module_utils.host.rotation_mark import RotationMark

RUN = ("who", "machine", "namespace", "pid", "started")  # what tells one ansible-playbook from another
LAST = "deploy.previous"  # who had the lock last and changed something, also when it is free again
RENEWAL = 60


class LockHeld(Exception):
    """Another operation holds the lock; `holder` says which."""

    def __init__(self, holder: dict, text: str = ""):
        super().__init__(text or sentence(holder))
        self.holder = holder


class LockLost(OSError):
    """The lock is another's by now."""


def sentence(holder: dict, now: float | None = None) -> str:
    """The lock's holder, for a person."""
    now = time.time() if now is None else now
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(holder["since"]))
    return (
        f"an operation is under way: {holder['what']} by {holder['who']} since {since} UTC ({int(now - holder['since'])} s ago), now at '{holder['step']}'. "
        f"Wait for its end. When its machine is gone, the lock is free in {max(0, int(-outlived(holder)))} s, "
        "or at once with -e release_take_over=true"
    )


def _lease(holder: dict) -> float:
    return holder.get("lease") or LEASE


def same_run(holder: dict, identity: dict) -> bool:
    """Whether both are of one ansible-playbook: what an operation includes works under its lock."""
    return bool(holder.get("pid")) and all(holder.get(name) == identity.get(name) for name in RUN)


def outlived(holder: dict) -> float:
    """Seconds since nobody renewed a lock any more, below 0 as long as it holds. By a clock that nobody sets while the host runs; a lock of before its
    start is at least as old as that."""
    uptime = time.clock_gettime(time.CLOCK_BOOTTIME)
    if "boot" not in holder:
        return time.time() - holder["renewed"] - _lease(holder)
    if holder["boot"] == this_boot():
        return uptime - holder["uptime"] - _lease(holder)
    return max(time.time() - holder["renewed"], uptime) - _lease(holder)


def expired(holder: dict) -> bool:
    """Whether nobody has renewed the lock for so long that its holder counts as dead."""
    return outlived(holder) > 0


def this_boot() -> str:
    """A word that is another one after each start of the host, for its file is gone then."""
    with contextlib.suppress(OSError, ValueError), open(BOOT, encoding="utf-8") as handle:
        if word := handle.read(100).strip():
            return word
    word = uuid.uuid4().hex
    fileset.swap([(BOOT, f"{word}\n".encode(), (0o644, os.geteuid(), os.getegid()))])
    return word


def stamp() -> dict:
    """When a lock is renewed: for a person, and for whoever judges it."""
    now: dict = {"renewed": time.time(), "uptime": time.clock_gettime(time.CLOCK_BOOTTIME)}
    with contextlib.suppress(OSError):  # where it cannot be written, the time of day has to do
        now["boot"] = this_boot()
    return now


def of_damaged(path: str) -> dict:
    """A lock that nobody can read is somebody's, since it was written."""
    written = os.stat(path).st_mtime
    return {"id": f"damaged-{int(written)}", "what": "a release whose lock is damaged", "who": "somebody", "step": "?", "since": written, "renewed": written}


def is_holder(found: object) -> bool:
    """Whether a lock's file holds what this module wrote."""
    if not isinstance(found, dict) or not isinstance(found.get("about", {}), dict):
        return False
    words = [found.get("id"), *(found.get(name, "") for name in ("what", "who", "step", "boot"))]
    numbers = [found.get(name) for name in ("since", "renewed", *(["uptime"] if "boot" in found else []), *(["lease"] if "lease" in found else []))]
    return all(isinstance(word, str) for word in words) and all(type(number) in (int, float) for number in numbers)


class Ledger:
    """Lock and records in one directory."""

    def __init__(self, directory: str = fileset.MANIFESTS):
        self.directory = directory
        self.mark, self.rotations = Mark(directory), RotationMark(directory)

    def refusal(self, about: dict) -> str:
        """Why a run may not change this host, by its version of the collection and its vault; empty where it may."""
        return self.mark.refusal(about) or self.rotations.refusal(about.get("vault") or {})

    def _check(self, about: dict) -> None:
        self.mark.check(about)
        self.rotations.check(about.get("vault") or {})

    def _remember(self, about: dict, lower: bool) -> None:
        self.mark.note(about, lower)
        self.rotations.note(about.get("vault") or {}, lower)

    def _path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    @contextlib.contextmanager
    def _alone(self):
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        with open(self._path("release.flock"), "w", encoding="utf-8") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _write(self, name: str, text: str, mode: int) -> None:
        fileset.swap([(self._path(name), text.encode(), (mode, os.geteuid(), os.getegid()))])

    def _read(self, name: str) -> str | None:
        with contextlib.suppress(FileNotFoundError), open(self._path(name), encoding="utf-8", errors="replace") as handle:
            return handle.read()
        return None

    def _remove(self, name: str) -> None:
        os.unlink(self._path(name))

    def holder(self) -> dict | None:
        """Who holds the lock."""
        try:
            text = self._read(LOCK)
            if text is None:
                return None
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        return {"what": "a release", "who": "somebody", "step": "?", **found} if is_holder(found) else of_damaged(self._path(LOCK))

    def last(self) -> dict:
        """Who had the lock last; empty where nobody had."""
        try:
            found = json.loads(self._read(LAST) or "{}")
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def _note(self, holder: dict) -> None:
        self._write(LAST, json.dumps({name: holder.get(name) for name in ("id", "what", *RUN)}), 0o600)

    def begin(self, identity: dict, take_over: str = "", collection: dict | None = None) -> dict | None:
        """Take the lock; the holder it was taken from when that one is dead. `take_over` names the holder the caller knows to be dead, or is `any`.

        An operation changes only some of what a newer version has laid out, so the mark of that one stays.
        """
        with self._alone():
            self._check(collection or {})
            holder = self.holder()
            mine = holder is not None and holder["id"] == identity["id"]
            if holder and not mine:
                self._succeed(holder, identity, take_over)
            since = holder["since"] if mine else time.time()
            self._write(LOCK, json.dumps({**identity, "since": since, **stamp(), "step": "begin"}), 0o600)
            self._note(identity)
            self._remember(collection or {}, lower=False)
            return None if mine else holder

    def _succeed(self, holder: dict, identity: dict, take_over: str) -> None:
        """Raise Busy unless the holder is dead, or the very run's own; of a dead release there is a record then."""
        if same_run(holder, identity) and holder.get("passing"):
            return
        if take_over not in ("any", holder["id"]) and not expired(holder):
            raise LockHeld(holder)
        if not holder.get("passing"):
            end = {"result": "interrupted", "reason": f"it ended at '{holder['step']}' without a word"}
            with contextlib.suppress(OSError):  # a full disk: the lock is what matters
                self._append({**self._header(holder), **holder.get("about", {}), **end})

    def join(self, run: dict) -> tuple[dict | None, bool]:
        """Under which lock a run may change this host: that of the operation it is part of, or its own, which is taken now (then True) where it `takes`.

        Busy when it is another's. A run that takes none goes by the lock of a dead one.
        """
        takes, take_over = run.get("takes", False), run.get("take_over", "")
        if not takes and self.holder() is None:
            return None, False
        identity = {name: run.get(name) for name in RUN}
        with self._alone():
            holder = self.holder()
            if holder is not None and not same_run(holder, identity):
                if take_over not in ("any", holder["id"]) and not expired(holder):
                    raise LockHeld(holder)
                if takes:
                    self._succeed(holder, identity, take_over)
                holder = None
            taken = holder is None
            if taken and not takes:
                return None, False
            last = self.last()
            if taken and last.get("id", "") != run.get("after", last.get("id", "")) and not same_run(last, identity):
                # What this run has read, the vault above all, may be of before a rotation
                raise LockHeld(
                    last, f"{last['what']} by {last['who']} came between the look of this run and its first change, so this host was not changed. Run it again"
                )
            own = {**identity, "id": run.get("id"), "what": run.get("what"), "passing": True, "lease": PASSING_LEASE, "since": time.time(), "step": "at work"}
            holder = {**(own if taken else holder), **stamp()}
            self._write(LOCK, json.dumps(holder), 0o600)
            return holder, taken

    @contextlib.contextmanager
    def working(self, run: dict) -> Iterator[dict]:
        """Change this host in the body, which says with done["changed"] what became of it; done["run_lock"] is the id of a lock that the run has to give up.

        One that it took for nothing, or that it fails under, is given up at once. done["over"] names a lock that keeps nobody of this run from the host.
        """
        collection = run.get("collection") or {}
        self._check(collection)
        holder, taken = self.join(run) if run else (None, False)
        done: dict = {"over": holder["id"] if holder else run.get("take_over", "")}
        if holder is None:
            with self._marked(collection, done):
                yield done
            return
        failed = True
        try:
            with self.heartbeat(holder["id"], holder["step"]), self._marked(collection, done):
                yield done
            failed = bool(done.get("failed"))
        finally:
            if holder.get("passing"):
                if taken and (failed or done.get("changed")):
                    self._note(holder)
                if failed or (taken and not done.get("changed")):
                    self.finish(holder["id"], None)
                else:
                    done["run_lock"] = holder["id"]

    @contextlib.contextmanager
    def _marked(self, collection: dict, done: dict) -> Iterator[None]:
        """Around a change by a version of the collection. What failed may have left something behind, so it counts."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(OSError):  # a full disk: what is under way is the error to tell of
                self._remember(collection, lower=True)
            raise
        if done.get("failed") or done.get("changed"):
            self._remember(collection, lower=True)

    def renew(self, identifier: str, step: str = "", about: dict | None = None) -> None:
        """Say how far the release is, and what its record has to hold (`about`) should it die; an error when the lock was lost."""
        with self._alone():
            holder = self.holder()
            if holder is None or holder["id"] != identifier:
                raise LockLost("the lock of this release is gone: " + (sentence(holder) if holder else "it was given up or taken over meanwhile"))
            renewed = {**holder, **stamp(), "step": step or holder["step"], **({"about": about} if about else {})}
            self._write(LOCK, json.dumps(renewed), 0o600)

    @contextlib.contextmanager
    def changing(self, lock: dict) -> Iterator[Callable[[], None]]:
        """Around each change of this host: under the lock that `lock` names (id, stage, pending_record), or under none while no operation has it.

        `over` in it is what `working` says of a lock that need not be minded. What it yields raises an error when the lock is lost meanwhile.
        """
        over = threading.Event()
        if not lock.get("id"):
            holder = self.holder()
            if holder and not holder.get("passing") and not expired(holder) and lock.get("over") not in ("any", holder["id"]):
                raise LockHeld(holder)
            yield lambda: None
            return

        def still() -> None:
            if over.is_set():
                self.renew(lock["id"])  # says who has it
                raise LockLost("the lock of this release was lost meanwhile")

        with self.heartbeat(lock["id"], lock.get("stage", ""), over.set, lock.get("pending_record")):
            yield still

    @contextlib.contextmanager
    def heartbeat(self, identifier: str, step: str, lost: Callable[[], None] = lambda: None, about: dict | None = None) -> Iterator[None]:
        """Renew the lock for as long as the body takes; `lost` is called should it be another's by then."""
        self.renew(identifier, step, about)
        over = threading.Event()

        def renewing() -> None:
            while not over.wait(RENEWAL):
                try:
                    self.renew(identifier, step)
                except LockLost:
                    return lost()
                except OSError:
                    continue  # a disk that is full for a while: the lease bears several of these

        thread = threading.Thread(target=renewing, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def finish(self, identifier: str, record: dict | None) -> bool:
        """Write the record, once, and give the lock up, also where the record cannot be written. Whether it was held.

        A record that has an id is another host's, of a release that this one missed the end of: it takes the place of what is here of that release.
        """
        with self._alone():
            holder = self.holder()
            held = holder is not None and holder["id"] == identifier
            if not held:
                return False
            whole = {"seconds": round(time.time() - holder["since"], 1), **self._header(holder), **(record or {})}
            full = False
            try:
                if record is not None:
                    self._append(whole)
            except OSError:
                full = True
            self._remove(LOCK)
            if full:  # in the room that the lock had, for `_append` takes that of all records once more
                self._add(whole)
            return True

    @staticmethod
    def _header(holder: dict) -> dict:
        began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(holder["since"]))
        return {"id": holder["id"], "what": holder["what"], "who": holder["who"], "began": began}

    def _append(self, record: dict) -> None:
        lines = [json.dumps(one, sort_keys=True) for one in self.records() if one["id"] != record["id"]]
        self._write(RECORDS, "\n".join([*lines, json.dumps(record, sort_keys=True)]) + "\n", 0o644)

    def _add(self, record: dict) -> None:
        """A record behind the others, or not at all."""
        line = (json.dumps(record, sort_keys=True) + "\n").encode()
        try:
            with open(self._path(RECORDS), "ab", buffering=0) as handle:
                before = handle.tell()
                try:
                    if handle.write(line) != len(line):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    os.fsync(handle.fileno())
                except OSError:
                    handle.truncate(before)
                    raise
        except OSError as error:
            raise OSError(f"the lock is given up, and {self._path(RECORDS)} takes no record of {record['what']}: {error.strerror}") from error

    def newest(self) -> dict:
        """The record of the last release that ended well; nothing before the first."""
        good = [one for one in self.records() if one.get("result") == "succeeded" and one.get("reference")]
        return good[-1] if good else {}

    def records(self) -> list[dict]:
        """Every release, oldest first; a line that a full disk cut short is left out."""
        found = []
        for line in (self._read(RECORDS) or "").split("\n"):
            with contextlib.suppress(ValueError, RecursionError):
                one = json.loads(line)
                found += [one] if isinstance(one, dict) and isinstance(one.get("id"), str) else []
        return found
