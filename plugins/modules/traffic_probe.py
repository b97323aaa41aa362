#!/usr/bin/python
"""Stop the traffic probe of a release and return its results, or send its requests once."""

from __future__ import annotations

DOCUMENTATION = r"""
module: traffic_probe
short_description: Send requests to the site during a release, as its users do (synthetic probe)
description:
  - M(senex.trader.release) starts a transient unit C(senex-prober.service) on the host of nginx that sends ten requests a second through nginx, asks twice a
    second for the page that needs database and Redis, and keeps one WebSocket open. It ends by itself after an
    hour, so a release that dies leaves nothing behind for long.
options:
  state:
    description:
      - V(stopped) stops the probe and returns RV(seen).
      - V(once) requests each of the C(paths) in O(target) once from this host and returns the RV(problems).
    type: str
    choices: [stopped, once]
    required: true
  deploy_lock:
    description: With O(state=stopped), C(id) of the release, filled in by the action plugin. The probe of another release is not stopped.
    type: dict
    default: {}
  target:
    description:
      - "With O(state=once): C(address), C(port), C(domain), C(paths) (list), C(timeout) (seconds)."
      - C(plain) (bool) sends the requests to an instance behind nginx, without TLS, and accepts only status 200. Otherwise a status below
        400 is accepted, and 429, nginx' own limit.
    type: dict
    default: {}
author: [senex.trader maintainers (@senex-trader)]
"""
EXAMPLES = r"""
- name: Ask once
  senex.trader.traffic_probe:
    state: once
    target: {address: 127.0.0.1, port: 443, domain: www.example.com, paths: [/], timeout: 10}
"""
RETURN = r"""
problems:
  description: A line for each path that did not answer as it should.
  returned: with O(state=once)
  type: list
  elements: str
seen:
  description:
    - requests, failed, forgiven (of these, while the only instance restarted), slowest (s), failures (texts).
    - For the WebSocket reconnects, cut, longest_gap (s).
  returned: with O(state=stopped)
  type: dict
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.senex.trader.plugins.module_utils.host import untrusted
from ansible_collections.senex.trader.plugins.module_utils.host.release_record import Ledger, LockHeld
from ansible_collections.senex.trader.plugins.module_utils.release import traffic_probe, traffic_probe_unit


def main() -> None:
    """Stop the probe or send its requests once; fails when the lock is another's."""
    os.umask(0o022)  # the session of whoever runs it may have a stricter one, and others read what is made here
    module = AnsibleModule(
        {
            "state": {"type": "str", "required": True, "choices": ["stopped", "once"]},
            "target": {"type": "dict", "default": {}},
            "deploy_lock": {"type": "dict", "default": {}},
        }
    )
    try:
        if module.params["state"] == "once":
            target = module.params["target"]
            module.exit_json(changed=False, problems=[found for path in target["paths"] if (found := traffic_probe.ask(target, path))])
        with Ledger().changing(module.params["deploy_lock"]):
            traffic_probe_unit.stop()
    except (LockHeld, OSError) as error:
        module.fail_json(msg=untrusted.lines(f"traffic_probe: {error}"))
    module.exit_json(changed=False, seen=traffic_probe_unit.seen())


if __name__ == "__main__":
    main()
