#!/usr/bin/python
"""The application of one host, stopped and started again around an operation."""

from __future__ import annotations

DOCUMENTATION = r"""
module: application
short_description: Stop the application of a host for an operation, and start it again
description:
  - The stopped units are listed in C(/var/lib/senex.trader/application-rests) until they are in service again, so that a later run can start them.
  - Works under the deploy lock, which is renewed for as long as it takes. If another process takes the lock, the module fails and changes nothing more.
options:
  state:
    description:
      - V(stopped) stops the web instances, workers and Beat that run, and returns RV(units).
      - V(started) starts all that was stopped here, and sends test requests to the web tier.
    type: str
    choices: [stopped, started]
    required: true
  also_start:
    description: With O(state=stopped), names of further units that V(started) has to start, even if they do not run now.
    type: list
    elements: str
    default: []
  processes:
    description: With O(state=stopped), names of the application's own processes (C(senex_application_processes)), filled in by the action plugin.
    type: list
    elements: str
    default: []
  stop:
    description: With O(state=stopped), false only lists what has to be started later, and stops nothing.
    type: bool
    default: true
  web:
    description: With O(state=stopped), false leaves the web instances alone.
    type: bool
    default: true
  maintenance:
    description: With O(state=stopped), whether the units stay stopped until the next release starts them, also where this run dies. The watchdog starts none.
    type: bool
    default: false
  migrate:
    description: With O(state=started), whether migrations of the running release are applied first.
    type: bool
    default: false
  target:
    description: With O(state=started), the test requests, as O(senex.trader.traffic_probe#module:target).
    type: dict
    default: {}
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
- name: Stop the application
  senex.trader.application:
    state: stopped
    user: senex
    home: /opt/senex-trader
"""
RETURN = r"""
units:
  description: Names of the units that were stopped or started.
  returned: always
  type: list
  elements: str
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.senex.trader.plugins.module_utils.host import untrusted
from ansible_collections.senex.trader.plugins.module_utils.host.release_record import Ledger, LockHeld
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import CommandError, ServiceUser
from ansible_collections.senex.trader.plugins.module_utils.release import application_units

ARGUMENTS = {
    "state": {"type": "str", "choices": ["stopped", "started"], "required": True},
    "also_start": {"type": "list", "elements": "str", "default": []},
    "processes": {"type": "list", "elements": "str", "default": []},
    "stop": {"type": "bool", "default": True},
    "web": {"type": "bool", "default": True},
    "maintenance": {"type": "bool", "default": False},
    "migrate": {"type": "bool", "default": False},
    "target": {"type": "dict", "default": {}},
    "deploy_lock": {"type": "dict", "default": {}},
    "user": {"type": "str", "required": True},
    "home": {"type": "path", "required": True},
}


def main() -> None:
    """Stop or start the units; fails when the lock is lost or a unit is not in service afterwards."""
    os.umask(0o022)  # the session of whoever runs it may have a stricter one, and others read what is made here
    module = AnsibleModule(ARGUMENTS)
    given, troubles = module.params, []
    stops = given["state"] == "stopped"
    try:
        user = ServiceUser(given["user"], given["home"])
        user.check_manager()
        with Ledger().changing({**given["deploy_lock"], "stage": "the application " + given["state"]}) as still:
            if stops:
                how = {name: given[name] for name in ("processes", "maintenance", "web")}
                units = application_units.stop_units(user, given["also_start"], given["stop"], **how)
            else:
                units, troubles = application_units.start_units(user, given["target"], given["migrate"], still=still)
    except (LockHeld, LookupError, OSError, CommandError) as error:
        module.fail_json(msg=untrusted.lines(error))
    if troubles:
        module.fail_json(msg=untrusted.lines("; ".join(troubles)), units=units)
    module.exit_json(changed=bool(units), units=units)


if __name__ == "__main__":
    main()
