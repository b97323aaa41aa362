"""Who releases on this host now, and what was released: a lock with a lease, and one line of JSON a release."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator

from ansible_collections.senex.trader.plugins.module_utils import fileset

LOCK, RECORDS = "deploy.lock", "releases.jsonl"
# A controller that dies between two steps leaves the lock behind for that long; a step renews it while it lasts
LEASE = 1800
RENEWAL = 60


class Busy(Exception):
    """Another release holds the lock; `holder` says which."""

    def __init__(self, holder: dict):
        super().__init__(sentence(holder))
        self.holder = holder


class Lost(OSError):
    """The lock is another's by now."""


def sentence(holder: dict, now: float | None = None) -> str:
    """The lock's holder, for a person."""
    now = time.time() if now is None else now
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(holder["since"]))
    return (
        f"a release is under way: {holder['what']} by {holder['who']} since {since} UTC ({int(now - holder['since'])} s ago), now at '{holder['step']}'. "
        f"Wait for its end. When its machine is gone, the lock is free in {max(0, int(holder['renewed'] + LEASE - now))} s, "
        "or at once with -e release_take_over=true"
    )


class Ledger:
    """Lock and records in one directory."""

    def __init__(self, directory: str = fileset.MANIFESTS):
        self.directory = directory

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

    def _read(self, name: str) -> str:
        with contextlib.suppress(FileNotFoundError), open(self._path(name), encoding="utf-8") as handle:
            return handle.read()
        return ""

    def _remove(self, name: str) -> None:
        os.unlink(self._path(name))

    def holder(self) -> dict | None:
        """Who holds the lock."""
        try:
            return json.loads(self._read(LOCK))
        except ValueError:
            return None

    def begin(self, identity: dict, take_over: str = "") -> dict | None:
        """Take the lock; the holder it was taken from when that one is dead. `take_over` names the holder the caller knows to be dead, or is `any`."""
        with self._alone():
            holder = self.holder()
            mine = holder is not None and holder["id"] == identity["id"]
            if holder and not mine:
                dead = take_over in ("any", holder["id"]) or time.time() > holder["renewed"] + LEASE
                if not dead:
                    raise Busy(holder)
                end = {"result": "interrupted", "reason": f"it ended at '{holder['step']}' without a word"}
                self._append({**self._outline(holder), **holder.get("about", {}), **end})
            since = holder["since"] if mine else time.time()
            self._write(LOCK, json.dumps({**identity, "since": since, "renewed": time.time(), "step": "begin"}), 0o600)
            return None if mine else holder

    def renew(self, identifier: str, step: str = "", about: dict | None = None) -> None:
        """Say how far the release is, and what its record has to hold (`about`) should it die; an error when the lock was lost."""
        with self._alone():
            holder = self.holder()
            if holder is None or holder["id"] != identifier:
                raise Lost("the lock of this release is gone: " + (sentence(holder) if holder else "it was given up or taken over meanwhile"))
            renewed = {**holder, "renewed": time.time(), "step": step or holder["step"], **({"about": about} if about else {})}
            self._write(LOCK, json.dumps(renewed), 0o600)

    @contextlib.contextmanager
    def changing(self, lease: dict) -> Iterator[Callable[[], None]]:
        """Around each change of this host: under the lock that `lease` names (id, at, about), or under none while nobody has it.

        `over` in the lease names a holder that the caller knows to be dead. What it yields raises an error when the lock is lost meanwhile.
        """
        over = threading.Event()
        if not lease.get("id"):
            holder = self.holder()
            if holder and time.time() <= holder["renewed"] + LEASE and lease.get("over") not in ("any", holder["id"]):
                raise Busy(holder)
            yield lambda: None
            return

        def still() -> None:
            if over.is_set():
                self.renew(lease["id"])  # says who has it
                raise Lost("the lock of this release was lost meanwhile")

        with self.kept(lease["id"], lease.get("at", ""), over.set, lease.get("about")):
            yield still

    @contextlib.contextmanager
    def kept(self, identifier: str, step: str, lost: Callable[[], None] = lambda: None, about: dict | None = None) -> Iterator[None]:
        """Renew the lock for as long as the body takes; `lost` is called should it be another's by then."""
        self.renew(identifier, step, about)
        over = threading.Event()

        def renewing() -> None:
            while not over.wait(RENEWAL):
                try:
                    self.renew(identifier, step)
                except Lost:
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
        """Write the record, once, and give the lock up. Whether it was held."""
        with self._alone():
            holder = self.holder()
            held = holder is not None and holder["id"] == identifier
            if record is not None and held:
                self._append({**self._outline(holder), **record, "seconds": round(time.time() - holder["since"], 1)})
            if held:
                self._remove(LOCK)
            return held

    @staticmethod
    def _outline(holder: dict) -> dict:
        began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(holder["since"]))
        return {"id": holder["id"], "what": holder["what"], "who": holder["who"], "began": began}

    def _append(self, record: dict) -> None:
        lines = [json.dumps(one, sort_keys=True) for one in self.records() if one["id"] != record["id"]]
        self._write(RECORDS, "\n".join([*lines, json.dumps(record, sort_keys=True)]) + "\n", 0o644)

    def newest(self) -> dict:
        """What the last release that ended well brought: id, tag and reference; nothing before the first."""
        good = [one for one in self.records() if one.get("result") == "succeeded" and one.get("reference")]
        return {name: good[-1].get(name, "") for name in ("id", "tag", "reference")} if good else {}

    def records(self) -> list[dict]:
        """Every release, oldest first; a line that a full disk cut short is left out."""
        found = []
        for line in self._read(RECORDS).splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found
