"""Controller side of senex.trader.quadlet."""

from __future__ import annotations

import os

from ansible.errors import AnsibleActionFail
from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_plan import QUADLET_DIRECTORY, UNIT_DIRECTORY
from ansible_collections.senex.trader.plugins.module_utils.engine.unit_text import QUADLET_SUFFIXES, SYSTEMD_SUFFIXES
from ansible_collections.senex.trader.plugins.plugin_utils.rendering import RenderingAction, known, packed

ARGUMENTS = {"component", "state", "user", "home", "files", "directories", "secrets", "units", "preconditions", "image_input", "deploy_lock"}
ARGUMENTS |= {"images", "post_start_exec", "render_only", "concurrent_components", "concurrent_start"}


def path_of(dest: str, home: str) -> str:
    """Where a file of the service user goes: units by their suffix, all else below the home."""
    if os.path.isabs(dest):
        return dest
    if "/" not in dest and dest.endswith(QUADLET_SUFFIXES):
        return os.path.join(home, QUADLET_DIRECTORY, dest)
    if "/" not in dest and dest.endswith(SYSTEMD_SUFFIXES):
        return os.path.join(home, UNIT_DIRECTORY, dest)
    return os.path.join(home, dest)


def directory_of(item: dict, home: str) -> dict:
    """A directory as the engine takes it, with whole paths."""
    data = dict(item.get("data") or {})
    if data.get("witness"):
        data["witness"] = path_of(data["witness"], home)
    return {**item, "path": path_of(item["path"], home), **({"data": {**data, "new": boolean(data.get("new", False))}} if data else {})}


class ActionModule(RenderingAction):
    """Render one component and hand it to the host in one call."""

    def run(self, tmp=None, task_vars=None):
        """See the documentation of senex.trader.quadlet."""
        super().run(tmp, task_vars)
        arguments, present = self.asked(ARGUMENTS, {"component", "user", "home"})
        home = arguments["home"].rstrip("/")
        files = self.rendered(arguments.get("files"), task_vars) if present else []
        for item in files:
            item["path"] = path_of(item["dest"], home)
        directories = [directory_of(item, home) for item in (known("directories", arguments.get("directories")) if present else [])]
        data = {
            "component": arguments["component"],
            "image_input": arguments.get("image_input", ""),
            "state": "present" if present else "absent",
            "user": arguments["user"],
            "home": home,
            "files": files,
            "directories": directories,
            "secrets": known("secrets", arguments.get("secrets")) if present else [],
            "units": known("units", arguments.get("units")) if present else [],
            "deploy_lock": self.deploy_lock(arguments.get("deploy_lock"), task_vars),
            "preconditions": [
                {**item, "file": path_of(item["file"], home)} for item in (known("preconditions", arguments.get("preconditions")) if present else [])
            ],
        }
        if present and arguments.get("images"):
            data["images"] = {str(name): {key: str(one[key]) for key in ("id", "previous")} for name, one in arguments["images"].items()}
        if present and arguments.get("post_start_exec"):
            data["post_start_exec"] = self._post_start(dict(arguments["post_start_exec"]), task_vars)
        if boolean(arguments.get("render_only", False)):
            return {"changed": False, "rendered_component": packed(data), "_ansible_no_log": True}
        concurrent, start = list(arguments.get("concurrent_components") or []), arguments.get("concurrent_start", "after_first_ready")
        more = {"concurrent_components": concurrent, "concurrent_start": start} if concurrent else {}
        return self.call("apply_quadlet", data, task_vars, **more)

    def _post_start(self, wanted: dict, task_vars: dict) -> dict:
        """The script that is run in a container when its unit is up."""
        if set(wanted) - {"only_on_change"} != {"container", "src", "error_prefix", "redact"}:
            raise AnsibleActionFail("quadlet: post_start_exec has container, src, error_prefix and redact, and may have only_on_change")
        return {"only_on_change": False, **wanted, "script": self._render(wanted.pop("src"), task_vars)}
