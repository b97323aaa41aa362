"""Modules that are asked under the lock of an operation, of hosts that may stop answering."""

from __future__ import annotations

import contextlib

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.senex.trader.plugins.plugin_utils import controller


class AnsweringAction(ActionBase):
    """A host that does not answer has failed, as far as blocks and plays are concerned.

    Ansible's own word, unreachable, passes by every rescue and lets plays go on without the host: nobody would take back or tell of what it missed.
    """

    TRANSFERS_FILES = False
    _requires_connection = True

    def _execute_module(self, *given, task_vars=None, **named):
        try:
            return super()._execute_module(*given, task_vars=task_vars, **named)
        except AnsibleConnectionFailure as error:
            host = self._task.delegate_to or (task_vars or {}).get("inventory_hostname", "the host")
            said = f"{host} does not answer: {error}".strip()
            return {"failed": True, "changed": False, "silent": True, "msg": said, "rc": 255, "stdout": "", "stderr": said}

    def _remove_tmp_path(self, *given, **named):
        """What is left in the login user's own directory is no reason to take the host out of the run."""
        with contextlib.suppress(AnsibleConnectionFailure):
            super()._remove_tmp_path(*given, **named)

    def deploy_lock(self, given, task_vars: dict) -> dict:
        """The lock under which something is changed: the one that is named, or that this run has on the host."""
        lock = dict(given or {})
        held = controller.operation(task_vars)
        return lock if lock.get("id") or not held else {**lock, "id": held}

    def collection(self, task_vars: dict) -> dict:
        """The version that is about to change the host, whether it may be an older one, and the same of the vault."""
        names = ("senex_allow_downgrade", "__senex_vault_here")
        return controller.collection(*(self._templar.template(given) if isinstance(given := task_vars.get(name), str) else given for name in names))


class LockedAction(AnsweringAction):
    """The module of the same name, with the lock that this run has on the host."""

    def run(self, tmp=None, task_vars=None):
        """See the module."""
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        arguments["deploy_lock"] = self.deploy_lock(arguments.get("deploy_lock"), task_vars)
        return self._execute_module(module_name=f"senex.trader.{self.MODULE}", module_args=arguments, task_vars=task_vars)
