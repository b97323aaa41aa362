"""What the watchdog must know after its end: how often it has restarted each part, and which problems are open."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading

from senex_host import files, untrusted

from . import decide
from .findings import is_number
from .notices import Notices

log = logging.getLogger("senex.watchdog")


class State:
    """In two directories: what outlives a reboot, and what does not."""

    def __init__(self, state: str, runtime: str, notices: Notices):
        self.state, self.runtime, self.notices = state, runtime, notices
        self.parts: dict[str, decide.Part] = {}
        self.writing, self.written = threading.Lock(), {}  # what lies in the files

    def _keep(self, restarts: dict) -> bool:
        """The restarts of the hour, on disk; where that takes nothing, in memory, which the next process believes rather than the disk."""
        kept, spare = self._write(f"{self.state}/restarts.json", restarts), f"{self.runtime}/restarts.spare.json"
        if not kept:
            return self._write(spare, restarts)
        with contextlib.suppress(OSError):
            os.unlink(spare)
            self.written.pop(spare, None)
        return True

    def _write(self, path: str, data: dict) -> bool:
        """Whether it lies there now. What lies there already is not written again."""
        with self.writing:
            text = json.dumps(data)
            if self.written.get(path) == text:
                return True
            try:
                files.replace(path, text, durable=False)
            except OSError as error:
                self.written.pop(path, None)
                log.error("cannot write %s: %s", path, error)
                return False
            self.written[path] = text
            return True

    def restarts(self) -> dict:
        """The restarts of each part."""
        return {name: part.restarts for name, part in list(self.parts.items()) if part.restarts}

    def save(self) -> bool:
        """Keep what the next process must know beside the restarts: open problems."""
        return self._write(f"{self.state}/state.json", {"notices": self.notices.saved()})

    def load(self) -> None:
        """Go on where the process before ended, with as much of it as can be read."""
        data = self._known(f"{self.state}/state.json")
        try:
            self.notices.load(data.get("notices") or {})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("begins anew, for what was open cannot be read: %s", untrusted.plain(error, 300))
        # Earlier versions kept them with the rest
        known = self._known(f"{self.runtime}/restarts.spare.json") or self._known(f"{self.state}/restarts.json") or data.get("restarts")
        for name, restarts in known.items() if isinstance(known, dict) else ():
            moments = [float(one) for one in restarts if is_number(one)] if isinstance(restarts, list) else []
            self.parts.setdefault(name, decide.Part(name)).restarts = sorted(moments)

    @staticmethod
    def _known(path: str) -> dict:
        try:
            with open(path, encoding="utf-8") as handle:
                data = json.load(handle)
            if isinstance(data, dict):
                return data
            raise ValueError("it holds something else")
        except FileNotFoundError:
            pass
        except (OSError, ValueError, RecursionError) as error:
            log.warning("%s: begins anew, for what was known before cannot be read: %s", path, error)
        return {}
