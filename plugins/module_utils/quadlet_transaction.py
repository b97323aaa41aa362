"""One part of the service user brought to its wanted state, or back to what it was."""

from __future__ import annotations

import copy
import os
import re
import time

from ansible_collections.senex.trader.plugins.module_utils import fileset, quadlet_check, unit_text
from ansible_collections.senex.trader.plugins.module_utils.fileset import Manifest
from ansible_collections.senex.trader.plugins.module_utils.quadlet_plan import QUADLET_DIRECTORY, UNIT_DIRECTORY, Part, answers, is_unit, make_plan
from ansible_collections.senex.trader.plugins.module_utils.rotation import Rotation
from ansible_collections.senex.trader.plugins.module_utils.service_user import CommandError, ServiceUser, journal


class Refused(Exception):
    """The wanted state could not be reached. What ran before goes on running."""

    def __init__(self, message: str, plan: list[str]):
        super().__init__(message)
        self.plan = plan


SECRET_NAME = re.compile(r"PASS|SECRET|KEY|TOKEN|AUTH|CREDENTIAL|DSN|URL|BACKEND", re.IGNORECASE)


def secret_words(part: Part) -> set[str]:
    """What no message may hold: values of secrets, and in secret files the lines and what variables of a secret's name are set to."""
    words = set(part.secrets.values())
    for item in part.files:
        if item.secret:
            lines = item.content.decode(errors="replace").splitlines()
            words.update(line for line in lines if "=" in line or ":" in line)
            pairs = [line.split("=", 1) for line in lines if "=" in line]
            words.update(value.strip("\"' ") for name, value in pairs if SECRET_NAME.search(name))
    return {word.strip() for word in words if len(word.strip()) >= 8}


