"""Controller side of senex.trader.fail_on_problems, which is all of it."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Fail with what was found. The list is templated once: ansible.builtin.assert templates its message too where nothing is wrong."""

    _requires_connection = False
    _supports_check_mode = True
    _VALID_ARGS = frozenset(("problems", "heading"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """See the module."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        problems, heading = self._task.args.get("problems"), self._task.args.get("heading")
        if not isinstance(problems, list):
            raise AnsibleActionFail("fail_on_problems: problems is a list of lines")
        if problems:
            result |= {"failed": True, "msg": "\n".join([str(heading)] * bool(heading) + [str(line) for line in problems])}
        return result | {"changed": False}
