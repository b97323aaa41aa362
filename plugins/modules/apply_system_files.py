#!/usr/bin/python
"""Host side of senex.trader.system_files."""

from __future__ import annotations

DOCUMENTATION = r"""
module: apply_system_files
short_description: Host side of M(senex.trader.system_files)
description:
  - Called by the action plugin of M(senex.trader.system_files) with everything rendered; not for playbooks.
options:
  payload:
    description: The component as JSON in base64, so that no secret shows in an invocation and nothing short is masked elsewhere.
    type: str
    required: true
  run:
    description: Who asks, and whether it takes the host's lock for itself; filled in by the action plugin.
    type: dict
    default: {}
author: [senex.trader maintainers (@senex-trader)]
"""
EXAMPLES = r"""
- name: Never by itself
  senex.trader.system_files:
    component: example
"""
RETURN = r"""
plan:
  description: What was done, or would be done in check mode, a line each.
  returned: always
  type: list
  elements: str
"""

import base64
import contextlib
import json
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.senex.trader.plugins.module_utils.engine.payload import save_applied, system_component
from ansible_collections.senex.trader.plugins.module_utils.engine.system_transaction import ApplyError, SystemTransaction
from ansible_collections.senex.trader.plugins.module_utils.host import untrusted
from ansible_collections.senex.trader.plugins.module_utils.host.fileset import lock
from ansible_collections.senex.trader.plugins.module_utils.host.release_record import Ledger, LockHeld


def main() -> None:
    """Apply the payload; fails with the error and the plan."""
    os.umask(0o022)  # the session of whoever runs it may have a stricter one, and others read what is made here
    module = AnsibleModule({"payload": {"type": "str", "required": True, "no_log": True}, "run": {"type": "dict", "default": {}}}, supports_check_mode=True)
    data = json.loads(base64.b64decode(module.params["payload"]))
    try:
        deploy_lock = data.get("deploy_lock") or {}
        with Ledger().working({} if module.check_mode or deploy_lock.get("id") else module.params["run"]) as done, contextlib.ExitStack() as held:
            if not module.check_mode:
                held.enter_context(lock())
                held.enter_context(Ledger().changing({**deploy_lock, "over": done["over"]}))
            transaction = SystemTransaction(system_component(data, module.check_mode), present=data["state"] == "present")
            result = transaction.run(check=module.check_mode)
            if not module.check_mode:
                save_applied(data)
            done["changed"] = result["changed"]
    except LockHeld as busy:
        module.exit_json(changed=False, busy=busy.holder, message=str(busy))
    except ApplyError as error:
        module.fail_json(msg=untrusted.lines(error), plan=error.plan)
    except (LookupError, OSError) as error:
        module.fail_json(msg=untrusted.lines(f"{data['component']}: {error}"))
    if not module._diff:  # the public way to ask is not there on core 2.18
        result.pop("diff", None)
    module.exit_json(**result, run_lock=done.get("run_lock", ""))


if __name__ == "__main__":
    main()
