"""The first half of a change: what is wanted is checked by the host's own tools, its images are pulled, its files and secrets written.

Nothing that runs is touched here.
"""

from __future__ import annotations

import os
import re

from ansible_collections.senex.trader.plugins.module_utils.engine import quadlet_check, unit_text
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_plan import QUADLET_DIRECTORY, UNIT_DIRECTORY, is_unit, secret_key
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_work import ApplyError, Work
from ansible_collections.senex.trader.plugins.module_utils.host import confined, data_directory, field_key, fileset, kept_data, untrusted


class Installation:
    """Files, secrets and images of one component."""

    def __init__(self, work: Work):
        self.work, self.component, self.user, self.manifest = work, work.component, work.user, work.manifest
        self.data = kept_data.of_component(work.component.directories)
        self.notes = os.path.dirname(work.manifest.path)

    def check_preconditions(self) -> None:
        """Data on the host that the wanted state would not fit (a database of another major version) stops everything."""
        # First: an empty mount point is nothing to be removed
        if reason := kept_data.trouble(self.component.name, self.data, self.notes):
            raise ApplyError(f"{self.component.name}: {reason}", [])
        preconditions = [precondition for precondition in self.component.preconditions if "keeps" not in precondition]
        for precondition in (precondition for precondition in self.component.preconditions if "keeps" in precondition):
            self._check_kept_value(precondition)
        there = untrusted.read([precondition["file"] for precondition in preconditions])
        if reason := data_directory.trouble(*(path for path, answer in there.items() if "content" not in answer)):
            raise ApplyError(f"{self.component.name}: {reason}", [])
        for path, answer in there.items():
            if trouble := untrusted.problem(answer):
                raise trouble
            content = answer.get("content")
            for precondition in preconditions if content is not None else []:
                found = content.decode(errors="replace").strip()
                if precondition["file"] == path and found != str(precondition["content"]):
                    # Whoever owns the directory may have put anything there: what is no version goes into no message
                    shown = found if re.fullmatch(r"\d[\w.]{0,19}", found, re.ASCII) else "(something else than a version)"
                    raise ApplyError(f"{self.component.name}: {precondition['message'].replace('FOUND', shown)}", [])

    def _check_kept_value(self, precondition: dict) -> None:
        """The first of the values that a variable is to have is one of those that it has here: what writes from now on can be read by who reads now."""
        path, name = precondition["file"], precondition["keeps"]
        wanted = next((item.content for item in self.component.files if item.path == path), b"")
        coming = field_key.values_of(wanted, name)  # none: playbooks/validate.yml has refused it where the key is gone; here the file may be what goes
        if coming and field_key.is_another(path, name, coming):
            raise ApplyError(f"{self.component.name}: {precondition['message']}", [])

    def validate(self) -> None:
        """The whole set of units that would lie on the host goes through the host's own checkers."""
        units = {}
        going = {change.path for change in self.work.plan.changes if change.after is None}
        patterns = [os.path.join(self.user.home, directory, "*") for directory in (QUADLET_DIRECTORY, UNIT_DIRECTORY)]
        for path, answer in untrusted.matching(patterns, follow=True).items():
            name = os.path.basename(path)
            if path in patterns and (trouble := untrusted.problem(answer)):
                raise trouble
            if name.endswith(unit_text.QUADLET_SUFFIXES + unit_text.SYSTEMD_SUFFIXES) and path not in going and "content" in answer:
                units[name] = answer["content"].decode(errors="replace")
        units.update(self.component.unit_texts())
        found = quadlet_check.problems(self.user, units, self.user.podman_version())
        if found:
            self.work.fail("a unit was refused by this host's own checks, nothing was changed:\n  " + "\n  ".join(found))

    def check_seccomp(self) -> None:
        """Podman would say it of each container when the old one is gone; a release that comes before site.yml does not know of the file.

        Programs that start containers themselves would meet it in a backup or a restore. They have confined.py beside them.
        """
        named = {path for text in self.component.unit_texts().values() for path in unit_text.seccomp_profiles(text)}
        if any(os.path.basename(item.path) == "confined.py" for item in self.component.files):
            named.add(confined.SECCOMP)
        missing = [path for path in sorted(named) if untrusted.kind(path, follow=False) != "file"]
        if missing:
            self.work.fail(f"{', '.join(missing)} is not there, nothing was changed: role podman brings it (site.yml --tags podman)")

    def pull(self) -> None:
        """Bring the images that are not here."""
        plan, user = self.work.plan, self.user
        for reference in plan.pull:
            result = user.podman("pull", "--quiet", reference, check=False, timeout=1800)
            if result.returncode:
                self.work.fail(user.cannot_pull(self.component.image_input, reference, result.stderr))
        if plan.pull:  # the images' ids are part of the fingerprints
            self.work.look()

    def write(self) -> None:
        """Install files and secrets; what systemd reads, it has read."""
        plan, changes = self.work.plan, self.work.plan.changes
        for reference, image in plan.tags.items():
            self.user.podman("tag", image, reference)
        self.enable([change for change in changes if change.after is None], lambda change: change.after)
        self.user.writes(fileset.install, changes)
        for name, value in plan.secrets.items():
            self.user.set_secret(name, value)
        if plan.unmask:
            self.user.systemctl("unmask", *plan.unmask)
            self.user.systemctl("unmask", "--runtime", *plan.unmask)
        if plan.reload or plan.unmask:
            self.user.systemctl("daemon-reload")
        for name in plan.enable:
            self.user.systemctl("reenable", name)
        written = self.component.files if plan.resumed else [item for item in self.component.files if item.path in {change.path for change in changes}]
        self.enable(written, lambda item: item.content)
        for unit in plan.stop:  # a failed unit would be remembered after its file is gone
            self.user.systemctl("reset-failed", unit, check=False)

    def enable(self, items: list, content) -> None:
        """Plain units with an [Install] section start at boot; Quadlet's own are linked by the generator."""
        for item in items:
            if not is_unit(item.path) or not os.path.dirname(item.path).endswith(UNIT_DIRECTORY):
                continue
            text = content(item)
            if text is None:
                self.user.systemctl("disable", os.path.basename(item.path), check=False)
            elif b"[Install]" in text:
                self.user.systemctl("reenable", os.path.basename(item.path))

    def save_manifest(self, final: bool) -> None:
        """Before the change the manifest holds old and new, so that a killed run leaves nothing unknown."""
        paths = [item.path for item in self.component.files]
        # A surge unit is in the manifest and not wanted: one that runs after a killed run is stopped by the next
        names = [*(unit["name"] for unit in self.component.units), *self.work.surge_units]
        if final and not self.work.present:
            self.manifest.delete()
            return
        keep = [] if final else self.manifest.files
        self.manifest.files = sorted({*paths, *keep})
        self.manifest.secrets = sorted({*self.component.secrets, *([] if final else self.manifest.secrets)})
        self.manifest.units = list(dict.fromkeys([*names, *([] if final else self.manifest.units)]))
        self.manifest.unfinished = not final
        self.manifest.repairs = self.work.plan.repairs
        if final:
            mine = {*paths, *(secret_key(name) for name in self.component.secrets)}
            self.manifest.repairs = {name: count for name, count in self.work.plan.repairs.items() if name in mine}
            self.manifest.written = {item.path: fileset.as_written(item.content, (item.mode, item.uid, item.gid)) for item in self.component.files}
            self.manifest.written.update({secret_key(name): fileset.digest(value) for name, value in self.component.secrets.items()})
            self.manifest.started = {name: value for name, value in self.manifest.started.items() if name in names}
        self.manifest.save()
