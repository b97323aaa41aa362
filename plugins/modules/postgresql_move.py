#!/usr/bin/python
"""The steps of playbooks/move.yml on one host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_move
short_description: The steps of a move of PostgreSQL to another host, on one host
description:
  - The order of the steps is in C(playbooks/move.yml). How far a move is stands in C(/var/lib/senex.trader/postgresql-move.state) of both hosts.
options:
  step:
    description:
      - C(found) says what there is, and changes nothing.
      - On the host that is left, C(admit) lets a standby in, C(behind) says how far it follows, C(stop) ends the server and closes it, C(undo) starts it
        again, C(close) leaves it closed for good, and C(forget) gives the standby up.
      - On the host that it goes to, C(join) makes the standby, C(promote) lets it take over, C(retire) makes sure that this run does not, C(settle) ends
        the move, and C(leave) gives the standby up.
      - On hosts with PgBouncer, C(pause) lets clients wait, and C(point) leads them to a server and ends that.
    type: str
    choices: [found, admit, behind, stop, undo, close, forget, join, promote, retire, settle, leave, pause, point]
    required: true
  id:
    description: Whose lock it works under.
    type: str
    default: ""
  other:
    description: Name of the other host, with C(admit) and C(join).
    type: str
    default: ""
  address:
    description: Address of the host that is left with C(join), of the one that it went to with C(close), of the server with C(point).
    type: str
    default: ""
  port:
    description: Its port.
    type: int
    default: 5432
  secret:
    description: What C(admit) answered, for C(join).
    type: str
    default: ""
  authority:
    description: The certificate of who signs the servers' certificates, with C(join).
    type: str
    default: ""
  identifier:
    description: The system identifier of the cluster, with C(join) and C(promote).
    type: str
    default: ""
  checkpoint:
    description: Where the server that was stopped wrote last, with C(promote).
    type: str
    default: ""
  runs:
    description: Ids of runs that must not make the standby serve any more, with C(retire).
    type: list
    elements: str
    default: []
  user:
    description: The service user.
    type: str
    default: ""
  home:
    description: Its home.
    type: path
    default: /
  cluster:
    description: As M(senex.trader.postgresql_upgrade) takes it.
    type: dict
    default: {}
author: [senex.trader maintainers (@senex-trader)]
"""
EXAMPLES = r"""
- name: See what this host has
  senex.trader.postgresql_move:
    step: found
    user: senex
    home: /opt/senex-trader
    cluster: "{{ __postgresql_cluster }}"
"""
RETURN = r"""
found:
  description: What there is on this host.
  returned: with C(found)
  type: dict
secret:
  description: With C(admit), what the standby logs in with.
  returned: with C(admit)
  type: str
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.senex.trader.plugins.module_utils.host import untrusted
from ansible_collections.senex.trader.plugins.module_utils.host.release_record import Ledger
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import CommandError, ServiceUser, has_manager
from ansible_collections.senex.trader.plugins.module_utils.postgresql import move_pooler, move_state
from ansible_collections.senex.trader.plugins.module_utils.postgresql.move import Move
from ansible_collections.senex.trader.plugins.module_utils.postgresql.server import last_words, wanted_of

STEPS = ["found", "admit", "behind", "stop", "undo", "close", "forget", "join", "promote", "retire", "settle", "leave", "pause", "point"]
READING = ("found", "behind")
ARGUMENTS = {
    "step": {"type": "str", "required": True, "choices": STEPS},
    "id": {"type": "str", "default": ""},
    "other": {"type": "str", "default": ""},
    "address": {"type": "str", "default": ""},
    "port": {"type": "int", "default": 5432},
    "secret": {"type": "str", "default": "", "no_log": True},
    "authority": {"type": "str", "default": ""},
    "identifier": {"type": "str", "default": ""},
    "checkpoint": {"type": "str", "default": ""},
    "runs": {"type": "list", "elements": "str", "default": []},
    "user": {"type": "str", "default": ""},
    "home": {"type": "path", "default": "/"},
    "cluster": {"type": "dict", "default": {}},
}


def bare(given: dict) -> dict:
    """A host that no run has prepared yet."""
    place = given["home"]
    while place != "/" and not untrusted.kind(place):
        place = os.path.dirname(place)
    seen = untrusted.space([place])[place]
    if trouble := untrusted.problem(seen):
        raise trouble
    return {"state": move_state.read(), "cluster": "", "filled": False, "serves": False, "major": None, "free": seen["bavail"] * seen["frsize"]}


def step(given: dict) -> dict:
    """Run the step that `given` names; returns the result of the module."""
    if given["step"] not in READING:
        Ledger().renew(given["id"], given["step"])
    match given["step"]:
        case "pause":
            return {"changed": True, **move_pooler.pause()}
        case "point":
            return {"changed": True, **move_pooler.point(given["address"], given["port"])}
    if given["step"] == "found" and not has_manager(given["user"]):
        return {"changed": False, "found": bare(given)}
    user = ServiceUser(given["user"], given["home"])
    user.check_manager()
    move = Move(user, wanted_of(given["cluster"], given["home"]), given["id"])
    match given["step"]:
        case "found":
            return {"changed": False, "found": move.found()}
        case "behind":
            return {"changed": False, **move.behind()}
        case "admit":
            return {"changed": True, **move.admit(given["other"])}
        case "close":
            return {"changed": True, **move.close(given["address"])}
        case "join":
            words = (given["other"], given["address"], given["port"], given["secret"], given["authority"], given["identifier"])
            return {"changed": True, **move.join(*words)}
        case "promote":
            return {"changed": True, **move.promote(given["identifier"], given["checkpoint"])}
        case "retire":
            return {"changed": True, **move.retire([given["id"], *given["runs"]])}
    simple = {"stop": move.stop, "undo": move.undo, "forget": move.forget, "settle": move.settle, "leave": move.leave}
    return {"changed": True, **simple[given["step"]]()}


def main() -> None:
    """Run one step; fails when it cannot be completed."""
    os.umask(0o022)  # the session of whoever runs it may have a stricter one, and others read what is made here
    module = AnsibleModule(ARGUMENTS, supports_check_mode=False)
    try:
        answer = step(module.params)
    except CommandError as error:
        module.fail_json(msg=untrusted.lines(last_words(error)))
    except (LookupError, OSError, ValueError) as error:
        module.fail_json(msg=untrusted.lines(error))
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
