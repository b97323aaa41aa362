"""The moment of an upgrade: which data directory, with which files and which archive, is the one in production. And the way back from there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from ansible_collections.senex.trader.plugins.module_utils.host import kept_data, untrusted
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import CommandError, ServiceUser
from ansible_collections.senex.trader.plugins.module_utils.postgresql import facts as pg_facts
from ansible_collections.senex.trader.plugins.module_utils.postgresql import sequences, upgrade_state
from ansible_collections.senex.trader.plugins.module_utils.postgresql import server as pg_server
from ansible_collections.senex.trader.plugins.module_utils.postgresql.server import Server, Wanted
from ansible_collections.senex.trader.plugins.module_utils.postgresql.upgrade_state import State, major_of


class ClusterSwap:
    """Renames, and what has to be still meanwhile."""

    def __init__(self, user: ServiceUser, wanted: Wanted, state: State):
        self.user, self.wanted, self.state = user, wanted, state
        self.service = pg_server.service_of(user, wanted)

    def _pitr(self, *words: str) -> None:
        program = os.path.join(self.user.home, "bin/pitr")
        if untrusted.kind(program):
            self.user.run([program, *words], timeout=pg_server.NO_TIMEOUT)

    def _tell(self) -> None:
        """Which cluster is the one in production now: a start on an empty directory is refused by it, and another cluster by the engine."""
        if untrusted.kind(self.wanted.configuration) == "directory" and (there := kept_data.clusters([self.wanted.data])[self.wanted.data]):
            kept_data.tell(self.user, os.path.join(self.wanted.configuration, "cluster"), there)

    def _control(self, data: str) -> str:
        """Of the file that a server writes before it serves: another value than before means that one ran on this directory. Empty where it is not known."""
        done = self.user.podman("unshare", "sha256sum", "--", os.path.join(data, "global/pg_control"), check=False)
        return done.stdout.split()[0] if done.returncode == 0 and done.stdout.strip() else ""

    def _ran(self) -> bool:
        """Whether a server may have run on the cluster that an upgrade has put in place."""
        known = self.state.data.get("control")
        return not known or self._control(self.wanted.data) != known

    def describe(self, files: dict, facts: dict) -> dict:
        """The cluster in production, as it is remembered once another has taken its place."""
        major, stamp = major_of(self.wanted.data), time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        name = f"{major}-{stamp}"
        place = {"data": f"{self.wanted.data}.{name}", "archive": name}
        image = self.service.inspect("{{.ImageName}}")
        if not image:
            raise OSError("the server in production has no container, so its image is not known: start it, and run the same command again")
        return {"major": major, "image": image, **place, "files": files, "facts": facts, "at": time.time()}

    def swap_in(self, current: dict, comes: str, returns: str = "", still: Callable[[], None] = lambda: None) -> None:
        """Put the cluster in production aside, and another in its place. `returns` is the name of the archive that comes with it.

        `still` is called last before the server stops, and raises an error when what was copied of it is not what it holds.
        """
        self.state.put(phase="exchanging", pending=current, comes=comes, returns=returns or None, control=self._control(comes) or None)
        self._pitr("set-aside", current["archive"], "--image", current["image"])
        still()
        self.service.swap_data(self.wanted.data, comes, current["data"])
        self._tell()

    def roll_back(self) -> None:
        """What served before serves again. A new cluster that no server ran on goes; one on which one did is kept aside, a kept one returns to its place."""
        state, wanted = self.state, self.wanted
        pg_server.remove(self.user)
        pending = state.data.get("pending")
        if state.phase == "exchanging" and pending:
            self.service.stop(check=False)
            if untrusted.kind(pending["data"]) == "directory":
                there = untrusted.kind(wanted.data) == "directory"
                self.service.swap_data(wanted.data, pending["data"], self._place_of_new() if there else "", check=False)
                self._tell()
            upgrade_state.put_back(self.user, pending["files"])
            self._pitr("take-back", pending["archive"], *(["--instead-of", state.data["returns"]] if state.data.get("returns") else []))
        elif state.data.get("files"):
            upgrade_state.put_back(self.user, state.data["files"])
        self.service.start(after_failure=True)
        if state.data.get("files"):
            Server(self.user, wanted).rows("select pg_reload_conf()")
        pg_server.discard(self.user, wanted, *(state.data[name] for name in ("making", "dumps") if name in state.data))
        state.put(phase=None, pending=None, comes=None, returns=None, control=None, making=None, dumps=None, files=None)

    def whereabouts(self) -> str:
        """Which cluster is in place, and where the other lies, in the middle of an exchange; empty where none has begun. By what is on the disk."""
        pending, data, comes = self.state.data.get("pending"), self.wanted.data, self.state.data.get("comes")
        if self.state.phase != "exchanging" or not pending:
            return ""
        if untrusted.kind(pending["data"]) != "directory":
            return f"In place ({data}) is the cluster from before (PostgreSQL {pending['major']}); the other one lies in {comes}"
        before = f"the cluster from before (PostgreSQL {pending['major']}) lies in {pending['data']}"
        if untrusted.kind(data) == "directory":
            return f"In place ({data}) is the other cluster, and {before}"
        return f"Nothing is in place ({data}): {before}, the other one in {comes}"

    def _place_of_new(self) -> str:
        """Where the cluster goes that was put in place. Somebody may have written to it where a server ran, so that is kept, and remembered."""
        state, data = self.state, self.wanted.data
        if state.data.get("returns") or not self._ran():
            return state.data["comes"]
        place = f"{data}.{state.data.get('to', 'new')}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
        state.put(aside=[*state.data.get("aside", []), place])
        return place

    def is_committed(self) -> bool:
        """Whether the new version was up when a run ended in the middle of the exchange. Then it goes forward: what was written since is there alone."""
        state = self.state
        if state.phase != "exchanging" or state.data.get("returns") or major_of(self.wanted.data) != state.data.get("to"):
            return False
        running = self.service.inspect("{{.Image}} {{.State.Running}}")
        image = self.user.image_ids([state.data["image"]]).get(state.data["image"])
        return running == f"{image} true" or (bool(state.data.get("control")) and self._ran())

    def commit(self) -> dict:
        """The new cluster serves: from here on a run goes forward only, and the other one is what the way back leads to."""
        if self.state.phase == "exchanging":
            returned = bool(self.state.data.get("returns")) or None
            self.state.put(phase="finishing", kept=self.state.data["pending"], returned=returned,
                           pending=None, comes=None, returns=None, control=None, making=None, files=None)  # fmt: skip
            pg_server.discard(self.user, self.wanted, *([self.state.data["dumps"]] if "dumps" in self.state.data else []))
            self.state.put(dumps=None)
        return {name: self.state.kept.get(name) for name in ("major", "data", "archive")}

    def revert(self, jobs: int) -> dict:
        """The cluster from before the upgrade serves again, when it is found to hold what it held then. Its sequences go on where they had come to since."""
        kept, began = self.state.kept, time.monotonic()
        server = Server(self.user, self.wanted)
        handed_out = self._handed_out(server)
        current = self.describe(upgrade_state.snapshot(self.user), pg_facts.facts(server))
        try:
            self.swap_in(current, kept["data"], kept["archive"])
            upgrade_state.put_back(self.user, kept["files"])
            self._pitr("take-back", kept["archive"])
            self.service.start()
            server = Server(self.user, self.wanted)  # another cluster, and perhaps another superuser
            found = pg_facts.facts(server)
            wrong = pg_facts.differences(kept["facts"], found)
            if wrong:
                raise OSError(f"{kept['data']} is not what it was when it was kept: {'; '.join(wrong[:10])}")
            pg_facts.amcheck(server, jobs)
        except (CommandError, OSError):
            self.roll_back()
            raise
        raised = self._go_on(server, handed_out)
        return {"checked": f"{pg_facts.summary(found)}; {raised}", "seconds": round(time.monotonic() - began, 1)}

    @staticmethod
    def _handed_out(server: Server) -> dict[str, dict]:
        """By database: where its sequences stand."""
        return {name: sequences.held(server.rows(sequences.HELD, name)) for name in server.databases()}

    def _go_on(self, server: Server, before: dict[str, dict]) -> str:
        """Numbers that were handed out since are not handed out again: what is outside of the database may know rows by them. In a sentence."""
        count = 0
        try:
            for name, there in self._handed_out(server).items():
                if numbers := sequences.raised(before.get(name, {}), there):
                    server.rows(sequences.script(numbers), name)
                    count += len(numbers)
        except (CommandError, OSError) as error:
            return f"its sequences are as they were, and numbers will be handed out again: {error}"
        return f"sequences raised beyond what was handed out since: {count}" if count else "no sequence had handed out more since"
