#!/usr/bin/python
"""The collection's own facts of a host, and nothing else."""

from __future__ import annotations

DOCUMENTATION = r"""
module: facts
short_description: Read the collection's own facts of a host, and which components are unchanged
description:
  - Runs C(/etc/ansible/facts.d/senex.fact), which the role common installs, and gives its answer the names that M(ansible.builtin.setup) would give it.
    That module takes longer, for it carries the collectors of all systems.
  - On a host without the script, or with an older one, it gives nothing; read the facts with M(ansible.builtin.setup) then.
  - Compares all components that M(senex.trader.quadlet) and M(senex.trader.system_files) have installed with the host, in the same way as those do.
    Registered as C(senex_host_snapshot), the result saves them the call for each component that is unchanged, until one of them changes something.
options:
  components:
    description: Whether to compare the components with the host. A deploy does not, because it changes those it has.
    type: bool
    default: true
  releases:
    description: Whether to read the records of releases.
    type: bool
    default: false
  exclusive:
    description:
      - Whether the run ends here while an operation (a release, restore, upgrade or rotation, or another run of this kind) holds the host's lock.
      - The run then has the lock from the first component that is changed on, until C(senex.trader.release) with C(finish) gives it up.
        Look-ups cost nothing more, and a run that changes nothing takes none.
      - Not in check mode.
    type: bool
    default: false
  take_over:
    description: With O(exclusive), whether whoever holds the lock is known to be dead.
    type: bool
    default: false
  downgrade:
    description:
      - Whether the run may be of an older version of the collection than what changed this host last. Without it such a run ends here.
      - Left out, it is not asked, as for a host that the run does not change.
    type: bool
  vault:
    description:
      - With O(downgrade), how far the C(rotations) of the run's vault are, and whether it may be C(older) than the one that changed this host last.
        Without that a run with an older one ends here.
    type: dict
    default: {}
  collection:
    description: The version of the collection, and O(vault); filled in by the action plugin where O(downgrade) is given.
    type: dict
    default: {}
  environment:
    description: Name of the run's environment. A run ends here on a host that belongs to another one. Empty asks nothing.
    type: str
    default: ""
  unit:
    description: Path of a Quadlet unit of the service user's whose image is returned; none is read where it is empty.
    type: str
    default: ""
  key:
    description:
      - C(file), C(name) and C(value) of the keys that the application is to have, with commas between, such as FIELD_ENCRYPTION_KEY in its environment file.
      - Whether this host has another one is said before any component is changed, for a vault that is not this host's has other passwords too.
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
  register: senex_host_snapshot
"""
RETURN = r"""
ansible_facts:
  description: ansible_local (with senex alone), ansible_distribution, ansible_distribution_version and ansible_service_mgr; empty where the script says none.
  returned: always
  type: dict
unchanged:
  description: Name of each component that is as the last run left it, with the SHA-256 of the input of that run.
  returned: always
  type: dict
in_force:
  description: What M(senex.trader.in_force) would refuse, without what takes long to ask (fail2ban, ufw).
  returned: always
  type: list
  elements: dict
installed:
  description: Names of the components that earlier runs have installed, completely or not.
  returned: always
  type: list
  elements: str
missing_data:
  description: Directories (C(path), C(component)) in which an earlier run has seen data, and that are missing or empty now.
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
refused:
  description: Why a run of this version, or of this environment, may not change the host; the task has failed then.
  returned: where it may not
  type: str
after:
  description: Id of whoever had the lock last. A run does not begin to change what another has changed after it looked.
  returned: always
  type: str
run:
  description: Name of the lock that this run takes with its first change, what it is called, and whom it may take it from.
  returned: with O(exclusive)
  type: dict
can_hold_requests:
  description: Whether nginx runs here and delays requests while a service restarts.
  returned: always
  type: bool
releases:
  description: Every record of a release, oldest first.
  returned: with O(releases)
  type: list
  elements: dict
moves:
  description: >-
    Of each component that was moved from or to this host, or is being so, how far that is (C(phase), C(role), C(other), C(at), C(forwards)); empty without one.
  returned: always
  type: dict
image:
  description: The image that O(unit) names; empty where there is no such unit.
  returned: always
  type: str
id:
  description: Random name of this snapshot.
  returned: always
  type: str
"""

