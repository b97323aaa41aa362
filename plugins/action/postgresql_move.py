"""Controller side of senex.trader.postgresql_move: a host that does not answer is a failure."""

from __future__ import annotations

from ansible_collections.senex.trader.plugins.plugin_utils.answering import AnsweringAction


class ActionModule(AnsweringAction):
    """See plugins/modules/postgresql_move.py, which has the id of its lock from the playbook."""

    def run(self, tmp=None, task_vars=None):
        """See the module."""
        super().run(tmp, task_vars)
        return self._execute_module(module_name="senex.trader.postgresql_move", module_args=dict(self._task.args), task_vars=task_vars)
