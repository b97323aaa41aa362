#!/usr/bin/python
"""What nginx of a host serves already."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nginx_sites
short_description: Look what nginx of a host serves that is not this collection's
description:
  - Reads nginx's files, as they include each other, and changes nothing. The page that nginx's package brings, unchanged, is no site.
  - Needs no more than Python's standard library, so that it works on a bare host.
options:
  path:
    description: nginx's main file.
    type: path
    default: /etc/nginx/nginx.conf
author: [senex.trader maintainers (@senex-trader)]
"""
EXAMPLES = r"""
- name: Look for sites of others
  senex.trader.nginx_sites:
  register: others
"""
RETURN = r"""
ours:
  description: Whether nginx's main file is this collection's.
  returned: always
  type: bool
sites:
  description: "What is served by others: the file that says so, and the names of its servers."
  returned: always
  type: list
  elements: dict
  sample: [{path: /etc/nginx/sites-enabled/shop, names: [shop.example.com]}]
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.senex.trader.plugins.module_utils.nginx import nginx_sites


def main() -> None:
    """One look."""
    os.umask(0o022)  # the session of whoever runs it may have a stricter one, and others read what is made here
    module = AnsibleModule({"path": {"type": "path", "default": "/etc/nginx/nginx.conf"}}, supports_check_mode=True)
    module.exit_json(changed=False, **nginx_sites.look(module.params["path"]))


if __name__ == "__main__":
    main()
