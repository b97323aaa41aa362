"""Whether a directory that is there before its component can be filled by a container: one that somebody prepared, or a disk that is mounted there."""

from __future__ import annotations

import os

from ansible_collections.senex.trader.plugins.module_utils.host import untrusted

FOUND = "lost+found"  # what each ext file system has at its top, root's own


def trouble(*markers: str) -> str:
    """Why a container could not fill the directory of a file that a filled one has; empty where it can, or has."""
    if not markers:
        return ""
    asked = [path for marker in markers for path in (marker, os.path.dirname(marker), os.path.join(os.path.dirname(marker), FOUND))]
    seen = untrusted.look(asked)
    for marker in markers:
        path = os.path.dirname(marker)
        if "kind" in seen[marker]:
            continue
        if "kind" in seen[os.path.join(path, FOUND)]:
            above = os.path.dirname(path)
            return f"{path} is the top of a file system (it has {FOUND}), where no data directory can be: mount the disk at {above} (docs/user/host.md)"
        if seen[path].get("uid") == 0:
            return f"{path} belongs to root, so no container can write there: remove it where it is empty (rmdir {path}), the run makes it with its owner"
    return ""
