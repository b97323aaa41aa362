#!/usr/bin/python
"""The steps of playbooks/upgrade_postgresql.yml on the database's host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_upgrade
short_description: The steps of a PostgreSQL major upgrade on one host
description:
  - The order of the steps is in C(playbooks/upgrade_postgresql.yml); this module carries out each of them on the host of the database.
  - How far an upgrade is, and where the other cluster lies, is in C(/var/lib/senex.trader/postgresql-upgrade.state).
options:
  step:
    description:
      - C(plan) changes nothing. C(prepare) brings the image, rehearses and makes an empty cluster, beside what serves.
      - C(switch) fills it, compares it and puts it in the old one's place, while the application is stopped. C(settle) records that it serves.
      - C(undo) puts back what served before, when an upgrade fails. C(back) is the rollback of one that had succeeded. C(done) forgets that one is under way.
      - C(application) lists the units of the application that the engine keeps running on a host.
    type: str
    choices: [plan, prepare, switch, settle, undo, back, done, application]
    required: true
  id:
    description: Whose lock it works under.
    type: str
    default: ""
  back:
    description: With C(plan) and C(prepare), whether they are those of a rollback.
    type: bool
    default: false
  keep:
    description: With C(prepare), how many dumps of the reason pre-deploy stay.
    type: int
    default: 7
  user:
    description: The service user.
    type: str
    required: true
  home:
    description: Its home.
    type: path
    required: true
  cluster:
    description:
      - C(version), C(image), C(uid), C(superuser), C(owner), C(database), C(shared_memory) (MB), C(checksums), C(unit), C(container) of the cluster as role
        postgresql describes it.
      - C(data), C(sockets), C(configuration), paths below the home.
    type: dict
    default: {}
author: [senex.trader maintainers (@senex-trader)]
"""
EXAMPLES = r"""
- name: Which application units belong to this host
  senex.trader.postgresql_upgrade:
    step: application
    user: senex
    home: /opt/senex-trader
"""
RETURN = r"""
plan:
  description: With C(plan), what would be done.
  returned: plan
  type: dict
"""

import os
import re

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.senex.trader.plugins.module_utils.host import untrusted
from ansible_collections.senex.trader.plugins.module_utils.host.fileset import Manifest
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import CommandError, ServiceUser
from ansible_collections.senex.trader.plugins.module_utils.postgresql import upgrade_plan
from ansible_collections.senex.trader.plugins.module_utils.postgresql.server import wanted_of
from ansible_collections.senex.trader.plugins.module_utils.postgresql.upgrade import Upgrade, leased

ARGUMENTS = {
    "step": {"type": "str", "required": True, "choices": ["plan", "prepare", "switch", "settle", "undo", "back", "done", "application"]},
    "id": {"type": "str", "default": ""},
    "back": {"type": "bool", "default": False},
    "keep": {"type": "int", "default": 7},
    "user": {"type": "str", "required": True},
    "home": {"type": "path", "required": True},
    "cluster": {"type": "dict", "default": {}},
}


def step(given: dict) -> dict:
    """Run the step that `given` names; returns the result of the module."""
    if given["step"] == "application":
        units = [unit for part in ("django", "celery") for unit in Manifest(part).units]
        return {"changed": False, "units": [unit for unit in units if re.fullmatch(r"(web|celery)-[a-z0-9-]+\.service", unit) and "-next" not in unit]}
    user = ServiceUser(given["user"], given["home"])
    upgrade = Upgrade(user, wanted_of(given["cluster"], given["home"]), given["id"])
    try:
        user.check_manager()
        return work(given, user, upgrade)
    except (LookupError, OSError, CommandError) as error:
        # Of a way back above all: what it did not come to
        place = upgrade.exchange.whereabouts()
        if not place or place in str(error):
            raise
        raise OSError(f"{str(error).rstrip('.')}. {place}. Run the same command again when that is cured") from error


def work(given: dict, user: ServiceUser, upgrade: Upgrade) -> dict:
    """The same, where the service user's units can be reached."""
    match given["step"]:
        case "plan":
            found = upgrade_plan.plan(upgrade, given["back"])
            # Names of databases, extensions and tables are the application's, and the lines are shown
            lines = {"lines": [untrusted.printable(line, 2000) for line in found["lines"]]} if "lines" in found else {}
            return {"changed": False, "plan": {**found, **lines}}
        case "prepare":
            return {"changed": True, **(upgrade.backup(given["keep"]) if given["back"] else upgrade.prepare(given["keep"]))}
        case "switch":
            return {"changed": True, **upgrade.copy_and_switch()}
    with upgrade.state.alone(), leased(user, given["id"], given["step"]):
        match given["step"]:
            case "settle":
                return {"changed": True, "kept": upgrade.exchange.commit()}
            case "undo":
                begun = upgrade.state.phase in ("making", "exchanging")
                if begun:
                    upgrade.exchange.roll_back()
                return {"changed": True, "left": upgrade.left() if begun else ""}
            case "back":
                return {"changed": True, **upgrade.exchange.revert(upgrade.jobs)}
        upgrade.state.put(phase=None)
        return {"changed": True, "kept": upgrade.exchange.commit(), "aside": upgrade.state.aside}


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
