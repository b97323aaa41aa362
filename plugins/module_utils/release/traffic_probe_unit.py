"""The transient unit in which the traffic probe runs, on the host of nginx."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time

from ansible_collections.senex.trader.plugins.module_utils.host import bounded, fileset, host_layout
from ansible_collections.senex.trader.plugins.module_utils.host.module_text import source
from ansible_collections.senex.trader.plugins.module_utils.release import traffic_probe
from ansible_collections.senex.trader.plugins.module_utils.release.traffic_gate import EXPECTED_DOWNTIME

LIMIT = 3600  # seconds after which it ends by itself
# It reads what the application says, so it has nothing to lose: a user of its own for as long as it runs, and one file, which is opened for it
SANDBOX = (
    "DynamicUser=yes", "NoNewPrivileges=yes", "CapabilityBoundingSet=", "ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes", "PrivateDevices=yes",
    "ProtectKernelTunables=yes", "ProtectKernelModules=yes", "ProtectKernelLogs=yes", "ProtectControlGroups=yes", "ProtectClock=yes", "ProtectHostname=yes",
    "ProtectProc=invisible", "RestrictNamespaces=yes", "RestrictRealtime=yes", "RestrictSUIDSGID=yes", "LockPersonality=yes", "MemoryDenyWriteExecute=yes",
    "RestrictAddressFamilies=AF_INET AF_INET6", "SystemCallArchitectures=native", "SystemCallFilter=@system-service", "UMask=0077",
    "MemoryMax=128M", "MemorySwapMax=0", "TasksMax=32", "LimitFSIZE=1M", "LimitNOFILE=256",
)  # fmt: skip
PLACE = host_layout.RUNTIME
UNIT = "senex-prober.service"
STATE = f"{PLACE}/prober.json"


def run(*argv: str, check: bool = True) -> subprocess.CompletedProcess:
    """A command; what it says when it fails."""
    result = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    if check and result.returncode:
        raise OSError(f"{' '.join(argv)}: {result.stderr.strip()}")
    return result


def start(target: dict) -> None:
    """Begin, and wait for the first answers."""
    stop()
    os.makedirs(PLACE, mode=0o755, exist_ok=True)
    files = {f"{PLACE}/{module.__name__.rpartition('.')[2]}.py": source(module) for module in (traffic_probe, bounded)}
    files |= {f"{PLACE}/prober-target.json": json.dumps(target), STATE: ""}
    with contextlib.suppress(FileNotFoundError):
        os.unlink(STATE + EXPECTED_DOWNTIME)
    fileset.swap([(path, text.encode(), (0o644, 0, 0)) for path, text in files.items()])
    properties = [f"--property={word}" for word in (f"RuntimeMaxSec={LIMIT}", "Nice=5", f"StandardOutput=file:{STATE}", *SANDBOX)]
    # Not -I, which leaves out the directory of the program; that one is root's
    run("systemd-run", "--quiet", "--collect", f"--unit={UNIT}", *properties,
        "/usr/bin/python3", "-E", "-s", "-B", f"{PLACE}/traffic_probe.py", f"{PLACE}/prober-target.json")  # fmt: skip
    deadline = time.monotonic() + 10
    while not seen()["requests"]:
        if time.monotonic() > deadline:
            raise OSError(f"the traffic probe does not begin: {run('journalctl', '-u', UNIT, '-n', '20', '--no-pager', check=False).stdout}")
        time.sleep(0.1)


def stop() -> None:
    """Stop the unit, also one that has failed."""
    run("systemctl", "stop", UNIT, check=False)
    run("systemctl", "reset-failed", UNIT, check=False)


def seen() -> dict:
    """What it wrote last."""
    found = traffic_probe.latest(fileset.read(STATE)[0])
    return {"requests": 0, "failed": 0, **found, "forgiven": int(fileset.read(STATE + EXPECTED_DOWNTIME)[0] or 0)}
