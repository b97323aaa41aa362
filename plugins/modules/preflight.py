#!/usr/bin/python
"""What a host can ask of the world around it before anything is installed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Ask names, registry, mail server, certificate authority and bucket before the first deployment
description:
  - Asks from the host, for it is the host that will need the answers, and changes nothing there.
  - Needs no more than Python's standard library, so that it works on a bare host.
options:
  wanted:
    description:
      - C(names) with domains, addresses (of the host) and needed (whether a name that does not resolve is a failure).
      - C(images), a list of reference, login (registry, username, password; for images of that registry alone) and input (the variable to name).
      - C(mail), a list of host, port, security (starttls, tls, none), user, password and ca_file.
      - C(directories), a list of path, marker (a file that a filled one has) and part.
      - C(storage), a home below which images are to lie.
      - C(addresses), a list of key, url and do (what to do when nothing answers).
      - C(servers), a list of what, host, port and says, what is to be known of a server that is somebody else's.
    type: dict
    required: true
author: [senex.trader maintainers (@senex-trader)]
"""
EXAMPLES = r"""
- name: Ask whether the image can be pulled
  senex.trader.preflight:
    wanted:
      images:
        - reference: registry.example.com/team/app:1
          input: senex_image_tag
          login: {registry: registry.example.com, username: ci, password: "{{ vault_registry_password }}"}
"""
RETURN = r"""
findings:
  description: key, level (OK, WARN, FAIL), says and do of each, as C(senex status --json) has them.
  returned: always
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.senex.trader.plugins.module_utils.checks import preflight


def main() -> None:
    """One look."""
    # The passwords are in there, so none of it is logged
    module = AnsibleModule({"wanted": {"type": "dict", "required": True, "no_log": False}}, supports_check_mode=True)
    module.exit_json(changed=False, findings=preflight.ask(module.params["wanted"]))


if __name__ == "__main__":
    main()
