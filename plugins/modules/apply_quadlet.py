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
    description: The part as JSON in base64, so that no secret shows in an invocation and nothing short is masked elsewhere.
    type: str
    required: true
author: [senex.trader maintainers (@senex-trader)]
"""
EXAMPLES = r"""
- name: Never by itself
  senex.trader.quadlet:
    part: example
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
import contextlib
import json

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.senex.trader.plugins.module_utils.fileset import lock
from ansible_collections.senex.trader.plugins.module_utils.payload import is_kept, keep, quadlet_part
from ansible_collections.senex.trader.plugins.module_utils.quadlet_transaction import Refused, Transaction
from ansible_collections.senex.trader.plugins.module_utils.release_record import Ledger
from ansible_collections.senex.trader.plugins.module_utils.service_user import CommandError, ServiceUser


def run_inside(user: ServiceUser, wanted: dict) -> list[str]:
    """Run a script in a container, by standard input, which no process list shows; what it says that it changed."""
    result = user.podman("exec", "--interactive", wanted["container"], "sh", "-s", stdin=wanted["script"], check=False)
    if result.returncode:
        said = result.stderr.strip()
        for word in wanted["redact"]:
            said = said.replace(word, "********")
        raise Refused(f"{wanted['trouble']}: {said}", [])
    return [line.removeprefix("changed: ") for line in result.stdout.splitlines() if line.startswith("changed: ")]


def main() -> None:
    """Read the payload, apply it, answer."""
    module = AnsibleModule({"payload": {"type": "str", "required": True, "no_log": True}}, supports_check_mode=True)
    data = json.loads(base64.b64decode(module.params["payload"]))
    try:
        user = ServiceUser(data["user"], data["home"])
        part = quadlet_part(data, user, module.check_mode)
        if data["lease"]:
            Ledger().renew(data["lease"]["id"], data["lease"]["at"], data["lease"].get("about"))
        with contextlib.nullcontext() if module.check_mode else lock():
            transaction = Transaction(part, user, present=data["state"] == "present")
            result = transaction.run(check=module.check_mode)
            wanted = "inside" in data and not (data["inside"]["once"] and not result["changed"] and is_kept(data))
            made = run_inside(user, data["inside"]) if wanted and not module.check_mode else []
            if not module.check_mode:
                keep(data)
            result.update(changed=result["changed"] or bool(made), plan=[*result["plan"], *(f"change {what}" for what in made)])
    except Refused as error:
        module.fail_json(msg=str(error), plan=error.plan)
    except LookupError as error:
        if module.check_mode:  # a bare host: the roles before this one have not made the user yet
            module.exit_json(changed=data["state"] == "present", plan=[f"all of {data['part']}: {error}"])
        module.fail_json(msg=f"{data['part']}: {error}")
    except (CommandError, OSError) as error:
        module.fail_json(msg=f"{data['part']}: {error}")
    if not module._diff:  # the public way to ask is not there on core 2.18
        result.pop("diff", None)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
