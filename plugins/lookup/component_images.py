# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""Which images this host gets from a registry."""

from __future__ import annotations

DOCUMENTATION = """
name: component_images
short_description: Say which images this host gets from a registry
version_added: 0.1.0
author: [senex.trader maintainers (@senex-trader)]
description:
  - Returns the images of the components on this host, as the registry of components has them, each once. What comes from an archive is left out.
"""
EXAMPLES = """
- name: Show them
  ansible.builtin.debug:
    msg: "{{ query('senex.trader.component_images') }}"
"""
RETURN = """
_raw:
  description: For each image its C(reference), and the C(input) that says which it is.
  type: list
  elements: dict
"""

from typing import Any

from ansible.plugins.lookup import LookupBase
from ansible_collections.senex.trader.plugins.plugin_utils.components import registry


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **_: Any) -> list[dict[str, str]]:
        variables = variables or {}
        mine = set(variables.get("group_names", []))
        images = [one.image for one in registry().values() if one.image and mine & set(one.groups)]
        # Asked only of what is here: inputs of other components may not be known
        asked = [image for image in dict.fromkeys(images) if not (image.unless and self._templar.template(variables.get(image.unless, "")))]
        return [{"reference": str(self._templar.template(variables[image.variable])), "input": image.input} for image in asked]
