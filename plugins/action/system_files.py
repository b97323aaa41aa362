"""Controller side of senex.trader.system_files."""

from __future__ import annotations

from ansible.errors import AnsibleActionFail
from ansible_collections.senex.trader.plugins.plugin_utils.rendering import RenderingAction, known

ARGUMENTS = {"component", "state", "files", "directories", "absent", "checks", "handlers", "units"}


class ActionModule(RenderingAction):
    """Render a set of system files and hand it to the host in one call."""

    def run(self, tmp=None, task_vars=None):
        """See the documentation of senex.trader.system_files."""
        super().run(tmp, task_vars)
        arguments, present = self.asked(ARGUMENTS, {"component"})
        files = self.rendered(arguments.get("files"), task_vars) if present else []
        handlers = dict(arguments.get("handlers") or {})
        for item in files:
            item["path"] = item["dest"]
            if not item["path"].startswith("/"):
                raise AnsibleActionFail(f"system_files: dest must be an absolute path, not '{item['path']}'")
            unheard = set(item["notify"]) - set(handlers)
            if unheard:
                raise AnsibleActionFail(f"system_files: {item['path']} notifies {', '.join(sorted(unheard))}, which is no handler")
        data = {
            "component": arguments["component"],
            "state": "present" if present else "absent",
            "files": files,
            "directories": known("directories", arguments.get("directories")) if present else [],
            "absent": list(arguments.get("absent") or []) if present else [],
            "checks": [[str(word) for word in argv] for argv in arguments.get("checks") or []],
            "handlers": handlers,
            "units": list(arguments.get("units") or []) if present else [],
            "deploy_lock": self.deploy_lock(None, task_vars),
        }
        return self.call("apply_system_files", data, task_vars)
