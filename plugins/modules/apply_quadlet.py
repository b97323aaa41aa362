#!/usr/bin/python
"""Host side of senex.trader.quadlet."""

from __future__ import annotations

DOCUMENTATION = r"""
module: apply_quadlet
short_description: Host side of M(senex.trader.quadlet)
description:
  - Called by the action plugin of M(senex.trader.quadlet) with everything rendered; not for playbooks.
options:
  payload:
    description: The component as JSON in base64, so that no secret shows in an invocation and nothing short is masked elsewhere.
    type: str
    required: true
  concurrent_components:
    description: Other components, as payloads, each applied by a process of its own.
    type: list
    elements: str
    default: []
  concurrent_start:
    description: When they start, as M(senex.trader.quadlet) has it.
    type: str
    choices: [after_first_ready, immediate]
    default: after_first_ready
  run:
    description: Who asks, and whether it takes the host's lock for itself; filled in by the action plugin.
    type: dict
    default: {}
author: [senex.trader maintainers (@senex-trader)]
"""
EXAMPLES = r"""
- name: Never by itself
  senex.trader.quadlet:
    component: example
    user: senex
    home: /opt/senex-trader
"""
RETURN = r"""
plan:
  description: What was done, or would be done in check mode, a line each.
  returned: always
  type: list
  elements: str
"""

import base64
import json
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.senex.trader.plugins.module_utils.host import untrusted
from ansible_collections.senex.trader.plugins.module_utils.host.fileset import lock
from ansible_collections.senex.trader.plugins.module_utils.host.release_record import Ledger, LockHeld
from ansible_collections.senex.trader.plugins.module_utils.release import component_apply


def apply_concurrently(data: dict, payloads: list[str], start: str) -> dict:
    """Apply a component, and the others once its first instance is ready again, or at the same time."""
    with lock() as descriptor:
        others = component_apply.ConcurrentApply(payloads, descriptor)
        if start == "immediate":
            others.begin()
        try:
            result = component_apply.apply_or_error(data, concurrent=others)
            if "msg" not in result:
                others.begin()
        finally:
            trouble = others.wait()
    if trouble:
        result["msg"] = f"{result['msg']}\n{trouble}" if "msg" in result else trouble
    return {**result, "changed": result.get("changed", False) or others.changed, "plan": [*result.get("plan", []), *others.plan]}


def main() -> None:
    """Apply the payload and its concurrent components; fails with the error and the plan."""
    os.umask(0o022)  # the session of whoever runs it may have a stricter one, and others read what is made here
    module = AnsibleModule(
        {
            "payload": {"type": "str", "required": True, "no_log": True},
            "concurrent_components": {"type": "list", "elements": "str", "default": [], "no_log": True},
            "concurrent_start": {"type": "str", "choices": ["after_first_ready", "immediate"], "default": "after_first_ready"},
            "run": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    data = json.loads(base64.b64decode(module.params["payload"]))
    if module.check_mode:
        result = {"plan": [], **component_apply.apply_or_error(data, check=True)}
        if result.pop("host_not_prepared", False):
            module.exit_json(changed=data["state"] == "present", plan=[f"all of {result['msg']}"])
    else:
        try:
            with Ledger().working({} if data["deploy_lock"].get("id") else module.params["run"]) as done:
                data["deploy_lock"].setdefault("over", done["over"])
                result = apply_concurrently(data, module.params["concurrent_components"], module.params["concurrent_start"])
                done.update(changed=result["changed"], failed="msg" in result)
        except LockHeld as busy:
            module.exit_json(changed=False, busy=busy.holder, message=str(busy))
        except OSError as error:
            module.fail_json(msg=untrusted.lines(f"{data['component']}: {error}"), plan=[])
        result = {**result, "run_lock": done.get("run_lock", "")}
    if "msg" in result:
        held = {"busy": result["busy"]} if "busy" in result else {}
        module.fail_json(msg=untrusted.lines(result["msg"]), plan=result["plan"], **held)
    if not module._diff:  # the public way to ask is not there on core 2.18
        result.pop("diff", None)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
