"""What an operation that a run may leave half done remembers on the host, and that one process of it works there at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time

from ansible_collections.senex.trader.plugins.module_utils.host import fileset


class OperationState:
    """A file of root's own. `phase` says how far the operation is; empty where there is none.

    `name`: of its file and its lock; `busy`: what a run is told that waited for `patience` seconds for another process to end.
    """

    def __init__(self, name: str, busy: str, patience: float, directory: str = fileset.MANIFESTS):
        self.directory, self.busy, self.patience = directory, busy, patience
        self.path, self.lock = os.path.join(directory, f"{name}.state"), os.path.join(directory, f"{name}.lock")
        self.data: dict = {}
        self.read()

    def read(self) -> None:
        content, _owner = fileset.read(self.path)
        self.data = json.loads(content) if content else {}

    @property
    def phase(self) -> str:
        return self.data.get("phase", "")

    def put(self, **changes: object) -> None:
        """Remember, on the disk when this returns; None forgets."""
        self.data = {name: value for name, value in {**self.data, **changes}.items() if value is not None}
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        text = json.dumps(self.data, indent=1, sort_keys=True) + "\n"
        fileset.swap([(self.path, text.encode(), (0o600, os.geteuid(), os.getegid()))])

    def begin(self, **data: object) -> None:
        """Another operation: nothing of an earlier one stays."""
        self.data = {}
        self.put(**data)

    @contextlib.contextmanager
    def alone(self):
        """The process of a run that was killed may be at work still: it ends its step, or notices that its lock is gone."""
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        with open(self.lock, "w", encoding="utf-8") as handle:
            end = time.monotonic() + self.patience
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > end:
                        raise OSError(self.busy) from None
                    time.sleep(0.2)
            self.read()
            yield
