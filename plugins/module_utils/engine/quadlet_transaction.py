"""One component of the service user brought to its wanted state, or back to what it was."""

from __future__ import annotations

from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_install import Installation
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_plan import Component
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_restart import RollingRestart, UnitReady, batches
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_rollback import Rollback
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_work import Work
from ansible_collections.senex.trader.plugins.module_utils.host import kept_data
from ansible_collections.senex.trader.plugins.module_utils.host.fileset import Manifest
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import CommandError, ServiceUser
from ansible_collections.senex.trader.plugins.module_utils.nginx.nginx_upstream import UpstreamServers


class Transaction:
    """Plan, validate, pull, install, restart in order; put back when a unit does not come up."""

    def __init__(
        self,
        component: Component,
        user: ServiceUser,
        present: bool,
        manifest: Manifest | None = None,
        concurrent=None,
        still=lambda: None,
        unit_ready: UnitReady | None = None,
    ):
        self.concurrent = concurrent  # components that start when the first unit with a load balancer is ready again
        self.still = still  # an error when the lock under which this is done was lost
        self.work = Work(component, user, present, manifest)
        self.installation = Installation(self.work)
        self.restart = RollingRestart(self.work, unit_ready)

    def run(self, check: bool) -> dict:
        """Apply the component. In check mode: only tell."""
        work, installation = self.work, self.installation
        if not work.present and not work.manifest.found:
            return {"changed": False, "plan": [], "diff": []}
        self._look()
        answer = {
            "changed": not work.plan.empty,
            "plan": work.plan.sentences(),
            "diff": [change.diff() for change in work.plan.changes],
        }
        out = self._still_drained()
        if out:
            answer.update(changed=True, plan=[*answer["plan"], *(f"put {name} back in service" for name in out)])
        if not work.plan.empty and work.plan.reload:
            installation.validate()
        if check:
            return answer
        for upstream in out.values():
            upstream.restore()
        kept_data.let_begin(installation.data, work.user)
        if not work.plan.empty:
            self._apply()
        installation.save_manifest(final=True)
        kept_data.remember(work.component.name, installation.data, work.user, installation.notes)
        return {**answer, "cut": self.restart.cut} if self.restart.cut else answer

    def whole(self) -> bool:
        """Whether the component is as wanted, with nothing to be done."""
        self._look()
        unnoted = kept_data.news(self.work.component.name, self.installation.data, self.installation.notes)  # by the call for the component
        return self.work.manifest.found and self.work.plan.empty and not self._still_drained() and not unnoted

    def _look(self) -> None:
        self.work.user.check_manager()
        self.installation.check_preconditions()
        self.work.look()

    def _still_drained(self) -> dict[str, UpstreamServers]:
        """Units that need nothing, and that a killed run left drained."""
        acting = [unit["name"] for unit in self.work.plan.act]
        serving = [unit for unit in self.work.component.units if unit.get("load_balancer") and unit["name"] not in acting]
        upstreams = {unit["name"]: UpstreamServers(unit["load_balancer"]) for unit in serving}
        return {name: upstream for name, upstream in upstreams.items() if upstream.drained()}

    def _apply(self) -> None:
        work, user = self.work, self.work.user
        self.installation.check_seccomp()
        self.installation.pull()
        self.installation.save_manifest(final=False)
        plan = work.plan
        done: list[dict] = []
        try:
            for item in plan.directories:
                user.make_directory(item["path"], int(item.get("mode", "0755"), 8), item.get("container_user"), item.get("container_group"))
            leaving = self.restart.removed_from_load_balancer()
            for name in plan.stop:
                if name not in work.surge_units and name not in leaving:
                    user.systemctl("stop", name)
            self._check_lock()
            self.installation.write()
            for batch in batches(plan.act):
                self._check_lock()
                for unit in batch:
                    self.restart.start_surge_unit(unit)
                    done.append(unit)
                self.restart.start_batch(batch)
                if self.concurrent and any(unit.get("load_balancer") for unit in batch):
                    self.concurrent.begin()
            for name, load_balancer in leaving.items():  # last, when those that stay are all in service
                self._check_lock()
                self.restart.stop_drained(name, load_balancer)
        except (CommandError, OSError) as error:
            Rollback(work, self.installation, self.restart).run(done, error, self.concurrent)
        self.restart.stop_surge_units([name for name in plan.stop if name in work.surge_units])

    def _check_lock(self) -> None:
        self.work.starts("")
        self.still()
