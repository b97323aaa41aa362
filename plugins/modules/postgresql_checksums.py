#!/usr/bin/python
"""Data checksums for a cluster that has none."""

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_checksums
short_description: A step of playbooks/checksums.yml
description:
  - Enables data checksums in the cluster of role postgresql, which is stopped meanwhile. The next run begins again what was cut short.
options:
  step:
    description:
      - C(plan) says whether the cluster has checksums, how large it is and how long it would be stopped; nothing is changed.
      - C(enable) stops the database, writes a checksum into each page, and starts it again.
      - C(done) forgets that a run is under way.
    type: str
    choices: [plan, enable, done]
    required: true
  id:
    description: Whose lock it works under.
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
  cluster:
    description: As M(senex.trader.postgresql_upgrade) takes it.
    type: dict
    required: true
author: [senex.trader maintainers (@senex-trader)]
"""
EXAMPLES = r"""
- name: See whether the cluster has checksums
  senex.trader.postgresql_checksums:
    step: plan
    user: senex
    home: /opt/senex-trader
    cluster: "{{ __postgresql_cluster }}"
"""
RETURN = r"""
plan:
  description: C(on), C(resumed), C(goes), C(cluster) (its system identifier), C(bytes), C(seconds).
  returned: with C(plan)
  type: dict
blocks:
  description: How many pages were written.
  returned: with C(enable)
  type: int
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.senex.trader.plugins.module_utils.host import untrusted
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import CommandError, ServiceUser
from ansible_collections.senex.trader.plugins.module_utils.postgresql.checksums import Checksums
from ansible_collections.senex.trader.plugins.module_utils.postgresql.server import wanted_of

ARGUMENTS = {
    "step": {"type": "str", "required": True, "choices": ["plan", "enable", "done"]},
    "id": {"type": "str", "default": ""},
    "user": {"type": "str", "required": True},
    "home": {"type": "path", "required": True},
    "cluster": {"type": "dict", "required": True},
}


def step(given: dict) -> dict:
    """Run the step that `given` names; returns the result of the module."""
    user = ServiceUser(given["user"], given["home"])
    user.check_manager()
    work = Checksums(user, wanted_of(given["cluster"], given["home"]), given["id"])
    match given["step"]:
        case "plan":
            return {"changed": False, "plan": work.plan()}
        case "enable":
            return {"changed": True, **work.enable()}
    work.end()
    return {"changed": True}


def main() -> None:
    """Run one step; fails when the lock is lost or the step cannot be completed."""
    os.umask(0o022)  # the session of whoever runs it may have a stricter one, and others read what is made here
    module = AnsibleModule(ARGUMENTS, supports_check_mode=False)
    try:
        answer = step(module.params)
    except (LookupError, OSError, CommandError, ValueError) as error:
        module.fail_json(msg=untrusted.lines(error))
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
