#!/usr/bin/python
"""The documentation of an action."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fail_on_problems
short_description: Fail if a list of problems has any
description:
  - Runs on the controller, changes nothing and asks no host.
  - Does what M(ansible.builtin.assert) does with a list that has to be empty, and makes the list only once.
options:
  problems:
    description: A line for each problem, or none.
    type: list
    elements: str
    required: true
  heading:
    description: What is said above the problems.
    type: str
author: [senex.trader maintainers (@senex-trader)]
"""
EXAMPLES = r"""
- name: Check the inputs
  senex.trader.fail_on_problems:
    heading: "{{ inventory_hostname }} is not ready:"
    problems: "{{ rules | senex.trader.rule_problems }}"
"""
RETURN = r""" # """
