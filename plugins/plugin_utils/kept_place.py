"""Whether a place outlasts the run: what is written inside a job's container is gone with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.senex.trader.plugins.module_utils.host import owned, untrusted

CONTAINER_MARKS = ("/run/.containerenv", "/.dockerenv")
# File systems of a container that go with it; what is mounted into one has another
GOES_WITH_IT = ("overlay", "tmpfs")
INSTEAD = (
    "Run this playbook from a checkout on a machine that keeps it, commit the vault, and let jobs read it from there. "
    "Where the place is kept all the same, say -e vault_place_is_kept=true."
)


def existing(path: str) -> str:
    """The path itself, or the nearest directory above it that is there."""
    path = os.path.realpath(path)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def mounted(path: str, mountinfo: str) -> tuple[str, str]:
    """Mount point and type of the file system that a path lies on."""
    best = ("", "")
    for line in untrusted.records(mountinfo):
        left, _, right = line.partition(" - ")
        point = owned.plain(left.split(" ")[4])  # other white space in a name the kernel leaves as it is
        if (path == point or path.startswith(point.rstrip("/") + "/")) and len(point) >= len(best[0]):
            best = (point, right.split(" ")[0])
    return best


def thrown_away(path: str, environment: Mapping[str, str], job: Mapping[str, Any], container: bool, mountinfo: str) -> str | None:
    """Why what is written there would be lost; None where it is kept."""
    path = existing(path)
    if job.get("awx_job_id") or job.get("tower_job_id") or (environment.get("JOB_ID") and environment.get("AWX_HOST")):
        return f"{path} is a copy of the project that AWX makes for this job and throws away after it. {INSTEAD}"
    if path == "/runner" or path.startswith("/runner/"):
        return f"{path} lies in the working directory of a job's container, which is thrown away after it. {INSTEAD}"
    point, kind = mounted(path, mountinfo)
    if container and kind in GOES_WITH_IT:
        return f"{path} lies on {point} ({kind}) of this container and goes with it. {INSTEAD}"
    return None


def thrown_away_here(path: str, job: Mapping[str, Any]) -> str | None:
    """The same for this process."""
    container = any(os.path.exists(mark) for mark in CONTAINER_MARKS) or bool({"container", "KUBERNETES_SERVICE_HOST"} & set(os.environ))
    try:
        mountinfo = Path("/proc/self/mountinfo").read_bytes().decode(errors="surrogateescape")
    except OSError:
        mountinfo = ""
    return thrown_away(path, os.environ, job, container, mountinfo)
