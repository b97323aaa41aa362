"""Controller side of senex.trader.redis_move: a host that does not answer is a failure, and the lock is the playbook's or the run's."""

from __future__ import annotations

from ansible_collections.senex.trader.plugins.plugin_utils.answering import AnsweringAction


class ActionModule(AnsweringAction):
    """See plugins/modules/redis_move.py."""

    def run(self, tmp=None, task_vars=None):
        """See the module."""
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        arguments["id"] = arguments.get("id") or self.deploy_lock({}, task_vars or {}).get("id", "")
        return self._execute_module(module_name="senex.trader.redis_move", module_args=arguments, task_vars=task_vars)
