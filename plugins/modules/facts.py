#!/usr/bin/python
"""The collection's own facts of a host, and nothing else."""

from __future__ import annotations

DOCUMENTATION = r"""
module: facts
short_description: What the roles ask of a host that the collection knows already
description:
  - Runs C(/etc/ansible/facts.d/senex.fact), which the role common installs, and gives its answer the names that M(ansible.builtin.setup) would give it.
    That module takes longer, for it carries the collectors of all systems.
  - On a host without the script, or with an older one, it gives nothing; read the facts with M(ansible.builtin.setup) then.
attributes:
  check_mode:
    support: full
    description: Changes nothing.
author: [senex.trader maintainers (@senex-trader)]
"""
EXAMPLES = r"""
- name: Read the facts
  senex.trader.facts:
"""
RETURN = r"""
ansible_facts:
  description: ansible_local (with senex alone), ansible_distribution, ansible_distribution_version and ansible_service_mgr; empty where the script says none.
  returned: always
  type: dict
"""

import json
import subprocess

from ansible.module_utils.basic import AnsibleModule

SCRIPT = "/etc/ansible/facts.d/senex.fact"


def main() -> None:
    """Ask, and answer."""
    module = AnsibleModule({}, supports_check_mode=True)
    try:
        said = subprocess.run([SCRIPT], capture_output=True, text=True, errors="replace", timeout=60, check=True).stdout
        senex = json.loads(said)
        system = {f"ansible_{name}": value for name, value in senex["system"].items()}
    except (OSError, subprocess.SubprocessError, ValueError, KeyError):
        module.exit_json(changed=False, ansible_facts={})
    module.exit_json(changed=False, ansible_facts={"ansible_local": {"senex": senex}, **system})


if __name__ == "__main__":
    main()
