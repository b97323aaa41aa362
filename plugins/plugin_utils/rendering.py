"""Controller side of the engine: a role's templates rendered with the collection's own on the search path."""

from __future__ import annotations

import base64
import json
import os
import re

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.senex.trader.plugins.lookup.unfit_inputs import beneath
from ansible_collections.senex.trader.plugins.module_utils.engine.payload import digest, is_cacheable
from ansible_collections.senex.trader.plugins.plugin_utils import controller
from ansible_collections.senex.trader.plugins.plugin_utils.answering import AnsweringAction

try:
    from ansible.template import trust_as_template
except ImportError:  # core 2.18 trusts every template

    def trust_as_template(text):
        """Nothing to mark."""
        return text


ROLES = os.path.normpath(os.path.join(os.path.dirname(__file__), "..", "..", "roles"))
TEMPLATES = os.path.normpath(os.path.join(os.path.dirname(__file__), "..", "..", "templates"))
KEYS = {
    "files": {"src", "dest", "content", "mode", "secret", "vars", "when", "owner", "group", "notify", "block_at"},
    "directories": {"path", "mode", "owner", "group", "container_user", "container_group", "data"},
    "secrets": {"name", "value", "file", "no_restart_on_change"},
    "units": {"name", "run_once_key", "readiness_probe", "load_balancer", "surge_unit", "parallel_with_previous", "traffic_gate", "request_hold"},
    "preconditions": {"file", "content", "keeps", "message"},
}


def known(kind: str, items: list | None) -> list[dict]:
    """Entries of one argument, each with no key that would be passed over in silence."""
    for item in items or []:
        unknown = set(item) - KEYS[kind]
        if unknown:
            label = item.get("dest") or item.get("src") or item.get("path") or item.get("name") or item.get("file")
            raise AnsibleActionFail(f"{kind}: unknown key {', '.join(sorted(unknown))} in {label}; known are {', '.join(sorted(KEYS[kind]))}")
        mode = item.get("mode", "0644")
        if not re.fullmatch(r"0?[0-7]{3}|0?[0-7]{4}", mode if isinstance(mode, str) else ""):
            raise AnsibleActionFail(f'{kind}: mode {mode} of {item.get("dest") or item.get("src") or item.get("path")} must be text such as "0644"')
    return list(items or [])


def wanted(item: dict) -> bool:
    """Whether `when` lets an entry in; what is neither yes nor no is an error."""
    try:
        value = item.get("when", True)
        return boolean(value.strip() if isinstance(value, str) else value)
    except TypeError as error:
        raise AnsibleActionFail(f"files: when of {item.get('dest') or item.get('src')} is neither true nor false: {item['when']}") from error


def packed(data: dict) -> str:
    """A component as one opaque word."""
    return base64.b64encode(json.dumps(data, ensure_ascii=False).encode()).decode()


