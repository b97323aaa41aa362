"""Components of this host that no run may put in place, whatever the inventory says: their data has gone on elsewhere. Root's note, a sentence for each."""

from __future__ import annotations

import os

from ansible_collections.senex.trader.plugins.module_utils.host import fileset

SUFFIX = ".closed"


def reason(component: str, directory: str = fileset.MANIFESTS) -> str:
    """Why it may not be put in place; empty where it may."""
    content, _owner = fileset.read(os.path.join(directory, component + SUFFIX))
    return (content or b"").decode(errors="replace").strip()


def close(component: str, why: str, directory: str = fileset.MANIFESTS) -> None:
    """From now on it may not."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    fileset.swap([(os.path.join(directory, component + SUFFIX), f"{why}\n".encode(), (0o600, os.geteuid(), os.getegid()))])


def reopen(component: str, directory: str = fileset.MANIFESTS) -> None:
    """It may again."""
    fileset.swap([(os.path.join(directory, component + SUFFIX), None, (0, 0, 0))])
