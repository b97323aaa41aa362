#!/usr/bin/python
"""The steps of playbooks/move.yml for Redis on one host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_move
short_description: The steps of a move of Redis to another host, on one host
description:
  - The order of the steps is in C(playbooks/move.yml). How far a move is stands in C(/var/lib/senex.trader/redis-move.state) of both hosts.
options:
  step:
    description:
      - C(found) says what there is, and changes nothing.
      - On the host that is left, C(admit) lets a replica in, C(prepare) and C(switch) hand over to it, the second while clients wait, C(undo) lets Redis
        serve again, C(forget) gives the replica up, and C(end) takes the way to the new host down when nobody uses it any more.
      - On the host that it goes to, C(clear) makes room, C(follow) makes Redis a replica, C(behind) says whether it follows, C(settle) ends the move, and
        C(leave) gives the replica up.
      - On other hosts with nginx, C(hold) lets requests wait, for 20 seconds at most, and C(release) ends that.
    type: str
    choices: [found, admit, prepare, switch, undo, forget, end, clear, follow, behind, settle, leave, hold, release]
    required: true
  id:
    description: Whose lock it works under; without one, that of the run.
    type: str
    default: ""
  other:
    description: Name of the other host, with C(admit) and C(clear).
    type: str
    default: ""
  address:
    description: Address of the other host, with C(follow), C(prepare) and C(switch).
    type: str
    default: ""
  port:
    description: Its port.
    type: int
    default: 6390
  secret:
    description: What C(admit) answered, for C(follow).
    type: str
    default: ""
  user:
    description: The service user.
    type: str
    required: true
  home:
    description: Its home.
    type: path
    required: true
  place:
    description: What belongs to Redis of this host (C(image), C(uid), C(network), C(address), C(port), C(data), C(authority), C(forwarder)).
    type: dict
    required: true
author: [senex.trader maintainers (@senex-trader)]
"""
EXAMPLES = r"""
- name: See what this host has
  senex.trader.redis_move:
    step: found
    user: senex
    home: /opt/senex-trader
    place: "{{ __redis_move_place }}"
"""
RETURN = r"""
found:
  description: What there is on this host.
  returned: with C(found)
  type: dict
secret:
  description: With C(admit), what the replica logs in with.
  returned: with C(admit)
  type: str
held:
  description: With C(switch), for how many seconds clients waited.
  returned: with C(switch)
  type: float
drained:
  description: With C(switch), how much of that passed until the requests that were under way had ended.
  returned: with C(switch)
  type: float
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.senex.trader.plugins.module_utils.host import untrusted
from ansible_collections.senex.trader.plugins.module_utils.host.release_record import Ledger
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import CommandError, ServiceUser, has_manager
from ansible_collections.senex.trader.plugins.module_utils.nginx import detached_hold
from ansible_collections.senex.trader.plugins.module_utils.redis import move_state
from ansible_collections.senex.trader.plugins.module_utils.redis.move import Move

STEPS = ["found", "admit", "prepare", "switch", "undo", "forget", "end", "clear", "follow", "behind", "settle", "leave", "hold", "release"]
READING = ("found", "behind")
ARGUMENTS = {
    "step": {"type": "str", "required": True, "choices": STEPS},
    "id": {"type": "str", "default": ""},
    "other": {"type": "str", "default": ""},
    "address": {"type": "str", "default": ""},
    "port": {"type": "int", "default": 6390},
    "secret": {"type": "str", "default": "", "no_log": True},
    "user": {"type": "str", "required": True},
    "home": {"type": "path", "required": True},
    "place": {"type": "dict", "required": True},
}


def step(given: dict) -> dict:
    """Run the step that `given` names; returns the result of the module."""
    if given["step"] not in (*READING, "end"):
        Ledger().renew(given["id"], given["step"])
    if given["step"] == "found" and not has_manager(given["user"]):
        return {"changed": False, "found": {"component": "redis", "state": move_state.read(), "filled": False, "serves": False}}
    user = ServiceUser(given["user"], given["home"])
    user.check_manager()
    match given["step"]:
        case "hold":
            return {"changed": False, **detached_hold.begin(user.run)}
        case "release":
            return {"changed": False, **detached_hold.end()}
    move = Move(user, given["place"], given["id"])
    match given["step"]:
        case "found":
            return {"changed": False, "found": move.found()}
        case "behind":
            return {"changed": False, **move.behind()}
        case "end":  # of site.yml, whose lock lets others by
            with Ledger().changing({"id": given["id"], "stage": "end"}):
                return {"changed": True, **move.end()}
        case "admit":
            return {"changed": True, **move.admit(given["other"])}
        case "clear":
            return {"changed": True, **move.clear(given["other"])}
        case "follow":
            return {"changed": True, **move.follow(given["address"], given["port"], given["secret"])}
        case "prepare":
            return {"changed": True, **move.prepare(given["address"], given["port"])}
        case "switch":
            return {"changed": True, **move.switch(given["address"], given["port"])}
    simple = {"undo": move.undo, "forget": move.forget, "settle": move.settle, "leave": move.leave}
    return {"changed": True, **simple[given["step"]]()}


def main() -> None:
    """Run one step; fails when it cannot be completed."""
    os.umask(0o022)  # the session of whoever runs it may have a stricter one, and others read what is made here
    module = AnsibleModule(ARGUMENTS, supports_check_mode=False)
    try:
        answer = step(module.params)
    except (CommandError, LookupError, OSError, ValueError) as error:
        module.fail_json(msg=untrusted.lines(error))
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
