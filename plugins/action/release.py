"""Controller side of senex.trader.release: says who releases, waits for a lock, knows whether another release of this controller is dead, brings
image archives, and renders the unit that a script's container is like."""

from __future__ import annotations

import time

from ansible.utils.display import Display
from ansible_collections.senex.trader.plugins.plugin_utils import controller, image_archive
from ansible_collections.senex.trader.plugins.plugin_utils.rendering import RenderingAction

LOOKS, TELLS = 5, 30  # seconds between two looks at a lock that is waited for, and between two lines about it


def knowing(result: dict, operation: dict) -> dict:
    """With the lock that this run has on the host from now on, for whatever it changes there (plugin_utils/controller.py)."""
    return result if result.get("failed") else {**result, "ansible_facts": {"senex_operation": operation}}


class ActionModule(RenderingAction):
    """Adds the identity to `begin`, waits, takes a dead holder's lock over; copies an archive to a host that does not have its image; renders a unit."""

    def run(self, tmp=None, task_vars=None):
        """See plugins/modules/release.py."""
        super().run(tmp, task_vars)
        self.task_vars = task_vars
        arguments = dict(self._task.args)
        archive, wait = str(arguments.pop("archive", "") or ""), float(arguments.pop("wait", 0) or 0)
        if container := dict(arguments.get("container") or {}):
            arguments["container"] = {**container, "unit": self.of_role("django", "release.container.j2", task_vars, django_image=container["image"])}
        if not archive:
            match arguments.get("step"):
                case "begin":
                    return self._begin(arguments, wait)
                case "finish":
                    return knowing(self._ask(arguments), {})
            return self._ask(arguments)
        try:
            wanted = image_archive.describe(archive)
        except (image_archive.Unusable, OSError) as error:
            return {"failed": True, "changed": False, "msg": f"senex_image_from: {error}"}
        begun = {"changed": False}
        if arguments.get("step") == "begin":
            begun = self._begin({**arguments, "image": ""}, wait)
        if begun.get("failed") or not arguments.get("image"):
            return begun
        loaded = self._load({name: arguments.get(name) for name in ("id", "image", "user", "home") if arguments.get(name)}, archive, wanted)
        return {**begun, **loaded, "changed": begun["changed"] or bool(loaded.get("changed"))}

    def _ask(self, arguments: dict) -> dict:
        return self._execute_module(module_name="senex.trader.release", module_args=arguments, task_vars=self.task_vars)

    def _begin(self, arguments: dict, wait: float) -> dict:
        lease = float(arguments.pop("lease", 0) or 0)
        arguments["identity"] = {**controller.identity(), **({"lease": lease} if lease else {})}
        arguments["collection"] = self.collection(self.task_vars)
        host, give_up, tell_at = self.task_vars["inventory_hostname"], time.monotonic() + wait, 0.0
        while True:
            result = self._ask(arguments)
            holder = result.get("busy")
            if not holder:
                if dead := result.get("taken_over"):
                    Display().display(f"{host}: {dead['what']} by {dead['who']} ended at '{dead['step']}' without a word; this run goes on after it")
                return knowing(result, {"id": arguments.get("id", ""), "run": controller.run_name()})
            if controller.dead(holder) and arguments.get("take_over") != holder["id"]:
                arguments["take_over"] = holder["id"]
                continue
            left = give_up - time.monotonic()
            if left <= 0:
                waited = f" Waited {wait:.0f} s (release_lock_wait)." if wait else ""
                return {"failed": True, "changed": False, "busy": holder, "msg": f"{host}: {result['message']}{waited}"}
            if time.monotonic() >= tell_at:
                Display().display(f"{host}: {result['message'].partition('. ')[0]}; waiting for another {left:.0f} s")
                tell_at = time.monotonic() + TELLS
            time.sleep(min(LOOKS, left))

    def _load(self, arguments: dict, archive: str, wanted: dict) -> dict:
        """The image, copied where it is missing: the host compares the copy's checksum, and the image that comes of it, with the archive's."""
        asked = {**arguments, "step": "load", "wanted": wanted}
        result = self._ask(asked)
        if not result.get("missing"):
            return result
        Display().display(f"{self.task_vars['inventory_hostname']}: copying {wanted['bytes'] / 1e6:.0f} MB of {archive}")
        directory = self._make_tmp_path()
        try:
            return self._ask({**asked, "source": self._transfer_file(archive, self._connection._shell.join_path(directory, "image.tar"))})
        finally:
            self._remove_tmp_path(directory)
