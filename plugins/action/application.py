"""Controller side of senex.trader.application: hands over the lock that this run has, and the names of the application's own processes."""

from __future__ import annotations

from ansible_collections.senex.trader.plugins.plugin_utils.answering import LockedAction


class ActionModule(LockedAction):
    """See plugins/modules/application.py."""

    MODULE = "application"

    def run(self, tmp=None, task_vars=None):
        """See the module."""
        if given := (task_vars or {}).get("senex_application_processes"):
            names = [str(one["name"]) for one in self._templar.template(given)]
            self._task.args = {"processes": names, **self._task.args}
        return super().run(tmp, task_vars)
