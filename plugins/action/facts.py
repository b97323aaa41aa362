"""Controller side of senex.trader.facts: whether the host is free for this run to change."""

from __future__ import annotations

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.senex.trader.plugins.module_utils.host.release_record import same_run
from ansible_collections.senex.trader.plugins.plugin_utils import controller
from ansible_collections.senex.trader.plugins.plugin_utils.components import left_behind

# What goes with a component that is moved
MOVED = {"postgresql": ("postgresql", "pitr"), "redis": ("redis", "redis-cache")}


class ActionModule(ActionBase):
    """Ends a run that would change what an operation is at; the lock itself is taken with the first change."""

    def run(self, tmp=None, task_vars=None):
        """See plugins/modules/facts.py."""
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if "downgrade" in arguments:
            arguments["collection"] = controller.collection(arguments.pop("downgrade"), arguments.pop("vault", None))
        result = self._ask(arguments, task_vars)
        if result.get("refused"):
            return {"failed": True, "changed": False, "msg": f"{task_vars['inventory_hostname']}: {result['refused']}. Nothing was changed."}
        if not boolean(arguments.get("exclusive", False)) or self._task.check_mode or result.get("failed") or result.get("unreachable"):
            return result
        holder = result.get("holder")
        if holder and not boolean(arguments.get("take_over", False)):
            host = task_vars["inventory_hostname"]
            if not controller.dead(holder) and not same_run(holder, controller.identity()):
                return {"failed": True, "changed": False, "busy": holder, "msg": f"{host}: {result['message']}. Nothing was changed."}
            Display().display(f"{host}: {holder['what']} by {holder['who']} ended at '{holder['step']}' without a word; this run goes on after it")
            result = self._ask({**arguments, "take_over": True}, task_vars)
        own = {**controller.own_lock(), "takes": True, "after": result.get("after", ""), **({"take_over": holder["id"]} if holder else {})}
        return {**result, "run": own}

    def _ask(self, arguments: dict, task_vars: dict) -> dict:
        result = self._execute_module(module_name="senex.trader.facts", module_args=arguments, task_vars=task_vars)
        # What has moved to another host neither runs here nor takes memory
        moves = result.get("moves") or {}
        moved = [part for name, parts in MOVED.items() if moves.get(name, {}).get("phase") == "moved" for part in parts]
        installed = [name for name in result.get("installed") or [] if name not in moved]
        if boolean(arguments.get("components", True)) and (left := left_behind(installed, task_vars.get("group_names", []))):
            result["warnings"] = [*result.get("warnings", []), f"{task_vars['inventory_hostname']} {left}"]
        return result
