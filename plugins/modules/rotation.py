#!/usr/bin/python
"""Servers out of an nginx upstream's rotation and back in."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rotation
short_description: Take servers out of nginx's rotation, or put them back in
description:
  - For a web host whose nginx is elsewhere; run it on the host of nginx. On a host that has both, M(senex.trader.quadlet) does it by itself.
  - Sends nothing more to the servers of an upstream, and waits until nginx's connections to them have ended. One server, or all of one host, leave
    by a file that nginx looks for with each request; nothing is reloaded, which would close connections that clients keep.
  - The last server that gets requests stays in, with a warning.
options:
  servers:
    description: Servers as the upstream names them, address:port. An address alone stands for all servers there, of which there may be none yet.
    type: list
    elements: str
    required: true
  state:
    description: Whether the servers get requests.
    type: str
    choices: [in, out]
    required: true
  contract:
    description: File in which role nginx says which servers there are, and how one leaves. Where there is none yet, nginx's own file is read.
    type: path
    default: /etc/nginx/senex/upstream.json
  lease:
    description: C(id) of the lock under which a server leaves, filled in by the action plugin. Coming back needs none, for what is left out serves nobody.
    type: dict
    default: {}
  drain:
    description: Seconds that requests and WebSockets under way have to end. Those left over are counted in RV(cut).
    type: float
    default: 15
attributes:
  check_mode:
    support: full
    description: Says what would change.
author: [senex.trader maintainers (@senex-trader)]
"""
EXAMPLES = r"""
- name: Send nothing to the second web host while it is replaced
  senex.trader.rotation:
    servers: [10.0.0.6]
    state: out
  delegate_to: web1
"""
RETURN = r"""
out:
  description: Those of the servers that get no requests now.
  returned: always
  type: list
  elements: str
cut:
  description: Connections that had not ended in time. Whatever stops the servers now cuts them.
  returned: always
  type: int
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.senex.trader.plugins.module_utils import untrusted
from ansible_collections.senex.trader.plugins.module_utils.release_record import Busy, Ledger
from ansible_collections.senex.trader.plugins.module_utils.rotation import CONTRACT, Rotation

ARGUMENTS = {
    "servers": {"type": "list", "elements": "str", "required": True},
    "state": {"type": "str", "choices": ["in", "out"], "required": True},
    "contract": {"type": "path", "default": CONTRACT},
    "drain": {"type": "float", "default": 15},
    "lease": {"type": "dict", "default": {}},
}


def main() -> None:
    """Read the arguments, turn, answer."""
    os.umask(0o022)  # the session of whoever runs it may have a stricter one, and others read what is made here
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    wanted = module.params
    try:
        rotation = Rotation(wanted)
        before = rotation.out()
        if missing := rotation.missing():
            module.fail_json(msg=f"nginx's upstream has no server {', '.join(missing)}: name them as it does, address:port")
        if wanted["state"] == "out" and rotation.servers and not rotation.flag():
            module.fail_json(msg=f"{', '.join(wanted['servers'])}: one server can leave at once, or all of one host by its address")
        stays = wanted["state"] == "out" and bool(rotation.servers) and not rotation.relieved()
        if stays:
            module.warn(f"{', '.join(wanted['servers'])}: still in rotation, for no other server answers; requests that come too early try again")
        elif not module.check_mode and wanted["state"] == "out":
            with Ledger().changing(wanted["lease"]):
                rotation.leave()  # also where they are out already: an earlier run may not have waited to the end
        elif not module.check_mode:
            rotation.back()
        after = before if stays else list(rotation.servers) if wanted["state"] == "out" else []
    except (Busy, OSError) as error:
        module.fail_json(msg=untrusted.lines(error))
    module.exit_json(changed=sorted(before) != sorted(after), out=after, cut=rotation.cut)


if __name__ == "__main__":
    main()
