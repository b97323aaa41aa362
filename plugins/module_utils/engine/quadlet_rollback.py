"""The way back of a change that failed: files, secrets and tags of images return, and what was touched runs as before."""

from __future__ import annotations

from ansible_collections.senex.trader.plugins.module_utils.engine import unit_text
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_install import Installation
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_restart import RollingRestart
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_work import Work
from ansible_collections.senex.trader.plugins.module_utils.host import fileset, image_origin
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import CommandError, journal
from ansible_collections.senex.trader.plugins.module_utils.nginx.nginx_upstream import UpstreamServers


class Rollback:
    """One trouble on the way does not end it."""

    def __init__(self, work: Work, installation: Installation, restart: RollingRestart):
        self.work, self.installation, self.restart = work, installation, restart
        self.troubles: list[str] = []

    def run(self, done: list[dict], error: Exception, concurrent=None) -> None:
        """Undo what was done of the plan, and fail with what went wrong. `done` has the units that were touched."""
        work, failed = self.work, self.work.unit
        reason = f"{failed} did not come up" if failed else "the new state could not be installed"
        logs = f"\nLast lines of {failed}:\n{journal(failed, work.user.uid, work.began)}" if failed else ""
        if concurrent and (trouble := concurrent.wait()):  # it reads some of the files that go back now
            reason += f" (and {trouble})"
        if failed:
            work.user.systemctl("stop", failed, check=False)
        # Killed from here on, nobody knows what each of them runs with
        touched = {failed, *(unit["name"] for unit in done)}
        work.manifest.started = {name: value for name, value in work.manifest.started.items() if name not in touched}
        self._attempt(work.manifest.settle)
        self._files()
        back, dead = self._units(done)
        self.restart.let_go()
        if self.troubles:  # the next run has to know of everything that may lie here
            work.manifest.started = work.before.started
        self._attempt(work.manifest.settle if self.troubles else work.before.settle if work.before.found else work.before.delete)
        image = f"\n{told}" if failed and (told := self._image(failed)) else ""  # the registry is asked, which nothing is to wait for
        work.fail(f"{reason}: {error}\n{self._said(back, dead)}.{image}{logs}")

    def _image(self, unit: str) -> str:
        """What the unit that failed was to run."""
        texts = {unit_text.service_of(item.path.rpartition("/")[2]): item.content for item in self.work.component.files}
        image = unit_text.image(texts.get(unit, b"").decode(errors="replace"))
        return image_origin.sentence(self.work.user, image) if image else ""

    def _attempt(self, action, *arguments) -> None:
        try:
            action(*arguments)
        except (CommandError, OSError) as trouble:
            self.troubles.append(str(trouble))

    def _files(self) -> None:
        """Files, secrets and tags of images as they were."""
        work, changes = self.work, self.work.plan.changes
        for reference, image in work.component.images.items():  # also those that an earlier component of this change has moved
            self._attempt(work.user.podman, "tag", image["previous"], reference)
        self._attempt(self.installation.enable, [change for change in changes if change.before is None], lambda change: change.before)
        self._attempt(work.user.writes, fileset.put_back, changes)
        for name in work.plan.secrets:
            self._attempt(work.user.set_secret, name, work.plan.old_secrets.get(name))
        work.user.systemctl("daemon-reload", check=False)
        self._attempt(self.installation.enable, [change for change in changes if change.before is not None], lambda change: change.before)

    def _units(self, done: list[dict]) -> tuple[list[str], list[str]]:
        """Units as they ran: those that do again, and those that do not."""
        work, back, dead = self.work, [], []
        touched = [unit for unit in done if unit.get("run_once_key") is None]
        if touched and touched[-1].get("load_balancer"):  # the one that is drained first, so that the others can be drained in turn
            touched = [touched[-1], *touched[:-1]]
        for unit in [*({"name": name} for name in work.plan.stop if name not in work.surge_units), *touched]:
            name = unit["name"]
            work.user.systemctl("reset-failed", name, check=False)
            if name not in work.before.units and name not in work.plan.running:
                work.user.systemctl("stop", name, check=False)
                continue
            try:
                self.restart.restart_drained(unit, "restart", started=False)
                back.append(name)
            except CommandError:
                dead.append(name)
            except OSError as silent:
                self.troubles.append(str(silent))
        for unit in done:
            self._attempt(lambda unit=unit: UpstreamServers(unit.get("load_balancer")).restore())
        self.restart.stop_surge_units(work.surge_units)
        return back, dead

    def _said(self, back: list[str], dead: list[str]) -> str:
        said = "The files from before are back" + (f", running again: {', '.join(back)}" if back else "")
        if self.troubles:
            said = f"Not all is back as it was ({'; '.join(self.troubles)})" + (f"; running again: {', '.join(back)}" if back else "")
        return said + (f"; NOT running: {', '.join(dead)}" if dead else "")
