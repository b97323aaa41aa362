#!/usr/bin/python
"""The collection's own facts of a host, and nothing else."""

from __future__ import annotations

DOCUMENTATION = r"""
module: facts
short_description: What the roles ask of a host, and which parts on it are as the last run left them
description:
  - Runs C(/etc/ansible/facts.d/senex.fact), which the role common installs, and gives its answer the names that M(ansible.builtin.setup) would give it.
    That module takes longer, for it carries the collectors of all systems.
  - On a host without the script, or with an older one, it gives nothing; read the facts with M(ansible.builtin.setup) then.
  - Looks at all parts that M(senex.trader.quadlet) and M(senex.trader.system_files) have brought to the host, with the comparison that those use.
    Registered as C(senex_look), the answer saves them the call for a part that still is as it is handed over, until one of them changes something.
options:
  parts:
    description: Whether to look at the parts. A release does not, for it is going to change those it has.
    type: bool
    default: true
  releases:
    description: Whether to read the records of releases.
    type: bool
    default: false
  alone:
    description:
      - Whether the run ends here while an operation (a release, restore, upgrade or rotation, or another run of this kind) holds the host's lock.
      - The run then has the lock for itself from the first part that is changed on, until C(senex.trader.release) with C(finish) gives it up.
        Look-ups cost nothing more, and a run that changes nothing takes none.
      - Not in check mode.
    type: bool
    default: false
  take_over:
    description: With O(alone), whether whoever holds the lock is known to be dead.
    type: bool
    default: false
  downgrade:
    description:
      - Whether the run may be of an older version of the collection than what changed this host last. Without it such a run ends here.
      - Left out, it is not asked, as for a host that the run does not change.
    type: bool
  collection:
    description: The version of the collection; filled in by the action plugin where O(downgrade) is given.
    type: dict
    default: {}
  key:
    description:
      - C(file), C(name) and C(value) of the keys that the application is to have, with commas between, such as FIELD_ENCRYPTION_KEY in its environment file.
      - Whether this host has another one is said before any part is changed, for a vault that is not this host's has other passwords too.
    type: dict
    default: {}
    suboptions:
      file:
        description: Where the host's own lies.
        type: str
      name:
        description: The variable's name there.
        type: str
      value:
        description: The keys.
        type: str
attributes:
  check_mode:
    support: full
    description: Changes nothing.
author: [senex.trader maintainers (@senex-trader)]
"""
EXAMPLES = r"""
- name: Read the facts
  senex.trader.facts:
  register: senex_look
"""
RETURN = r"""
ansible_facts:
  description: ansible_local (with senex alone), ansible_distribution, ansible_distribution_version and ansible_service_mgr; empty where the script says none.
  returned: always
  type: dict
seen:
  description: Name of each part that is as the last run left it, with the SHA-256 of what that run handed over.
  returned: always
  type: dict
in_force:
  description: What M(senex.trader.in_force) would refuse, without what takes long to ask (fail2ban, ufw).
  returned: always
  type: list
  elements: dict
kept:
  description: Names of the parts that earlier runs have brought to the host, whole or not.
  returned: always
  type: list
  elements: str
gone:
  description: Directories of data (C(path), C(part)) that an earlier run has seen something in, and that are missing or empty now.
  returned: always
  type: list
  elements: dict
holder:
  description: Who holds the lock, C(none) where nobody does or nobody renewed it in time.
  returned: always
  type: dict
other_key:
  description: Whether the host has other keys than O(key), see docs/operations/rotation.md.
  returned: always
  type: bool
newer:
  description: Why a run of this version may not change the host; the task has failed then.
  returned: where it may not
  type: str
after:
  description: Id of whoever had the lock last. A run does not begin to change what another has changed after it looked.
  returned: always
  type: str
run:
  description: Name of the lock that this run takes with its first change, what it is called, and whom it may take it from.
  returned: with O(alone)
  type: dict
holds:
  description: Whether nginx is here and holds requests back while a service restarts.
  returned: always
  type: bool
releases:
  description: Every record of a release, oldest first.
  returned: with O(releases)
  type: list
  elements: dict
id:
  description: Names this look.
  returned: always
  type: str
"""

import json
import os
import secrets
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired  # beside the look, which run_command would wait for

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.senex.trader.plugins.module_utils import fileset, in_force, kept_data, kept_key, untrusted
from ansible_collections.senex.trader.plugins.module_utils.look import look
from ansible_collections.senex.trader.plugins.module_utils.release_record import Ledger, expired, sentence
from ansible_collections.senex.trader.plugins.module_utils.rotation import CONTRACT, read_contract

SCRIPT = "/etc/ansible/facts.d/senex.fact"


def script() -> Popen | None:
    """The host's own script, started; None where it has none."""
    try:
        return Popen([SCRIPT], stdout=PIPE, stderr=DEVNULL, text=True, errors="replace")
    except OSError:
        return None


def said(process: Popen | None) -> dict:
    """The facts that it says; empty where it fails."""
    try:
        senex = json.loads(process.communicate(timeout=60)[0] if process else "")
        return {"ansible_local": {"senex": senex}, **{f"ansible_{name}": value for name, value in senex["system"].items()}}
    except (TimeoutExpired, ValueError, KeyError):
        return {}


def holder() -> dict:
    """Who holds the lock of this host, and the same for a person; empty where nobody does."""
    found = Ledger().holder()
    return {"holder": found, "message": sentence(found)} if found and not expired(found) else {}


def main() -> None:
    """Ask, and answer."""
    os.umask(0o022)  # the session of whoever runs it may have a stricter one, and others read what is made here
    module = AnsibleModule(
        {
            "parts": {"type": "bool", "default": True},
            "releases": {"type": "bool", "default": False},
            "alone": {"type": "bool", "default": False},  # for the action plugin, as are the next two
            "take_over": {"type": "bool", "default": False},
            "downgrade": {"type": "bool"},
            "collection": {"type": "dict", "default": {}},
            "key": {
                "type": "dict",
                "default": {},
                "no_log": False,
                "options": {"file": {"type": "str"}, "name": {"type": "str"}, "value": {"type": "str", "no_log": True}},
            },
        },
        supports_check_mode=True,
    )
    if newer := Ledger().mark.refusal(module.params["collection"]):
        module.exit_json(changed=False, newer=newer)
    held, after = holder(), Ledger().last().get("id", "")
    if held and module.params["alone"] and not module.params["take_over"] and not module.check_mode:
        module.exit_json(changed=False, **held)
    process = script()  # before the look, during which this process is the service user at times
    try:
        troubles = in_force.look(in_force.read(), quick=True) if module.params["parts"] else []
    except (OSError, ValueError) as error:
        troubles = [in_force.trouble(in_force.WANTED, str(error))]
    seen = look() if module.params["parts"] else {}
    try:
        holds = bool(read_contract(CONTRACT).get("hold"))
    except OSError:
        holds = False
    try:
        key = module.params["key"]
        other = bool(key and key["value"]) and kept_key.is_another(key["file"], key["name"], key["value"].split(","))
    except (OSError, ValueError) as error:
        module.fail_json(msg=untrusted.lines(str(error)))
    records = {"releases": Ledger().records()} if module.params["releases"] else {}
    data = {"gone": kept_data.gone(), "other_key": other}
    more = {**records, **data, "kept": fileset.parts(), "in_force": troubles, "holds": holds, "holder": None, **held, "after": after}
    module.exit_json(changed=False, ansible_facts=said(process), seen=seen, id=secrets.token_hex(8), **more)


if __name__ == "__main__":
    main()
