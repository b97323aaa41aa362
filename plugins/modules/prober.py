#!/usr/bin/python
"""Start, read and stop the prober of a release."""

from __future__ import annotations

DOCUMENTATION = r"""
module: prober
short_description: Ask the site all through a release, as its users do
description:
  - Starts a transient unit C(senex-prober.service) on the host of nginx that sends ten requests a second through nginx and keeps one WebSocket open.
    It ends by itself after O(limit), so a release that dies leaves nothing behind for long.
options:
  state:
    description:
      - C(started) begins anew, C(read) answers what was seen so far, C(stopped) ends it and answers what was seen.
      - C(asked) asks each path once from here and answers the C(problems).
    type: str
    choices: [started, read, stopped, asked]
    required: true
  target:
    description: "With C(started): address, port, domain, paths (list), websocket_path (empty for none), timeout (s)."
    type: dict
    default: {}
  limit:
    description: Seconds after which it ends by itself.
    type: int
    default: 3600
author: [senex.trader maintainers (@senex-trader)]
"""
EXAMPLES = r"""
- name: Begin to ask
  senex.trader.prober:
    state: started
    target: {address: 127.0.0.1, port: 443, domain: www.example.com, paths: [/], websocket_path: "", timeout: 10}
"""
RETURN = r"""
seen:
  description:
    - requests, failed, forgiven (of these, while the only instance restarted), slowest (s), failures (texts).
    - For the WebSocket reconnects, cut, longest_gap (s).
  returned: when not asked
  type: dict
"""

import contextlib
import json
import os
import subprocess
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.senex.trader.plugins.module_utils import fileset, prober
from ansible_collections.senex.trader.plugins.module_utils.quadlet_plan import FORGIVEN

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


def start(target: dict, limit: int) -> None:
    """Begin, and wait for the first answers."""
    stop()
    os.makedirs(PLACE, mode=0o755, exist_ok=True)
    files = {f"{PLACE}/prober.py": source(), f"{PLACE}/prober-target.json": json.dumps(target)}
    fileset.swap([(path, text.encode(), (0o644, 0, 0)) for path, text in files.items()])
    for old in (STATE, STATE + FORGIVEN):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(old)
    run("systemd-run", "--quiet", "--collect", f"--unit={UNIT}", f"--property=RuntimeMaxSec={limit}",
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


def main() -> None:
    """One state."""
    module = AnsibleModule(
        {
            "state": {"type": "str", "required": True, "choices": ["started", "read", "stopped", "asked"]},
            "target": {"type": "dict", "default": {}},
            "limit": {"type": "int", "default": 3600},
        }
    )
    try:
        if module.params["state"] == "asked":
            target = module.params["target"]
            module.exit_json(changed=False, problems=[found for path in target["paths"] if (found := prober.ask(target, path))])
        if module.params["state"] == "started":
            start(module.params["target"], module.params["limit"])
        elif module.params["state"] == "stopped":
            stop()
    except OSError as error:
        module.fail_json(msg=f"prober: {error}")
    module.exit_json(changed=False, seen=seen())


if __name__ == "__main__":
    main()
