#!/usr/bin/python
"""The application of one host, stopped and started again around an operation."""

from __future__ import annotations

DOCUMENTATION = r"""
module: application
short_description: Stop the application of a host for an operation, and start it again
description:
  - What was stopped is remembered in C(/var/lib/senex.trader/application-rests) until it serves again, so that whoever comes next can start it.
  - It is stopped and started under the lock of releases, which is renewed for as long as that takes. Whoever has lost it changes nothing.
options:
  state:
    description:
      - C(rests) stops web instances, workers and Beat, whichever run, and answers RV(units).
      - C(serves) starts all that was stopped here, and asks the web tier.
    type: str
    choices: [rests, serves]
    required: true
  more:
    description: With C(rests), units that have to serve afterwards even where they do not run now.
    type: list
    elements: str
    default: []
  stop:
    description: With C(rests), false keeps in mind what has to serve and stops nothing.
    type: bool
    default: true
  migrate:
    description: With C(serves), whether migrations of the running release are applied first.
    type: bool
    default: false
  target:
    description: With C(serves), what is asked of the web tier, as M(senex.trader.prober) takes it.
    type: dict
    default: {}
  lease:
    description: C(id) of the lock, filled in by the action plugin.
    type: dict
    default: {}
  user:
    description: The service user.
    type: str
    required: true
  home:
    description: Its home.
    type: path
    required: true
author: [senex.trader maintainers (@senex-trader)]
"""
EXAMPLES = r"""
- name: Stop it
  senex.trader.application:
    state: rests
    user: senex
    home: /opt/senex-trader
"""
RETURN = r"""
units:
  description: What rests, or was started.
  returned: always
  type: list
  elements: str
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.senex.trader.plugins.module_utils import resting, untrusted
from ansible_collections.senex.trader.plugins.module_utils.release_record import Busy, Ledger
from ansible_collections.senex.trader.plugins.module_utils.service_user import CommandError, ServiceUser

ARGUMENTS = {
    "state": {"type": "str", "choices": ["rests", "serves"], "required": True},
    "more": {"type": "list", "elements": "str", "default": []},
    "stop": {"type": "bool", "default": True},
    "migrate": {"type": "bool", "default": False},
    "target": {"type": "dict", "default": {}},
    "lease": {"type": "dict", "default": {}},
    "user": {"type": "str", "required": True},
    "home": {"type": "path", "required": True},
}


def main() -> None:
    """One state."""
    os.umask(0o022)  # the session of whoever runs it may have a stricter one, and others read what is made here
    module = AnsibleModule(ARGUMENTS)
    given, troubles = module.params, []
    rests = given["state"] == "rests"
    try:
        user = ServiceUser(given["user"], given["home"])
        user.check_manager()
        with Ledger().changing({**given["lease"], "at": "the application " + given["state"]}) as still:
            if rests:
                units = resting.rest(user, given["more"], given["stop"])
            else:
                units, troubles = resting.serve(user, given["target"], given["migrate"], still=still)
    except (Busy, LookupError, OSError, CommandError) as error:
        module.fail_json(msg=untrusted.lines(error))
    if troubles:
        module.fail_json(msg=untrusted.lines("; ".join(troubles)), units=units)
    module.exit_json(changed=bool(units), units=units)


if __name__ == "__main__":
    main()
