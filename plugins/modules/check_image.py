#!/usr/bin/python
"""Run an application image as the collection's units would, and say which points of the contract it keeps."""

from __future__ import annotations

DOCUMENTATION = r"""
module: check_image
short_description: Check an application image against the contract of this collection
description:
  - Runs the image by Podman beside a throw-away PostgreSQL and Redis, with the rights, mounts, limits, environment and commands of the units that roles
    django and celery make from the same inputs, and looks at each point of the contract in C(docs/user/application.md).
  - Its containers are in a network of their own without a way out, publish no port, and have generated secrets. Containers, volumes, secrets and network are
    removed at the end, also when the run is stopped; what a killed run leaves ends by itself after O(time_limit), and the next check removes it.
  - Pulls the image, and those of PostgreSQL and Redis, where they are missing.
options:
  image:
    description: The image, by its whole name.
    type: str
    required: true
  points:
    description: Names of the points to look at, or none for all.
    type: list
    elements: str
    default: []
  time_limit:
    description: Seconds after which the check gives up, and its containers end.
    type: int
    default: 600
  podman_options:
    description: Further options of C(podman run) for every container, for a machine that needs some.
    type: list
    elements: str
    default: []
  payload:
    description: Units, files and environment, filled in by the action plugin.
    type: str
author: [senex.trader maintainers (@senex-trader)]
"""
EXAMPLES = r"""
- name: Check an image
  senex.trader.check_image:
    image: registry.example.com/team/app:2026.11.1
  register: checked

- name: Show what was found
  ansible.builtin.debug:
    msg: "{{ checked.lines + [checked.summary] }}"
"""
RETURN = r"""
findings:
  description: point, state (passed, failed, not applicable), says and do (what to change) of each.
  returned: always
  type: list
  elements: dict
lines:
  description: The same for a screen.
  returned: always
  type: list
  elements: str
summary:
  description: How many passed, failed and did not apply, and the names of those that failed.
  returned: always
  type: str
good:
  description: Whether none failed.
  returned: always
  type: bool
"""

import base64
import json
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.senex.trader.plugins.module_utils.contract import podman, points, report
from ansible_collections.senex.trader.plugins.module_utils.contract.bench import Bench
from ansible_collections.senex.trader.plugins.module_utils.host import untrusted


def look(wanted: dict, names: list[str], seconds: int, options: list[str]) -> list[report.Finding]:
    """The findings; nothing is left of what was started."""
    engine = podman.Podman(seconds, options)
    podman.interruptible()
    try:
        engine.begin(wanted["image"])
        return points.look(Bench(engine, wanted), names)
    finally:
        engine.remove()


def main() -> None:
    """One image."""
    os.umask(0o022)  # the session of whoever runs it may have a stricter one
    module = AnsibleModule(
        {
            "image": {"type": "str", "required": True},
            "points": {"type": "list", "elements": "str", "default": []},
            "time_limit": {"type": "int", "default": 600},
            "podman_options": {"type": "list", "elements": "str", "default": []},
            "payload": {"type": "str", "no_log": False},
        }
    )
    given = module.params
    wanted = {**json.loads(base64.b64decode(given["payload"])), "image": given["image"]}
    try:
        findings = look(wanted, given["points"], given["time_limit"], given["podman_options"])
    except (podman.Broken, OSError, ValueError) as error:
        module.fail_json(msg=untrusted.lines(f"check_image: {error}"))
    except (AttributeError, LookupError, RecursionError, TypeError) as error:  # its python3 is the image's own, and may say anything
        reason = f"{type(error).__name__}: {error}"
        module.fail_json(msg=untrusted.lines(f"check_image: a program of the check gave another answer inside of the image than it gives: {reason}"))
    except podman.Interrupted as error:
        module.fail_json(msg=untrusted.lines(f"check_image: stopped by {error}; what it had started is removed"))
    module.exit_json(
        changed=False, findings=report.as_dictionaries(findings), lines=report.lines(findings), summary=report.summary(given["image"], findings),
        good=all(found.state != report.FAILED for found in findings),
    )  # fmt: skip


if __name__ == "__main__":
    main()
