"""Which version of this collection changed a host last: an older one does not know what a newer one has laid out."""

from __future__ import annotations

import os
import re

from ansible_collections.senex.trader.plugins.module_utils.host import fileset

NAME = "collection"
SEMANTIC = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?")


class Older(OSError):
    """The run is of an older version than what changed this host last."""


def order(version: str) -> tuple:
    """What versions are compared by, as on semver.org; a ValueError where it is none."""
    found = SEMANTIC.fullmatch(version)
    if not found:
        raise ValueError(f"{version!r} is no version")
    *numbers, early = found.groups()
    words = [(0, int(word), "") if word.isdigit() else (1, 0, word) for word in early.split(".")] if early else []
    return (*map(int, numbers), early is None, words)


class Mark:
    """The file in root's own directory of state; a host that has none was changed by an older version, or by none."""

    def __init__(self, directory: str = fileset.MANIFESTS):
        self.path = os.path.join(directory, NAME)

    def read(self) -> str:
        """The version; empty where there is none."""
        try:
            with open(self.path, encoding="utf-8", errors="replace") as handle:
                return handle.read(200).strip()
        except FileNotFoundError:
            return ""

    def refusal(self, collection: dict) -> str:
        """Why a run may not change this host; empty where it may. `collection` is what plugin_utils/controller.py says of it."""
        here, own = self.read(), collection.get("version", "")
        if not here or not own or collection.get("downgrade"):
            return ""
        anyway = "To use this one all the same: -e senex_allow_downgrade=true"
        try:
            newer = order(here) > order(own)
        except ValueError:
            return f"{self.path} does not name the version of the collection senex.trader that changed this host last. {anyway}"
        if not newer:
            return ""
        return (
            f"version {here} of the collection senex.trader changed this host, and this run is of {own}, "
            f"which does not know what that has laid out. Use {here} or a newer one. {anyway}"
        )

    def check(self, collection: dict) -> None:
        """An error where the run may not change this host."""
        if trouble := self.refusal(collection):
            raise Older(trouble)

    def note(self, collection: dict, lower: bool) -> None:
        """Remember the version; an older one, which was allowed, only where it is to take the newer one's place."""
        here, own = self.read(), collection.get("version", "")
        if not own or own == here:
            return
        try:
            kept = not lower and order(here) > order(own)
        except ValueError:
            kept = False
        if not kept:
            fileset.swap([(self.path, f"{own}\n".encode(), (0o644, os.geteuid(), os.getegid()))])