class RenderingAction(AnsweringAction):
    """Renders `files`, then makes one module call with everything in it."""

    def asked(self, allowed: set[str], required: set[str]) -> tuple[dict, bool]:
        """The arguments of the task, and whether its component is to be there."""
        name, arguments = type(self).__module__.rpartition(".")[2], self._task.args
        if unknown := set(arguments) - allowed:
            raise AnsibleActionFail(f"{name}: unknown argument {', '.join(sorted(unknown))}")
        if missing := required - set(arguments):
            raise AnsibleActionFail(f"{name}: {', '.join(sorted(missing))} is required")
        state = arguments.get("state", "present")
        if state not in ("present", "absent"):
            raise AnsibleActionFail(f"{name}: state must be present or absent, not '{state}'")
        return arguments, state == "present"

    def rendered(self, files: list, task_vars: dict) -> list[dict]:
        """Each entry of `files` with its text, its destination and its mode; entries whose `when` is false are left out."""
        found = [self._one(item, task_vars) for item in known("files", files) if wanted(item)]
        twice = sorted({item["dest"] for item in found if sum(other["dest"] == item["dest"] for other in found) > 1})
        if twice:
            raise AnsibleActionFail(f"files: {', '.join(twice)} is there twice; each dest needs its own name")
        return found

    def _one(self, item: dict, task_vars: dict) -> dict:
        if ("src" in item) == ("content" in item):
            raise AnsibleActionFail(f"files: {item.get('dest')} needs either src (a template) or content")
        dest = item.get("dest") or os.path.basename(item["src"]).removesuffix(".j2")
        if "src" not in item:
            content = str(item["content"]).encode()
        elif item["src"].endswith(".j2"):
            content = self._render(item["src"], {**task_vars, **item.get("vars", {})}).encode()
        else:
            content = self._bytes(self._find("files", item["src"]))
        secret = boolean(item.get("secret", False), strict=False)
        return {
            "dest": dest,
            "content": base64.b64encode(content).decode(),
            "mode": str(item.get("mode", "0600" if secret else "0644")),
            "secret": secret,
            "owner": item.get("owner", "root"),
            "group": item.get("group", "root"),
            "notify": item.get("notify", []),
            **({"block_at": item["block_at"]} if "block_at" in item else {}),
        }

    def _bytes(self, path: str) -> bytes:
        """A file of the controller, decrypted where it is vaulted."""
        plain = self._loader.get_real_file(path)
        try:
            with open(plain, "rb") as handle:
                return handle.read()
        finally:
            self._loader.cleanup_tmp_file(plain)

    def _find(self, kind: str, name: str) -> str:
        try:
            return self._find_needle(kind, name)
        except AnsibleError:
            shared = os.path.join(TEMPLATES, name)
            if os.path.exists(shared):
                return shared
            raise

    def _render(self, name: str, variables: dict) -> str:
        path = self._find("templates", name)
        search = [os.path.dirname(path), TEMPLATES]
        for directory in variables.get("ansible_search_path", []):
            search += [os.path.join(directory, "templates"), directory]
        text = self._bytes(path).decode()
        templar = self._templar.copy_with_new_env(searchpath=search, available_variables={**variables, "template_path": name})
        try:
            result = templar.template(
                trust_as_template(text), escape_backslashes=False, overrides={"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
            )
        except AnsibleError as error:
            raise AnsibleActionFail(f"{name}: {error}") from error
        return "" if result is None else str(result)

    def of_role(self, role: str, template: str, task_vars: dict, **more) -> str:
        """A template of a role that the play does not have now, with the role's own variables where the inventory says nothing."""
        own = beneath((role,))
        defaults = {name: value for name, value in own.items() if not name.startswith("__")}
        internal = {name: value for name, value in own.items() if name.startswith("__")}
        return self._render(os.path.join(ROLES, role, "templates", template), {**defaults, **task_vars, **internal, **more})

    def call(self, module: str, data: dict, task_vars: dict, **options) -> dict:
        """One module call; the data travels as one opaque value that no log shows.

        None is made where the play's look at the host (the registered `senex_host_snapshot` of senex.trader.facts) has found the component to be
        just what is handed over here, and the engine has changed nothing on the host since.
        """
        text = json.dumps(data, ensure_ascii=False)
        look = task_vars.get("senex_host_snapshot") or {}
        still = look.get("id") and task_vars.get("ansible_facts", {}).get("senex_components_changed") != look["id"]
        plain = not data["deploy_lock"] and not data.get("images")
        if still and plain and is_cacheable(data) and look["unchanged"].get(data["component"]) == digest(json.loads(text)):
            return {"changed": False, "plan": []}
        run = {} if data["deploy_lock"].get("id") else {**controller.identity(), "collection": self.collection(task_vars), **(look.get("run") or {})}
        result = self._handed_over(module, data, run, task_vars, options)
        holder = result.get("busy")
        if holder and run and (controller.dead(holder) or boolean(task_vars.get("release_take_over", False), strict=False)):
            # Nobody waits for it any more
            result = self._handed_over(module, data, {**run, "take_over": holder["id"]}, task_vars, options)
        if result.get("busy") and "message" in result:
            return {"failed": True, "changed": False, "msg": f"{task_vars['inventory_hostname']}: {data['component']}: {result['message']}"}
        facts = {"senex_components_changed": look["id"]} if look.get("id") and (result.get("changed") or result.get("failed")) else {}
        if run_lock := result.pop("run_lock", ""):
            facts["senex_run_lock"] = run_lock
        if facts:
            result["ansible_facts"] = facts
        return result

    def _handed_over(self, module: str, data: dict, run: dict, task_vars: dict, options: dict) -> dict:
        given = {"payload": packed(data), **options, "run": run}
        result = self._execute_module(module_name=f"senex.trader.{module}", module_args=given, task_vars=task_vars)
        result.pop("invocation", None)
        return result