class Transaction:
    """Plan, validate, pull, install, restart in order; put back when a unit does not come up."""

    def __init__(self, part: Part, user: ServiceUser, present: bool, manifest: Manifest | None = None):
        self.part = part if present else Part(part.name)
        self.user, self.present = user, present
        self.manifest = manifest or Manifest(part.name)
        self.before = copy.deepcopy(self.manifest)
        self.redact = sorted(secret_words(part), key=len, reverse=True)

    def run(self, check: bool) -> dict:
        """Apply the part. In check mode: only tell."""
        if not self.present and not self.manifest.found:
            return {"changed": False, "plan": [], "diff": []}
        self.user.check_manager()
        self._guard()
        self.plan = make_plan(self.part, self.manifest, self.user)
        answer = {
            "changed": not self.plan.empty,
            "plan": self.plan.sentences(),
            "diff": [change.diff() for change in self.plan.changes],
        }
        if not self.plan.empty and self.plan.reload:
            self._validate()
        if check:
            return answer
        if not self.plan.empty:
            self._apply()
        self._remember(final=True)
        return answer

    def _refuse(self, message: str) -> None:
        for value in self.redact:
            message = message.replace(value, "********")
        raise Refused(f"{self.part.name}: {message}", self.plan.sentences())

    def _guard(self) -> None:
        """Data on the host that the wanted state would not fit (a database of another major version) stops everything."""
        for guard in self.part.guards:
            content, _owner = fileset.read(guard["file"])
            found = None if content is None else content.decode(errors="replace").strip()[:40]
            if found is not None and found != str(guard["content"]):
                raise Refused(f"{self.part.name}: {guard['message'].replace('FOUND', found)}", [])

    def _validate(self) -> None:
        """The whole set of units that would lie on the host goes through the host's own checkers."""
        units = {}
        going = {change.path for change in self.plan.changes if change.after is None}
        with self.user.acting():
            for directory in (QUADLET_DIRECTORY, UNIT_DIRECTORY):
                base = os.path.join(self.user.home, directory)
                for name in sorted(os.listdir(base)) if os.path.isdir(base) else []:
                    path = os.path.join(base, name)
                    if name.endswith(unit_text.QUADLET_SUFFIXES + unit_text.SYSTEMD_SUFFIXES) and path not in going and os.path.isfile(path):
                        with open(path, encoding="utf-8", errors="replace") as handle:
                            units[name] = handle.read()
        units.update(self.part.unit_texts())
        found = quadlet_check.problems(self.user, units, self.user.podman_version())
        if found:
            self._refuse("a unit was refused by this host's own checks, nothing was changed:\n  " + "\n  ".join(found))

    def _apply(self) -> None:
        plan, user = self.plan, self.user
        for reference in plan.pull:
            result = user.podman("pull", "--quiet", reference, check=False, timeout=1800)
            if result.returncode:
                name = f"{self.part.image_input}: " if self.part.image_input else ""
                self._refuse(
                    f"{name}the image {reference} cannot be pulled, nothing was changed or stopped; "
                    f"name one that the registry has and senex_registry_login may read. Podman said: {result.stderr.strip()}"
                )
        if plan.pull:  # the images' ids are part of the fingerprints
            self.plan = plan = make_plan(self.part, self.manifest, user)
        self._remember(final=False)
        done: list[dict] = []
        began = time.time()
        try:
            for item in plan.directories:
                user.make_directory(item["path"], int(item.get("mode", "0755"), 8), item.get("container_user"), item.get("container_group"))
            for unit in plan.stop:
                user.systemctl("stop", unit)
            self._write(plan.changes, plan.secrets)
            for unit in plan.act:
                done.append(unit)
                began = time.time()
                self._bring_up(unit)
        except (CommandError, OSError) as error:
            self._put_back(done, error, began)

    def _write(self, changes: list, secrets: dict) -> None:
        self._enable([change for change in changes if change.after is None], lambda change: change.after)
        with self.user.acting():
            fileset.install(changes)
        for name, value in secrets.items():
            self.user.set_secret(name, value)
        if self.plan.reload:
            self.user.systemctl("daemon-reload")
        written = self.part.files if self.plan.resumed else [item for item in self.part.files if item.path in {change.path for change in changes}]
        self._enable(written, lambda item: item.content)
        for unit in self.plan.stop:  # a failed unit would be remembered after its file is gone
            self.user.systemctl("reset-failed", unit, check=False)

    def _enable(self, items: list, content) -> None:
        """Plain units with an [Install] section start at boot; Quadlet's own are linked by the generator."""
        for item in items:
            if not is_unit(item.path) or not os.path.dirname(item.path).endswith(UNIT_DIRECTORY):
                continue
            text = content(item)
            if text is None:
                self.user.systemctl("disable", os.path.basename(item.path), check=False)
            elif b"[Install]" in text:
                self.user.systemctl("reenable", os.path.basename(item.path))

    def _bring_up(self, unit: dict) -> None:
        self.user.systemctl("reset-failed", unit["name"], check=False)
        rotation = Rotation(unit.get("rotation"))
        rotation.leave()
        self.user.systemctl("restart" if unit["verb"] == "restart" else "start", unit["name"])
        silent = answers(unit, patience=30)
        if silent:
            raise OSError(silent)
        rotation.back()
        self.manifest.started[unit["name"]] = self.plan.fingerprints[unit["name"]]
        self.manifest.save()

    def _put_back(self, done: list[dict], error: Exception, began: float) -> None:
        """The old files and secrets return, and what was touched runs as before; one trouble on the way does not end it."""
        failed = done[-1]["name"] if done else None
        reason = f"{failed} did not come up" if failed else "the new state could not be installed"
        logs = f"\nLast lines of {failed}:\n{journal(failed, self.user.uid, began)}" if failed else ""
        troubles: list[str] = []

        def attempt(action, *arguments) -> None:
            try:
                action(*arguments)
            except (CommandError, OSError) as trouble:
                troubles.append(str(trouble))

        if failed:
            self.user.systemctl("stop", failed, check=False)
        self._enable([change for change in self.plan.changes if change.before is None], lambda change: change.before)
        with self.user.acting():
            attempt(fileset.put_back, self.plan.changes)
        for name in self.plan.secrets:
            attempt(self.user.set_secret, name, self.plan.old_secrets.get(name))
        self.user.systemctl("daemon-reload", check=False)
        attempt(self._enable, [change for change in self.plan.changes if change.before is not None], lambda change: change.before)
        back, dead = [], []
        for name in [*self.plan.stop, *(unit["name"] for unit in done if unit.get("run_once_key") is None)]:
            self.user.systemctl("reset-failed", name, check=False)
            if name not in self.before.units and name not in self.plan.running:
                self.user.systemctl("stop", name, check=False)
            elif self.user.systemctl("restart", name, check=False).returncode:
                dead.append(name)
            else:
                back.append(name)
        for unit in done:
            attempt(Rotation(unit.get("rotation")).back)
        if troubles:  # the next run has to know of everything that may lie here
            self.manifest.started = self.before.started
            self.manifest.save()
        elif self.before.found:
            self.before.save()
        else:
            self.before.delete()
        said = "The files from before are back" + (f", running again: {', '.join(back)}" if back else "")
        if troubles:
            said = f"Not all is back as it was ({'; '.join(troubles)})" + (f"; running again: {', '.join(back)}" if back else "")
        if dead:
            said += f"; NOT running: {', '.join(dead)}"
        self._refuse(f"{reason}: {error}\n{said}.{logs}")

    def _remember(self, final: bool) -> None:
        """Before the change the manifest holds old and new, so that a killed run leaves nothing unknown."""
        paths = [item.path for item in self.part.files]
        names = [unit["name"] for unit in self.part.units]
        if final and not self.present:
            self.manifest.delete()
            return
        keep = [] if final else self.manifest.files
        self.manifest.files = sorted({*paths, *keep})
        self.manifest.secrets = sorted({*self.part.secrets, *([] if final else self.manifest.secrets)})
        self.manifest.units = list(dict.fromkeys([*names, *([] if final else self.manifest.units)]))
        self.manifest.unfinished = not final
        if final:
            self.manifest.started = {name: value for name, value in self.manifest.started.items() if name in names}
        self.manifest.save()
