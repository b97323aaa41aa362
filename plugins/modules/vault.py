#!/usr/bin/python
"""Documentation and argument specification of senex.trader.vault; its action plugin does the work."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault
short_description: Write an encrypted file of secrets without ever losing one
description:
  - Runs on the controller. A vault that is there is encrypted with the very password that opened it, however that was given,
    and keeps the vault id of its first line, its mode and its owner.
  - The new content is written beside the old one, opened again, and then takes its place by rename.
    The old file stays beside it as C(<path>.<date>.old), 0600.
  - A new vault is encrypted with the password that the run was given for its vault id, else with what the client answers.
  - Refuses what it cannot open, what is not encrypted, what somebody else changed meanwhile, and a place that goes with the job's container.
options:
  path:
    description: The vault.
    type: path
    required: true
  vault_id:
    description: Name of the environment, for a vault that is not there yet.
    type: str
    required: true
  text:
    description: Its new content. Without it nothing is written, and the result says whether there is a password.
    type: str
  was:
    description: The content that the new one was made from.
    type: str
    default: ""
  client:
    description: Program that answers for the password of a new vault, as C(inventory/vault-client) does.
    type: str
    default: ""
  places:
    description: Further paths that have to outlast the run.
    type: list
    elements: path
    default: []
  place_is_kept:
    description: Somebody says that all of these places outlast the run.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Says whether it would write.
  diff_mode:
    support: none
    description: What it writes is secret.
author: [senex.trader maintainers (@senex-trader)]
"""
EXAMPLES = r"""
- name: Write the vault
  senex.trader.vault:
    path: "{{ vault }}"
    vault_id: staging
    was: "{{ old }}"
    text: "{{ new }}"
  no_log: true
"""
RETURN = r"""
kept:
  description: The copy of the old file; empty where there was none or nothing changed.
  returned: when text is given
  type: str
  sample: /srv/senex/inventory/staging/group_vars/all/vault.yml.20260301-101500.old
has_password:
  description: Whether there is a password to write with.
  returned: when text is not given
  type: bool
  sample: true
reason:
  description: Where one was looked for in vain.
  returned: when text is not given
  type: str
  sample: ""
"""

from ansible.module_utils.basic import AnsibleModule

ARGUMENTS = {
    "path": {"type": "path", "required": True},
    "vault_id": {"type": "str", "required": True},
    "text": {"type": "str", "no_log": True},
    "was": {"type": "str", "default": "", "no_log": True},
    "client": {"type": "str", "default": ""},
    "places": {"type": "list", "elements": "path", "default": []},
    "place_is_kept": {"type": "bool", "default": False},
}


def main() -> None:
    """Only reached when the action plugin was bypassed."""
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    module.fail_json(msg="senex.trader.vault works through its action plugin; do not call the module by itself")


if __name__ == "__main__":
    main()
