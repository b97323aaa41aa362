"""How far the rotations were in the vault that changed a host last: an older vault would put former passwords in force again.

Moments and stages alone: nothing here tells anything of a secret.
"""

from __future__ import annotations

import contextlib
import json
import os

from ansible_collections.senex.trader.plugins.module_utils.host import fileset

NAME = "rotations"
ANYWAY = (
    "Bring the newest vault (group_vars/all/vault.yml of the environment: git pull, or from whoever rotated last). Where an older one is to be in force on "
    "purpose, run site.yml with -e senex_allow_older_vault=true (docs/operations/rotation.md)"
)


class OlderVault(OSError):
    """The run has an older vault than what changed this host last."""


def _is_state(state: object) -> bool:
    return isinstance(state, list) and len(state) == 2 and isinstance(state[0], str) and type(state[1]) is int


class RotationMark:
    """The file in root's own directory of state; a host that has none was changed by an earlier version, or no secret was rotated."""

    def __init__(self, directory: str = fileset.MANIFESTS):
        self.path = os.path.join(directory, NAME)

    def read(self) -> dict[str, list]:
        """Moment and stage of each secret; a ValueError where the file is not one of these."""
        try:
            with open(self.path, encoding="utf-8") as handle:
                found = json.load(handle)
        except FileNotFoundError:
            return {}
        if not isinstance(found, dict) or not all(map(_is_state, found.values())):
            raise ValueError("no list of rotations")
        return found

    def refusal(self, vault: dict) -> str:
        """Why a run may not change this host; empty where it may. `vault`: `rotations` as plugin_utils/rotations.py has them, and whether it may be `older`."""
        if "rotations" not in vault or vault.get("older"):
            return ""
        try:
            here = self.read()
        except (ValueError, RecursionError):
            return f"{self.path} does not say which rotations the vault had that changed this host last. {ANYWAY}"
        there = vault["rotations"]
        older = [
            f"{name} (here of {here[name][0]}, in the vault of {there[name][0] if name in there else 'before any rotation'})"
            for name in sorted(here)
            if here[name] > there.get(name, [])
        ]
        return f"the vault of this run is older than the one that changed this host last, in {', '.join(older)}. {ANYWAY}" if older else ""

    def check(self, vault: dict) -> None:
        """An error where the run may not change this host."""
        if trouble := self.refusal(vault):
            raise OlderVault(trouble)

    def forget(self) -> None:
        """No vault is in force here any more; the next one may be a new environment's."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    def note(self, vault: dict, lower: bool) -> None:
        """Remember how far they are; an older vault, which was allowed, only where it is to take the newer one's place."""
        if "rotations" not in vault:
            return
        there = vault["rotations"]
        try:
            here = self.read()
        except (ValueError, RecursionError):
            here = None  # it is written anew
        kept = {} if lower else here or {}
        new = {name: max(kept.get(name, []), there.get(name, [])) for name in {*kept, *there}}
        if new != here:
            fileset.swap([(self.path, (json.dumps(new, sort_keys=True) + "\n").encode(), (0o600, os.geteuid(), os.getegid()))])
