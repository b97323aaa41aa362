"""The second half of a change: units restart in their order, and those that serve are drained meanwhile.

Whoever is to hear that a unit is ready again, such as the traffic probe of a release, hands over a function; nothing here knows of releases.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.senex.trader.plugins.module_utils.engine import unit_text
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_plan import START_UNCONFIRMED, answers
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_work import Work
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import CommandError
from ansible_collections.senex.trader.plugins.module_utils.nginx.nginx_upstream import UpstreamServers
from ansible_collections.senex.trader.plugins.module_utils.nginx.request_hold import LONGEST, RequestHold

# Unit, whether it was the only one in service, whether this is the way forward -> why the change must not go on
UnitReady = Callable[[dict, bool, bool], str]


def batches(units: list[dict]) -> list[list[dict]]:
    """Units in their order, those that may come up meanwhile with the one before them."""
    found: list[list[dict]] = []
    for unit in units:
        if found and unit.get("parallel_with_previous"):
            found[-1].append(unit)
        else:
            found.append([unit])
    return found


class RollingRestart:
    """The units of one component."""

    def __init__(self, work: Work, unit_ready: UnitReady | None = None):
        self.work, self.component, self.user, self.manifest = work, work.component, work.user, work.manifest
        self.unit_ready = unit_ready or (lambda unit, alone, forward: "")
        self.cut: list[dict] = []  # connections that did not end in time
        self.saving = threading.Lock()
        self.held: dict[str, tuple[contextlib.ExitStack, float]] = {}  # unit that did not come up -> requests that still wait for it, and since when

    def start_surge_unit(self, unit: dict) -> None:
        """Another unit does the work while this one restarts. It is up before anything stops."""
        name = unit.get("surge_unit")
        if name and unit["verb"] == "restart" and unit["name"] in self.work.plan.running:
            self.work.starts(name)
            self.user.systemctl("restart", name)  # rather than start: one that a killed run left may be of another release

    def stop_surge_units(self, names: list) -> None:
        """Stop surge units gracefully; none stays in the state failed."""
        for name in filter(None, names):
            self.user.systemctl("stop", name, check=False)
            self.user.systemctl("reset-failed", name, check=False)

    def start_batch(self, batch: list[dict]) -> None:
        """Start or restart units at the same time; raises the error of the first that failed when all have ended."""
        began = time.time()
        with ThreadPoolExecutor(max_workers=len(batch)) as pool:
            coming = [(unit, pool.submit(self.start_unit, unit)) for unit in batch]
        for unit, start in coming:
            if error := start.exception():
                self.work.unit, self.work.began = unit["name"], began
                raise error

    def start_unit(self, unit: dict) -> None:
        """Start or restart one unit, and note with what."""
        name, fingerprint = unit["name"], self.work.plan.fingerprints[unit["name"]]
        self._started(name, START_UNCONFIRMED + fingerprint)  # killed from here on, nobody knows with what the unit runs
        self.user.systemctl("reset-failed", name, check=False)
        self.restart_drained(unit, "restart" if unit["verb"] == "restart" else "start")
        self._started(name, fingerprint)
        if unit.get("surge_unit"):  # it may take minutes to finish its task, and nobody need wait for that
            self.user.systemctl("stop", "--no-block", unit["surge_unit"], check=False)

    def _started(self, name: str, fingerprint: str) -> None:
        with self.saving:
            self.manifest.started[name] = fingerprint
            self.manifest.save()

    def restart_drained(self, unit: dict, verb: str, started: bool = True) -> None:
        """Start or restart a unit, drained from before it stops until it is ready; what the application uses, while requests are held."""
        upstream = self.drain(unit)
        running = verb == "restart" and unit["name"] in self.work.plan.running
        with self._hold(unit, running) as hold:
            since = time.monotonic()
            try:
                self.user.systemctl(verb, unit["name"])
            except CommandError:
                if started:  # what ran before comes back in a moment, and whoever waits need not meet the gap
                    self.held[unit["name"]] = (hold.pop_all(), since)
                raise
        silent = answers(unit, patience=30, started=started)
        if silent:
            raise OSError(silent)
        upstream.restore()
        if complaint := self.unit_ready(unit, upstream.last_in_service, started):
            raise OSError(complaint)

    def _hold(self, unit: dict, running: bool) -> contextlib.ExitStack:
        """Requests that wait from now on; or still, for the same unit, where that leaves it the time to start."""
        hold, since = self.held.pop(unit["name"], (contextlib.ExitStack(), 0.0))
        if since and time.monotonic() - since < LONGEST / 2:
            return hold
        hold.close()
        hold = contextlib.ExitStack()
        hold.enter_context(RequestHold(unit.get("request_hold") if running else None, self.user.run))
        return hold

    def let_go(self) -> None:
        """Nobody waits any more for what did not come up."""
        for hold, _since in self.held.values():
            hold.close()
        self.held = {}

    def drain(self, unit: dict) -> UpstreamServers:
        """Take a unit out of its load balancer, and wait until what it serves has ended."""
        upstream = UpstreamServers(unit.get("load_balancer"))
        upstream.drain(lambda: self._run_pre_stop_hook(unit["load_balancer"].get("pre_stop_hook")))
        if upstream.cut:
            self.cut.append({"unit": unit["name"], "connections": upstream.cut})
        return upstream

    def removed_from_load_balancer(self) -> dict[str, dict]:
        """Units that the component no longer has and that still serve: name -> load balancer entry."""
        return {name: entry for name in self.work.plan.stop if (entry := self._load_balancer_of_removed(name))}

    def stop_drained(self, name: str, load_balancer: dict) -> None:
        """Stop a unit that the component no longer has, once nobody is served by it."""
        self.work.starts(name)
        turn = self.drain({"name": name, "load_balancer": load_balancer})
        if turn.last_in_service and turn.others():
            raise OSError(f"{', '.join(turn.others())} answer nothing, so it is needed")
        self.user.systemctl("stop", name)
        self.user.systemctl("reset-failed", name, check=False)

    def _load_balancer_of_removed(self, name: str) -> dict | None:
        """The load balancer entry of a unit that the component no longer has: as its fellows', at the address that its old file publishes."""
        fellow = next((unit for unit in self.component.units if unit.get("load_balancer")), None)
        old = [change.before for change in self.work.plan.changes if change.after is None and unit_text.service_of(os.path.basename(change.path)) == name]
        if not fellow or not old:
            return None
        server = next(iter(unit_text.values(old[0].decode(errors="replace"), "Container", "PublishPort")), "").rpartition(":")[0]
        stems = {fellow["name"].removesuffix(".service"): name.removesuffix(".service")}
        command = [stems.get(word, word) for word in fellow["load_balancer"].get("pre_stop_hook") or []]
        return {**fellow["load_balancer"], "server": server, "pre_stop_hook": command} if server else None

    def _run_pre_stop_hook(self, command: list | None) -> None:
        """Run the command in the background, while connections are waited for; the unit is stopped whatever becomes of it."""
        if command:
            threading.Thread(target=self.user.run, args=(command,), kwargs={"check": False, "timeout": 10}, daemon=True).start()
