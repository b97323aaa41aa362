#!/usr/bin/python
"""Documentation and argument specification of senex.trader.system_files; its action plugin does the work."""

from __future__ import annotations

DOCUMENTATION = r"""
module: system_files
short_description: A set of files that root owns and the units that read them, in one transaction
description:
  - Renders the files on the controller and makes one module call. Where nothing differs, nothing happens.
  - Otherwise installs by rename, runs the checks, then the handlers whose files changed, then starts the units.
    When a check, handler or unit refuses, the files from before are put back and the task fails with what was said.
  - A file that was on the host before this collection is copied once to C(/var/lib/senex.trader/aside).
options:
  component:
    description: Name of the component; its manifest is C(/var/lib/senex.trader/<component>.json).
    type: str
    required: true
  state:
    description: V(absent) removes what the component installed.
    type: str
    choices: [present, absent]
    default: present
  files:
    description:
      - Files with C(src) (template) or C(content), absolute C(dest), C(mode) (default 0644, 0600 for secrets), C(owner), C(group) (default root), C(secret),
        C(vars), C(when) and C(notify) (names of handlers).
      - With C(block_at), a pattern, the file is somebody else's and gets a block where the match ends, between two comments. What others write around it
        stays, and an empty block is none. Where there is no such file, nothing is written.
    type: list
    elements: dict
    default: []
  directories:
    description: Directories with C(path), C(mode), C(owner), C(group). The owner is set when one is made, the mode always, and never that of what is in it.
    type: list
    elements: dict
    default: []
  absent:
    description: Foreign files or links that must not be there; they are moved to C(/var/lib/senex.trader/aside).
    type: list
    elements: path
    default: []
  checks:
    description: Argument lists run after the files are in place and before any handler.
    type: list
    elements: list
    default: []
  handlers:
    description:
      - Name to C(unit) and C(action) (reload, restart, start, none), or to C(command).
      - Run in this order, once, when a file that notifies them changed, also when this only undoes what somebody changed by hand.
      - With C(serves), a C(file) with a certificate and the C(port) and C(name) where this host hands it out, also when another one is handed out.
    type: dict
    default: {}
  units:
    description: System units that are enabled, not masked, and running when done.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
    description: Shows the same plan and changes nothing.
  diff_mode:
    support: full
    description: Shows every file but the secret ones.
author: [senex.trader maintainers (@senex-trader)]
"""
EXAMPLES = r"""
- name: Configure nginx
  senex.trader.system_files:
    component: nginx
    files:
      - src: site.conf.j2
        dest: /etc/nginx/conf.d/senex.conf
        notify: [nginx]
    checks:
      - [nginx, -t]
    handlers:
      nginx:
        unit: nginx.service
        action: reload
    units: [nginx.service]
"""
RETURN = r"""
plan:
  description: What was done, or would be done in check mode, a line each.
  returned: always
  type: list
  elements: str
  sample: ["install /etc/nginx/conf.d/senex.conf", "reload nginx.service"]
"""

from ansible.module_utils.basic import AnsibleModule

ARGUMENTS = {
    "component": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "files": {"type": "list", "elements": "dict", "default": []},
    "directories": {"type": "list", "elements": "dict", "default": []},
    "absent": {"type": "list", "elements": "path", "default": []},
    "checks": {"type": "list", "elements": "list", "default": []},
    "handlers": {"type": "dict", "default": {}},
    "units": {"type": "list", "elements": "str", "default": []},
}


def main() -> None:
    """Only reached when the action plugin was bypassed."""
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    module.fail_json(msg="senex.trader.system_files works through its action plugin; do not call the module by itself")


if __name__ == "__main__":
    main()
