#!/usr/bin/python
"""Drain servers of an nginx upstream, and put them back in service."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nginx_upstream
short_description: Drain servers of an nginx upstream, or put them back in service
description:
  - For a web host whose nginx is elsewhere; run it on the host of nginx. On a host that has both, M(senex.trader.quadlet) does it by itself.
  - A drained server gets no new requests, and the module waits until nginx's connections to it have ended. One server, or all of one host, are drained
    by a flag file that nginx checks with each request; nginx is not reloaded, which would close connections that clients keep.
  - The last server in service is never drained; the module warns instead.
options:
  servers:
    description: Servers as the upstream names them, address:port. An address without a port means all servers of that host, of which there may be none.
    type: list
    elements: str
    required: true
  state:
    description: V(drained) servers get no new requests; V(in_service) servers do.
    type: str
    choices: [in_service, drained]
    required: true
  contract:
    description: File of role nginx that lists the servers and the directory of the flags. Where there is none yet, nginx's own configuration is read.
    type: path
    default: /etc/nginx/senex/upstream.json
  deploy_lock:
    description: C(id) of the deploy lock, filled in by the action plugin. A server is drained under it; V(in_service) needs none.
    type: dict
    default: {}
  drain:
    description: Seconds that open connections have to end. The module then returns and counts those left in RV(cut).
    type: float
    default: 15
  host_may_be_lost:
    description:
      - Whether a host that does not answer is warned of and passed over, with nothing drained. Its nginx, if it still runs, tries the next server where a
        request fails. For a rollback after a host was lost, which must not be kept from the hosts that are left.
      - By default such a host is a failure.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Says what would change.
author: [senex.trader maintainers (@senex-trader)]
"""
EXAMPLES = r"""
- name: Send nothing to the second web host while it is replaced
  senex.trader.nginx_upstream:
    servers: [10.0.0.6]
    state: drained
  delegate_to: web1
"""
RETURN = r"""
drained:
  description: Those of the servers that get no requests now.
  returned: always
  type: list
  elements: str
cut:
  description: Number of connections still open after O(drain) seconds. Stopping the servers now cuts them.
  returned: always
  type: int
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.senex.trader.plugins.module_utils.host import untrusted
from ansible_collections.senex.trader.plugins.module_utils.host.release_record import Ledger, LockHeld
from ansible_collections.senex.trader.plugins.module_utils.nginx.nginx_upstream import CONTRACT, UpstreamServers

ARGUMENTS = {
    "servers": {"type": "list", "elements": "str", "required": True},
    "state": {"type": "str", "choices": ["in_service", "drained"], "required": True},
    "contract": {"type": "path", "default": CONTRACT},
    "drain": {"type": "float", "default": 15},
    "deploy_lock": {"type": "dict", "default": {}},
    "host_may_be_lost": {"type": "bool", "default": False},
}


def main() -> None:
    """Drain the servers or put them back in service; fails when the lock is another's."""
    os.umask(0o022)  # the session of whoever runs it may have a stricter one, and others read what is made here
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    wanted = module.params
    try:
        upstream = UpstreamServers(wanted)
        before = upstream.drained()
        if missing := upstream.missing():
            module.fail_json(msg=f"nginx's upstream has no server {', '.join(missing)}: name them as it does, address:port")
        if wanted["state"] == "drained" and upstream.servers and not upstream.flag():
            module.fail_json(msg=f"{', '.join(wanted['servers'])}: one server can leave at once, or all of one host by its address")
        stays = wanted["state"] == "drained" and bool(upstream.servers) and not upstream.another_answers()
        if stays:
            module.warn(f"{', '.join(wanted['servers'])}: still in service, because no other server answers")
        elif not module.check_mode and wanted["state"] == "drained":
            with Ledger().changing(wanted["deploy_lock"]):
                upstream.drain()  # also where they are drained already: an earlier run may not have waited to the end
        elif not module.check_mode:
            upstream.restore()
        after = before if stays else list(upstream.servers) if wanted["state"] == "drained" else []
    except (LockHeld, OSError) as error:
        module.fail_json(msg=untrusted.lines(error))
    module.exit_json(changed=sorted(before) != sorted(after), drained=after, cut=upstream.cut)


if __name__ == "__main__":
    main()
