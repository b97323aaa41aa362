#!/usr/bin/python
"""Images of PostgreSQL and Redis on one host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: server_images
short_description: A step of playbooks/update_images.yml
description:
  - Compares the images of servers that hold data with what the registry has under their tags. C(senex.trader.quadlet) with C(images) replaces them.
options:
  step:
    description:
      - V(plan) pulls each tag and says what would be replaced. The tag keeps naming the image that runs, and no unit is touched.
      - V(verify) fails unless each container runs the wanted image and its server tells that version. Then the image from before is kept for a rollback.
    type: str
    choices: [plan, verify]
    required: true
  servers:
    description: "Servers of one image each: C(component), C(input), C(reference), C(program), C(containers), C(ask) (command that tells the version) and
      C(sorted_by_system) (command that names databases whose text is sorted by rules of the image's system; empty for none)."
    type: list
    elements: dict
    required: true
  back:
    description: With V(plan), a rollback to the image from before the last update. The registry is not asked.
    type: bool
    default: false
  other_system:
    description: With V(plan), whether an image of another system is taken although databases are sorted by the system's rules.
    type: bool
    default: false
  plan:
    description: With O(step=verify), the entries of RV(plan) for these servers.
    type: list
    elements: dict
    default: []
  deploy_lock:
    description: C(id) of the deploy lock, filled in by the action plugin.
    type: dict
    default: {}
  user:
    description: Name of the service user.
    type: str
    required: true
  home:
    description: Home of the service user.
    type: path
    required: true
author: [senex.trader maintainers (@senex-trader)]
"""
EXAMPLES = r"""
- name: See what the registry has
  senex.trader.server_images:
    step: plan
    servers: "{{ __update_images_servers }}"
    user: senex
    home: /opt/senex-trader
"""
RETURN = r"""
plan:
  description: "For each server C(component), C(input), C(reference), C(way) (none, pinned, update, back; or major, older, system, unreadable, which are
    refused), C(why), and C(running) and C(wanted), each with C(id), C(digest), C(created), C(version), C(system);
    C(images) and C(former) for M(senex.trader.quadlet), forward and back; C(line) and C(refusal) are for a person."
  returned: with O(step=plan)
  type: list
  elements: dict
"""

import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.senex.trader.plugins.module_utils.host import server_images, untrusted
from ansible_collections.senex.trader.plugins.module_utils.host.release_record import Ledger, LockHeld
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import CommandError, ServiceUser

ARGUMENTS = {
    "step": {"type": "str", "choices": ["plan", "verify"], "required": True},
    "servers": {"type": "list", "elements": "dict", "required": True},
    "back": {"type": "bool", "default": False},
    "other_system": {"type": "bool", "default": False},
    "plan": {"type": "list", "elements": "dict", "default": []},
    "deploy_lock": {"type": "dict", "default": {}},
    "user": {"type": "str", "required": True},
    "home": {"type": "path", "required": True},
}


def planned(user: ServiceUser, servers: list, back: bool, other_system: bool) -> dict:
    """What would be done with each image."""
    found = [server_images.plan(user, server, back, other_system) for server in servers]
    return {"changed": False, "plan": [{**one, "line": server_images.lines(one, time.time()), "refusal": server_images.refusal(one)} for one in found]}


def verified(user: ServiceUser, servers: list, plan: list, lock: dict) -> dict:
    """What runs is what was planned, and the image from before is kept."""
    with Ledger().changing({**lock, "stage": "verify images"}):
        for server, one in [(server, one) for server in servers for one in plan if one["component"] == server.component]:
            if wrong := server_images.verify(user, server, one["wanted"]):
                raise OSError("; ".join(wrong))
            server_images.keep(user, server, "" if one["way"] == "back" else one["running"]["id"])
    return {"changed": True}


def main() -> None:
    """Run one step; fails when an image cannot be had, or is not what runs."""
    os.umask(0o022)  # the session of whoever runs it may have a stricter one, and others read what is made here
    module = AnsibleModule(ARGUMENTS, supports_check_mode=False)
    given = module.params
    try:
        servers = [server_images.Server(**one) for one in given["servers"]]
        user = ServiceUser(given["user"], given["home"])
        user.check_manager()
        if given["step"] == "plan":
            module.exit_json(**planned(user, servers, given["back"], given["other_system"]))
        module.exit_json(**verified(user, servers, given["plan"], given["deploy_lock"]))
    except (LockHeld, LookupError, OSError, CommandError, TypeError) as error:
        module.fail_json(msg=untrusted.lines(error))


if __name__ == "__main__":
    main()