import json
import os
import pwd
import re
import secrets
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired  # beside the look, which run_command would wait for

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.senex.trader.plugins.module_utils.engine.unchanged import unchanged_components
from ansible_collections.senex.trader.plugins.module_utils.host import environment_mark, field_key, fileset, in_force, kept_data, untrusted
from ansible_collections.senex.trader.plugins.module_utils.host.release_record import Ledger, expired, sentence
from ansible_collections.senex.trader.plugins.module_utils.nginx.nginx_upstream import CONTRACT, read_contract
from ansible_collections.senex.trader.plugins.module_utils.postgresql import move_state
from ansible_collections.senex.trader.plugins.module_utils.redis import move_state as redis_move_state

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


def image_of(unit: str) -> str:
    """The image that a Quadlet unit of the service user's names; empty where there is none, or nothing that looks like one."""
    lines = untrusted.read([unit])[unit].get("content", b"").decode(errors="replace").split("\n")
    named = [line.partition("=")[2].strip() for line in lines if line.startswith("Image=")]
    return named[0] if named and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9./:@_-]{0,511}", named[0]) else ""


def holder() -> dict:
    """Who holds the lock of this host, and the same for a person; empty where nobody does."""
    found = Ledger().holder()
    return {"holder": found, "message": sentence(found)} if found and not expired(found) else {}


def moves() -> dict[str, dict]:
    """How far moves of components are."""
    known = {"postgresql": move_state.read(), "redis": redis_move_state.read()}
    words = ("phase", "role", "other", "at", "address", "forwards")
    return {component: {name: value for name, value in told.items() if name in words} for component, told in known.items()}


def main() -> None:
    """Read everything that the options ask for; fails when the key cannot be compared."""
    os.umask(0o022)  # the session of whoever runs it may have a stricter one, and others read what is made here
    module = AnsibleModule(
        {
            "components": {"type": "bool", "default": True},
            "releases": {"type": "bool", "default": False},
            "exclusive": {"type": "bool", "default": False},  # for the action plugin, as are the next two
            "take_over": {"type": "bool", "default": False},
            "downgrade": {"type": "bool"},
            "vault": {"type": "dict", "default": {}},
            "collection": {"type": "dict", "default": {}},
            "environment": {"type": "str", "default": ""},
            "unit": {"type": "str", "default": ""},
            "key": {
                "type": "dict",
                "default": {},
                "no_log": False,
                "options": {"file": {"type": "str"}, "name": {"type": "str"}, "value": {"type": "str", "no_log": True}},
            },
        },
        supports_check_mode=True,
    )
    if os.geteuid():
        who = pwd.getpwuid(os.geteuid()).pw_name
        module.fail_json(msg=f"The run is {who} on this host and has to be root. Add `ansible_become: true` beside ansible_user in the inventory")
    if refused := environment_mark.refusal(module.params["environment"]) or Ledger().refusal(module.params["collection"]):
        module.exit_json(changed=False, refused=refused)
    held, after = holder(), Ledger().last().get("id", "")
    if held and module.params["exclusive"] and not module.params["take_over"] and not module.check_mode:
        module.exit_json(changed=False, **held)
    process = script()  # before the look, during which this process is the service user at times
    try:
        troubles = in_force.look(in_force.read(), quick=True) if module.params["components"] else []
    except (OSError, ValueError) as error:
        troubles = [in_force.trouble(in_force.WANTED, str(error))]
    unchanged = unchanged_components() if module.params["components"] else {}
    try:
        can_hold_requests = bool(read_contract(CONTRACT).get("hold"))
    except OSError:
        can_hold_requests = False
    try:
        key = module.params["key"]
        coming = [one for one in ((key or {}).get("value") or "").split(",") if one]
        other = bool(key and key["file"]) and field_key.is_another(key["file"], key["name"], coming)
    except (OSError, ValueError) as error:
        module.fail_json(msg=untrusted.lines(str(error)))
    image = image_of(module.params["unit"]) if module.params["unit"] else ""
    records = {"releases": Ledger().records()} if module.params["releases"] else {}
    data = {"missing_data": kept_data.gone(), "other_key": other}
    more = {
        **records,
        **data,
        "installed": fileset.components(),
        "in_force": troubles,
        "can_hold_requests": can_hold_requests,
        "image": image,
        "moves": {name: told for name, told in moves().items() if told},
        "holder": None,
        **held,
        "after": after,
    }
    module.exit_json(changed=False, ansible_facts=said(process), unchanged=unchanged, id=secrets.token_hex(8), **more)


if __name__ == "__main__":
    main()
