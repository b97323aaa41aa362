"""Controller side of the engine: a role's templates rendered with the collection's own on the search path."""

from __future__ import annotations

import base64
import json
import os

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

try:
    from ansible.template import trust_as_template
except ImportError:  # core 2.18 trusts every template

    def trust_as_template(text):
        """Nothing to mark."""
        return text


TEMPLATES = os.path.normpath(os.path.join(os.path.dirname(__file__), "..", "..", "templates"))
FILE_KEYS = {"src", "dest", "content", "mode", "secret", "vars", "when", "owner", "group", "notify"}


class RenderingAction(ActionBase):
    """Renders `files`, then makes one module call with everything in it."""

    TRANSFERS_FILES = False
    _requires_connection = True

    def rendered(self, files: list, task_vars: dict) -> list[dict]:
        """Each entry of `files` with its text, its destination and its mode; entries whose `when` is false are left out."""
        return [self._one(item, task_vars) for item in files or [] if boolean(item.get("when", True), strict=False)]

    def _one(self, item: dict, task_vars: dict) -> dict:
        unknown = set(item) - FILE_KEYS
        if unknown:
            raise AnsibleActionFail(f"files: unknown key {', '.join(sorted(unknown))} in {item.get('dest') or item.get('src')}")
        if ("src" in item) == ("content" in item):
            raise AnsibleActionFail(f"files: {item.get('dest')} needs either src (a template) or content")
        dest = item.get("dest") or os.path.basename(item["src"]).removesuffix(".j2")
        if "src" not in item:
            text = item["content"]
        elif item["src"].endswith(".j2"):
            text = self._render(item["src"], {**task_vars, **item.get("vars", {})})
        else:
            text = self._loader.get_text_file_contents(self._find("files", item["src"]))
            text = text[0] if isinstance(text, tuple) else text
        secret = boolean(item.get("secret", False), strict=False)
        return {
            "dest": dest,
            "content": base64.b64encode(str(text).encode()).decode(),
            "mode": str(item.get("mode", "0600" if secret else "0644")),
            "secret": secret,
            "owner": item.get("owner", "root"),
            "group": item.get("group", "root"),
            "notify": item.get("notify", []),
        }

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
        text = self._loader.get_text_file_contents(path)
        text = text[0] if isinstance(text, tuple) else text
        templar = self._templar.copy_with_new_env(searchpath=search, available_variables={**variables, "template_path": name})
        try:
            result = templar.template(
                trust_as_template(text), escape_backslashes=False, overrides={"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
            )
        except AnsibleError as error:
            raise AnsibleActionFail(f"{name}: {error}") from error
        return "" if result is None else str(result)

    def call(self, module: str, data: dict, task_vars: dict) -> dict:
        """One module call; the data travels as one opaque value that no log shows."""
        payload = base64.b64encode(json.dumps(data, ensure_ascii=False).encode()).decode()
        result = self._execute_module(module_name=f"senex.trader.{module}", module_args={"payload": payload}, task_vars=task_vars)
        result.pop("invocation", None)
        return result
