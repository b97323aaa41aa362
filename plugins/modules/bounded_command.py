#!/usr/bin/python
"""A command of somebody else's, whose answer has an end."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bounded_command
short_description: Run a command that the service user may have replaced
description:
  - As C(ansible.builtin.command), for programs that the service user, or a container, may have replaced by others.
  - One that prints more than 16 MB, or does not end in time, is ended, and the task fails.
  - Its output is printable lines; every other character is C(?).
  - For what changes nothing that runs. Steps of an operation are M(senex.trader.release)'s, which keeps the lock meanwhile.
options:
  argv:
    description: The command.
    type: list
    elements: str
    required: true
  stdin:
    description: What it reads.
    type: str
    default: ""
  chdir:
    description: Directory in which it runs.
    type: path
    default: /
  timeout:
    description: Seconds after which it is ended. The default, a day, is for a copy that is fetched from far away.
    type: float
    default: 86400
  failure_warning:
    description: Text of a warning, with which the task continues when the command fails; the reason is added. When it is empty, the task fails.
    type: str
    default: ""
attributes:
  check_mode:
    support: partial
    details: Skipped, as a command of Ansible's own.
    description: Whether it can run in check mode.
author: [senex.trader maintainers (@senex-trader)]
"""
EXAMPLES = r"""
- name: List what can be restored
  senex.trader.bounded_command:
    argv: [runuser, --user, senex, --, /opt/senex-trader/bin/backup, list]
  register: listed
  changed_when: false
"""
RETURN = r"""
rc:
  description: Exit status of the command. 124 when it did not end within O(timeout), 125 when it printed more than it may.
  returned: always
  type: int
stdout:
  description: What it printed.
  returned: always
  type: str
stderr:
  description: What it printed on standard error.
  returned: always
  type: str
"""

import errno
import os
import subprocess

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.senex.trader.plugins.module_utils.host import child, untrusted

ARGUMENTS = {
    "argv": {"type": "list", "elements": "str", "required": True},
    "stdin": {"type": "str", "default": "", "no_log": True},
    "chdir": {"type": "path", "default": "/"},
    "timeout": {"type": "float", "default": 86400.0},
    "failure_warning": {"type": "str", "default": ""},
}


def run(given: dict) -> dict:
    """How the command ended, and what it said."""
    try:
        done = untrusted.told(given["argv"], given["stdin"], given["timeout"], cwd=given["chdir"], start_new_session=True)
    except subprocess.TimeoutExpired:
        return {"rc": 124, "stdout": "", "stderr": f"no end after {given['timeout']:g} s"}
    except OSError as error:
        return {"rc": 125 if error.errno == errno.EFBIG else 127, "stdout": "", "stderr": untrusted.lines(error.strerror or error)}
    # Whole, for the last line of it may be JSON; of a complaint there is no more than a person reads
    return {"rc": done.returncode, "stdout": untrusted.lines(done.stdout.strip("\n"), child.SAID), "stderr": untrusted.lines(done.stderr.strip("\n"))}


def main() -> None:
    """One command."""
    os.umask(0o022)  # as every module of the collection
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    if module.check_mode:
        module.exit_json(changed=False, skipped=True, rc=0, stdout="", stderr="")
    answer = run(module.params)
    if answer["rc"]:
        reason = untrusted.lines(f"ended with {answer['rc']}: {answer['stderr'] or answer['stdout']}")
        if not module.params["failure_warning"]:
            module.fail_json(msg=reason, **answer)
        module.warn(f"{module.params['failure_warning']} ({reason})")
    module.exit_json(changed=True, **answer)


if __name__ == "__main__":
    main()
