#!/usr/bin/python
"""Whether the settings that role common wants are in force on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: in_force
short_description: Verify that settings are in force which other configuration can override
description:
  - Asks sshd, the kernel, systemd, fail2ban, ufw and apt for what they obey, and compares it with C(/etc/senex-trader/in-force.json), which the role common
    writes. C(senex status) does the same.
  - Fails with a sentence for each setting that is not in force, with the value that is and, where it can be told, the file that it comes from.
attributes:
  check_mode:
    support: full
    description: Changes nothing.
author: [senex.trader maintainers (@senex-trader)]
"""
EXAMPLES = r"""
- name: Verify what is in force
  senex.trader.in_force:
"""
RETURN = r"""
troubles:
  description: setting, says and origin of each that is not in force.
  returned: always
  type: list
  elements: dict
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.senex.trader.plugins.module_utils.host import in_force, untrusted


def main() -> None:
    """One look."""
    os.umask(0o022)  # as every module of the collection
    module = AnsibleModule({}, supports_check_mode=True)
    try:
        troubles = in_force.look(in_force.read())
    except (OSError, ValueError) as error:
        module.fail_json(msg=untrusted.lines(f"{in_force.WANTED}: {error}"))
    if troubles:
        said = "\n".join(in_force.sentence(one) for one in troubles)
        module.fail_json(msg=untrusted.lines(f"Not in force, though the files are in place:\n{said}"), troubles=troubles)
    module.exit_json(changed=False, troubles=[])


if __name__ == "__main__":
    main()
