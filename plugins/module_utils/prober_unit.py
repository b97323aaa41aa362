"""The transient unit in which the prober of a release runs, on the host of nginx."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time

from ansible_collections.senex.trader.plugins.module_utils import fileset, prober
from ansible_collections.senex.trader.plugins.module_utils.quadlet_plan import FORGIVEN

LIMIT = 3600  # seconds after which it ends by itself
PLACE = "/run/senex.trader"
UNIT = "senex-prober.service"
STATE = f"{PLACE}/prober.json"


def run(*argv: str, check: bool = True) -> subprocess.CompletedProcess:
    """A command; what it says when it fails."""
    result = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    if check and result.returncode:
        raise OSError(f"{' '.join(argv)}: {result.stderr.strip()}")
    return result


def source() -> str:
    """The prober's own text: a module travels in an archive, so there is no file of it here."""
    return prober.__loader__.get_source(prober.__name__)


def start(target: dict) -> None:
    """Begin, and wait for the first answers."""
    stop()
    os.makedirs(PLACE, mode=0o755, exist_ok=True)
    files = {f"{PLACE}/prober.py": source(), f"{PLACE}/prober-target.json": json.dumps(target)}
    fileset.swap([(path, text.encode(), (0o644, 0, 0)) for path, text in files.items()])
    for old in (STATE, STATE + FORGIVEN):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(old)
    run("systemd-run", "--quiet", "--collect", f"--unit={UNIT}", f"--property=RuntimeMaxSec={LIMIT}",
        "--property=Nice=5", "/usr/bin/python3", "-I", f"{PLACE}/prober.py", f"{PLACE}/prober-target.json", STATE)  # fmt: skip
    deadline = time.monotonic() + 10
    while not seen()["requests"]:
        if time.monotonic() > deadline:
            raise OSError(f"the prober does not begin: {run('journalctl', '-u', UNIT, '-n', '20', '--no-pager', check=False).stdout}")
        time.sleep(0.1)


def stop() -> None:
    """End it."""
    run("systemctl", "stop", UNIT, check=False)
    run("systemctl", "reset-failed", UNIT, check=False)


def seen() -> dict:
    """What it wrote last."""
    try:
        with open(STATE, encoding="utf-8") as handle:
            found = json.load(handle)
        return {**found, "forgiven": int(fileset.read(STATE + FORGIVEN)[0] or 0)}
    except (FileNotFoundError, ValueError):
        return {"requests": 0, "failed": 0, "forgiven": 0}
