"""What the action plugin of the check of images hands over, without a run of Ansible."""

import base64
import json
from unittest import mock

from ansible.plugins.action import ActionBase
from ansible_collections.senex.trader.plugins.action import check_image
from rendered import ROLES, action, variables

IMAGE = "registry.acme.io/team/shop:2026.11.1"


def handed_over(arguments=None, **inputs):
    """The arguments of the module, and its payload as `wanted`. Inputs are those of an inventory; what roles have by default the plugin reads itself."""
    inputs = {"senex_django_settings_module": "shop.settings.production", **inputs}
    given = variables("django", **inputs)
    given = {name: value for name, value in given.items() if name in inputs or not name.startswith(("__", "senex_", "django_"))}
    plugin = action(check_image.ActionModule, {"image": IMAGE, **(arguments or {})}, given, ROLES / "django")
    plugin._find_needle = lambda _directory, name: name
    seen = {}
    plugin._execute_module = lambda **call: seen.update(call["module_args"]) or {}
    with mock.patch.object(ActionBase, "run"):
        plugin.run(task_vars=given)
    return {**seen, "wanted": json.loads(base64.b64decode(seen["payload"]))}
