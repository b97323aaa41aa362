#!/usr/bin/python
"""What the prober of a release saw, and one round of the same questions."""

from __future__ import annotations

DOCUMENTATION = r"""
module: prober
short_description: Ask the site all through a release, as its users do
description:
  - M(senex.trader.release) starts a transient unit C(senex-prober.service) on the host of nginx that sends ten requests a second through nginx, asks twice a
    second for the page that needs database and Redis, and keeps one WebSocket open. It ends by itself after an
    hour, so a release that dies leaves nothing behind for long.
options:
  state:
    description:
      - C(stopped) ends it and answers what was seen.
      - C(asked) asks each of C(paths) once from here and answers the C(problems).
    type: str
    choices: [stopped, asked]
    required: true
  lease:
    description: With C(stopped), C(id) of the release, filled in by the action plugin. Another release's prober goes on.
    type: dict
    default: {}
  target:
    description:
      - "With C(asked): address, port, domain, paths (list), timeout (s)."
      - C(plain) asks an instance behind nginx, without TLS, and takes status 200 alone.
    type: dict
    default: {}
author: [senex.trader maintainers (@senex-trader)]
"""
EXAMPLES = r"""
- name: Ask once
  senex.trader.prober:
    state: asked
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

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.senex.trader.plugins.module_utils import prober, prober_unit, untrusted
from ansible_collections.senex.trader.plugins.module_utils.release_record import Busy, Ledger


def main() -> None:
    """One state."""
    os.umask(0o022)  # the session of whoever runs it may have a stricter one, and others read what is made here
    module = AnsibleModule(
        {
            "state": {"type": "str", "required": True, "choices": ["stopped", "asked"]},
            "target": {"type": "dict", "default": {}},
            "lease": {"type": "dict", "default": {}},
        }
    )
    try:
        if module.params["state"] == "asked":
            target = module.params["target"]
            module.exit_json(changed=False, problems=[found for path in target["paths"] if (found := prober.ask(target, path))])
        with Ledger().changing(module.params["lease"]):
            prober_unit.stop()
    except (Busy, OSError) as error:
        module.fail_json(msg=untrusted.lines(f"prober: {error}"))
    module.exit_json(changed=False, seen=prober_unit.seen())


if __name__ == "__main__":
    main()
