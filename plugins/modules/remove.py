#!/usr/bin/python
"""All that the collection has put on one host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: remove
short_description: A step of playbooks/remove.yml
description:
  - Removes what the collection's manifests on the host name, whatever the inventory says by now, then the service user and the rules of the firewall.
  - Data, backups and logs are never removed. Packages, the history and the copies of files from before the collection stay too.
options:
  step:
    description: V(plan) says what would go and what stays. V(apply) removes it; after a run that was cut short, the same again.
    type: str
    choices: [plan, apply]
    required: true
  data:
    description:
      - V(keep) leaves data where it is, for the next deployment with the same inventory.
      - V(aside) gives the home another name, so that the next deployment begins with nothing.
      - V(archive) writes it into a tar file in O(archive_directory), compares that with the disk, and leaves it where it is as well.
    type: str
    choices: [keep, aside, archive]
    default: keep
  archive_directory:
    description: Directory of the tar file.
    type: path
    default: /var/backups
  accounts:
    description: Names of further accounts that the collection has made, beside the service user.
    type: list
    elements: str
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
- name: See what the collection has put here
  senex.trader.remove:
    step: plan
    user: senex
    home: /opt/senex-trader
"""
RETURN = r"""
lines:
  description: What would go and what stays, or what was done, a line each.
  returned: always
  type: list
  elements: str
problems:
  description: With O(step=plan), why it cannot be done.
  returned: with O(step=plan)
  type: list
  elements: str
there:
  description: With O(step=plan), whether the host has anything of the collection.
  returned: with O(step=plan)
  type: bool
"""

import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.senex.trader.plugins.module_utils.engine import everything, quadlet_work, system_transaction
from ansible_collections.senex.trader.plugins.module_utils.host import kept_data, untrusted
from ansible_collections.senex.trader.plugins.module_utils.host.release_record import Ledger, LockHeld
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import CommandError

ARGUMENTS = {
    "step": {"type": "str", "choices": ["plan", "apply"], "required": True},
    "data": {"type": "str", "choices": ["keep", "aside", "archive"], "default": "keep"},
    "archive_directory": {"type": "path", "default": "/var/backups"},
    "accounts": {"type": "list", "elements": "str", "default": []},
    "deploy_lock": {"type": "dict", "default": {}},
    "user": {"type": "str", "required": True},
    "home": {"type": "path", "required": True},
}


def planned(host: everything.Host, given: dict) -> dict:
    """What would be done."""
    plan, total = host.plan(), 0
    lines, problems = [], []
    if plan["components"]:
        lines.append(f"goes: {', '.join(plan['components'])}: {plan['files']} files, {len(plan['units'])} units")
    if plan["account"]:
        lines.append(f"goes: user {given['user']} with {plan['containers']} containers and {plan['images']} images")
    lines += [f"goes: rule of the firewall: {rule}" for rule in plan["rules"]]
    for one in plan["data"]:
        total += one["bytes"]
        lines.append(f"stays: {one['path']}, {everything.megabytes(one['bytes'])}{', a file system of its own' if one['mount'] else ''}")
    lines += [f"stays: volume {name} of Podman, in {plan['home']}/.local/share/containers" for name in plan["volumes"]]
    match given["data"]:
        case "aside":
            lines.append(f"then {plan['home']} is named {plan['home']}.removed-TIME")
            if mounts := [path for path in [plan["home"] if plan["mount"] else "", *(one["path"] for one in plan["data"] if one["mount"])] if path]:
                problems.append(f"remove_data: {', '.join(mounts)} is a file system of its own and cannot be renamed: use keep, and mount it elsewhere")
        case "archive":
            lines.append(f"and is also written to {given['archive_directory']}/senex-trader-TIME.tar")
            if trouble := everything.no_room(plan["home"], given["archive_directory"], total):
                problems.append(trouble)
    # A run that was cut short, or one with another remove_data, may have left nothing to do but this
    left = [name for name in given["accounts"] if everything.account_there(name)]
    there = bool(plan["components"] or plan["account"] or left) or (given["data"] != "keep" and bool(plan["data"]))
    return {"changed": False, "lines": lines, "problems": problems, "there": there}


def applied(host: everything.Host, given: dict) -> dict:
    """Remove it."""
    stamp, said = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()), []
    with Ledger().changing({**given["deploy_lock"], "stage": "remove"}) as still:
        data = host.data_names()
        host.stop_system()
        said += [f"removed {name}" for name in host.remove_user(still)]
        host.end_account()
        if given["data"] == "archive" and data:
            target = os.path.join(given["archive_directory"], f"senex-trader-{stamp}.tar")
            said.append(f"written {everything.archive(host.home, data, target)}")
        still()
        said += [f"removed {name}" for name in host.remove_system(still)]
        said += [f"removed rule {rule}" for rule in host.remove_rules()]
        said += [f"removed account {name}" for name in host.remove_account(given["accounts"])]
        place = host.home
        if given["data"] == "aside" and data:
            kept_data.forget()  # first: when this is cut short, the next run finds the data and goes on
            place = everything.set_aside(host.home, stamp)
        said += [f"data: {place}/{name}" for name in data]
    return {"changed": True, "lines": said}


def main() -> None:
    """Plan or remove; fails when something does not go, and can be run again then."""
    os.umask(0o022)  # the session of whoever runs it may have a stricter one, and others read what is made here
    module = AnsibleModule(ARGUMENTS, supports_check_mode=False)
    given = module.params
    troubles = (LockHeld, LookupError, OSError, CommandError, quadlet_work.ApplyError, system_transaction.ApplyError)
    try:
        host = everything.Host(given["user"], given["home"])
        answer = planned(host, given) if given["step"] == "plan" else applied(host, given)
    except troubles as error:
        module.fail_json(msg=untrusted.lines(error))
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
