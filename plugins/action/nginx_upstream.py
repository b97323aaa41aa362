"""Controller side of senex.trader.nginx_upstream: hands over the lock that this run has."""

from __future__ import annotations

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.senex.trader.plugins.plugin_utils.answering import LockedAction


class ActionModule(LockedAction):
    """See plugins/modules/nginx_upstream.py."""

    MODULE = "nginx_upstream"

    def run(self, tmp=None, task_vars=None):
        """A host that may be lost is told of, and passed over."""
        result = super().run(tmp, task_vars)
        if not result.get("silent") or not boolean(self._task.args.get("host_may_be_lost", False)):
            return result
        return {"changed": False, "drained": [], "cut": 0, "warnings": [f"its nginx was not told, and tries another server where one fails: {result['msg']}"]}
