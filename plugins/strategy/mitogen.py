"""The linear strategy over Mitogen, for whoever has it: ANSIBLE_STRATEGY=senex.trader.mitogen."""

from __future__ import annotations

DOCUMENTATION = r"""
name: mitogen
short_description: Tasks in lock-step over Mitogen
description:
  - As P(ansible.builtin.linear#strategy), with one Python on each host that stays for the whole run. Needs C(pip install mitogen) beside Ansible,
    in a version that supports it (0.3.54 with ansible-core 2.19).
  - Nothing depends on it. C(docs/operating.md) has what it saves.
author: [senex.trader maintainers (@senex-trader)]
"""

import ansible.plugins.strategy.linear
from ansible.errors import AnsibleError

try:
    import ansible_mitogen.strategy
except ImportError as error:
    raise AnsibleError("ANSIBLE_STRATEGY: senex.trader.mitogen needs Mitogen beside Ansible: pip install mitogen") from error


class StrategyModule(ansible_mitogen.strategy.StrategyMixin, ansible.plugins.strategy.linear.StrategyModule):
    """Nothing of its own."""
