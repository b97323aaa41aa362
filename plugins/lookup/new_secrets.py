# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""New values for the secrets that a vault can have made."""

from __future__ import annotations

DOCUMENTATION = """
name: new_secrets
short_description: Make a new value of each secret that need not come from somebody
version_added: 0.1.0
author: [senex.trader maintainers (@senex-trader)]
description:
  - Returns a dictionary with a new random value for each secret that the registry of components has made, by its name in the vault. Each call makes others.
  - With the term C(given) it returns the names of those that their issuer gives.
options:
  groups:
    description: Hosts of each group of the environment, where that is not the inventory of the run.
    type: dict
  _terms:
    description: Nothing, or C(given).
"""
EXAMPLES = """
- name: Make a new password of Redis
  ansible.builtin.set_fact:
    password: "{{ lookup('senex.trader.new_secrets').vault_redis_password }}"
  no_log: true
"""
RETURN = """
_raw:
  description: One dictionary, or names.
  type: list
  elements: raw
"""

import base64
import os
import secrets
import string
from typing import Any

from ansible.plugins.lookup import LookupBase
from ansible_collections.senex.trader.plugins.plugin_utils.components import absent_secrets, registry

WORD = string.ascii_letters + string.digits


def drawn(characters: str, length: int) -> str:
    return "".join(secrets.choice(characters) for _ in range(length))


MAKERS = {
    "word": lambda: drawn(WORD, 40),
    "django": lambda: drawn(WORD + "-_.~", 64),
    "fernet": lambda: base64.urlsafe_b64encode(os.urandom(32)).decode(),
}


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: dict[str, Any] | None = None, groups: Any = None, **_: Any) -> list[Any]:
        absent = absent_secrets((variables or {}).get("groups", {}) if groups is None else groups)
        known = {f"vault_{name}": made for one in registry().values() for name, made in one.secrets.items() if name not in absent}
        if "given" in terms:
            return [name for name, made in known.items() if made == "given"]
        return [{name: MAKERS[made]() for name, made in known.items() if made in MAKERS}]
