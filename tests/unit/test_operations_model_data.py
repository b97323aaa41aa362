"""Restores, upgrades and rotations over several hosts, at each stage and host, with each thing that can happen there (see test_operations_model.py)."""

import copy
import itertools

import pytest
import yaml
from ansible_collections.senex.trader.plugins.filter import operations, rotation
from ansible_collections.senex.trader.plugins.plugin_utils.components import component_groups
from controller import ROOT
from hosts_model import GROUPS, KINDS, Killed, World, attempt, cases, one_boot  # noqa: F401  (a fixture)
from patterns import plays


class Exchange(World):
    def __init__(self, way, playbook, *given):
        super().__init__(*given)
        self.way, self.playbook = way, playbook
        self.running, self.rested, self.exchanged, self.prepared = set(self.application), set(), False, False

    def theirs(self):
        self.running, self.prepared = set(self.application), False

    def run(self, identifier, take_over=""):
        told = {host: {"confirmed": [], "failure": ""} for host in self.hosts}
        unlocked, tried, serving = set(), set(), [one["stage"] for one in self.way]
        order = ["lock"]
        for play in plays(self.playbook):
            stage = play.get("vars", {}).get("operation_stage")
            order += [stage] if stage in serving else []
        assert set(order) | {"serves"} >= set(serving), "each stage has its play"
        hosts = {one["stage"]: one["hosts"] for one in self.way}
        done = []
        for stage in [stage for stage in order if stage in hosts]:
            if stage in done:  # two plays of one stage, of which one is
                continue
            if stage != serving[len(done)]:
                continue
            done.append(stage)
            for host in [host for host in hosts[stage] if host not in self.dropped]:
                if not operations.operation_troubles(self.way, told, stage, host):
                    tried |= {host} if stage == "rests" else set()
                    if attempt(told, host, lambda stage=stage, host=host: self.ask(host, stage, self.work(identifier, stage, host, take_over))):
                        told[host]["confirmed"].append(stage)
            if stage == "switch" and self.prepared and not self.exchanged:  # a copy that is not used goes
                for host in hosts[stage]:
                    if host not in self.dropped and "lock" in told[host]["confirmed"]:
                        attempt(told, host, lambda host=host: self.ask(host, "undo", lambda: self.changed(host, identifier, "undo", self.undo)))
        for host in self.application:
            if host in tried and host not in self.dropped:
                work = self.work(identifier, "serves", host, "")
                if attempt(told, host, lambda host=host, work=work: self.ask(host, "serves", work)):
                    told[host]["confirmed"].append("serves")
        for host in hosts["lock"]:
            if host not in self.dropped and attempt(told, host, lambda host=host: self.ask(host, "finish", lambda: self.end(host, identifier)), "left"):
                unlocked.add(host)
        standing = [f"{host}: not started again" for host in tried if "serves" not in told[host]["confirmed"] and not told[host]["failure"]]
        left = [f"{host}: locked" for host in hosts["lock"] if host not in unlocked]
        return operations.operation_troubles(self.way, told), standing + left

    def undo(self):
        self.prepared = False

    def work(self, identifier, stage, host, take_over):
        def rests():
            self.running.discard(host)
            self.rested.add(host)

        def serves():
            self.running.add(host)
            self.rested.discard(host)

        def switch():
            assert not self.running, "exchanged below what runs"
            self.exchanged = True

        changes = {"rests": rests, "serves": serves, "switch": switch, "prepare": lambda: setattr(self, "prepared", True), "queue": lambda: None}
        if stage == "lock":
            return lambda: self.begin(host, identifier, take_over)
        return lambda: self.changed(host, identifier, stage, changes[stage])


EXCHANGES = {
    "dump": ("restore", lambda groups: operations.restore_way(groups, "postgresql_primary")),
    "latest": ("restore", lambda groups: operations.restore_way(groups, "postgresql_primary", rests_first=True)),
    "queue": ("restore", lambda groups: operations.restore_way(groups, "postgresql_primary", queue=True)),
    "media": ("restore", lambda groups: operations.restore_way(groups, "web")),
    "upgrade": ("upgrade_postgresql", lambda groups: operations.upgrade_way(groups, "forward")),
    "way back": ("upgrade_postgresql", lambda groups: operations.upgrade_way(groups, "back")),
}


@pytest.mark.parametrize("name", EXCHANGES)
def test_what_stops_serves_again(name):
    playbook, way_of = EXCHANGES[name]
    seen = 0
    for inventory, event in cases(way_of, ["lock", "prepare", "rests", "switch", "queue", "serves", "finish"]):
        seen += 1
        case = f"{name}, {inventory}: {event}"
        groups = GROUPS[inventory]
        world = Exchange(way_of(groups), playbook, groups, event)
        killed = False
        try:
            trouble, rest = world.run("mine")
        except Killed:
            killed, trouble, rest = True, [], []
        if world.late:
            assert world.running == set(world.application), f"{case}: the other one's application was stopped"
            assert event[0] in ("lock", "switch", "queue", "serves", "finish") or not world.exchanged, case
            continue
        if not killed:
            gone = world.lost | ({event[1]} if event[0] == "serves" and event[2] in ("failed", "lost once") else set())
            assert set(world.application) - world.running <= gone, f"{case}: {world.running} run"
            for host in set(world.application) - world.running:
                assert any(line.startswith(host) for line in trouble + rest), f"{case}: {host} stands, and is not named in {trouble + rest}"
            assert set(world.locked()) <= gone | ({event[1]} if event[0] == "finish" else set()), case
            assert world.exchanged or trouble, case
            if event[2] == "ok" or world.overtaken:
                assert world.exchanged and not trouble and not rest, f"{case}: {trouble} {rest}"
        world.event, world.lost, world.dropped, world.exchanged = None, set(), set(), False
        trouble, rest = world.run("next", "mine")
        assert (trouble, rest) == ([], []) and world.exchanged and world.running == set(world.application) and world.locked() == [], case
    assert seen > 100


CATALOGUE = yaml.safe_load((ROOT / "playbooks/vars/rotation.yml").read_text())["rotation_catalogue_of_collection"]


PARTS = component_groups()


ROTATED = {name: {**groups, "backup": groups["postgresql"], "watchdog": groups["nginx"]} for name, groups in GROUPS.items()}


class Rotation(World):
    """One secret. A server takes values, which is what it refuses in the end; clients present one."""

    def __init__(self, name, *given):
        super().__init__(*given)
        self.name, self.vault = name, {CATALOGUE[name]["vault"]: "old"}
        components = [component for stage in CATALOGUE[name]["stages"].values() for component in stage]
        self.state = {(host, component): {"takes": {"old"}, "presents": "old"} for component in components for host in self.of(*PARTS[component])}

    def theirs(self):
        pass

    def known(self):
        entry = (self.vault.get("vault_rotation") or {}).get(self.name, {})
        return {self.vault[CATALOGUE[self.name]["vault"]], entry.get("other")} - {None}

    def apply(self, host, component, stage):
        """What a role makes of the vault as it is now."""
        value, entry = self.vault[CATALOGUE[self.name]["vault"]], (self.vault.get("vault_rotation") or {}).get(self.name, {})
        both = {value, entry["other"]} if entry and stage != "refuse" else {value}
        # Whoever is not touched any more presents the new one from the first stage on
        new = stage == "accept" and component not in CATALOGUE[self.name]["stages"]["use"]
        serves = component in CATALOGUE[self.name]["stages"].get("refuse", [])
        self.state[host, component] = {"takes": both if serves else set(), "presents": entry["other"] if new else value}

    def run(self, identifier, take_over=""):
        marks = {host: [] for host in self.hosts}
        failures = {}
        wanted = rotation.rotation_begins(self.groups, PARTS)
        for host in self.hosts:
            if self.step(failures, host, "lock", lambda host=host: self.begin(host, identifier, take_over)):
                marks[host] += ["begin answers", "begin lock"]
        for stage in ("accept", "use", "refuse", "done"):
            now = {"names": [], "components": []}
            if not failures and not rotation.rotation_unconfirmed(wanted, marks):
                edits = rotation.rotation_step(self.vault, CATALOGUE, [self.name], stage, "now", {self.name: "new"})
                self.vault = {name: value for name, value in {**self.vault, **edits}.items() if value is not None}
                names = rotation.rotation_at(self.vault, [self.name], stage)
                now = {"names": names, "components": CATALOGUE[self.name]["stages"].get(stage, []) if names else []}
                wanted = wanted + rotation.rotation_wanted(stage, now, self.groups, PARTS)
            for play in [play for play in plays("rotate_stage") if play.get("vars", {}).get("rotate_play")]:
                kind = play["vars"]["rotate_play"]
                for host in self.matched(play["hosts"]):
                    if failures or rotation.rotation_unconfirmed(wanted, marks, stage, kind, host):
                        continue
                    here = [component for component in rotation.PLAYS[kind] if component in now["components"] and host in self.of(*PARTS[component])]
                    what = here or (["verified"] if kind == "verify" and now["names"] else [])
                    for component in what:
                        change = (
                            (lambda: None)
                            if component == "verified"
                            else lambda component=component, host=host, stage=stage: self.apply(host, component, stage)
                        )
                        if self.step(
                            failures, host, f"{stage} {component}", lambda host=host, stage=stage, change=change: self.changed(host, identifier, stage, change)
                        ):
                            marks[host].append(f"{stage} {component}")
                        self.sound()
        for host in self.hosts:
            if host not in self.dropped:
                self.step({}, host, "finish", lambda host=host: self.end(host, identifier))
        return list(failures.values()) or rotation.rotation_unconfirmed(wanted, marks)

    def step(self, failures, host, stage, work):
        told = {host: {}}
        if host in self.dropped:
            return False
        done = attempt(told, host, lambda: self.ask(host, stage, work))
        failures.update({host: told[host]["failure"]} if told[host].get("failure") else {})
        return done

    def sound(self):
        """No value is in use that the vault does not know; no server refuses what a client presents."""
        known = self.known()
        for where, one in self.state.items():
            assert one["presents"] in known and one["takes"] <= known, f"{where}: {one}, and the vault knows {known}"
        servers = [one["takes"] for (_host, component), one in self.state.items() if component in ("postgresql", "redis")]
        for where, one in self.state.items():
            assert all(one["presents"] in takes for takes in servers), f"{where} presents {one['presents']} to {servers}"


@pytest.mark.parametrize("name", ["database_password", "redis_password", "secret_key", "backup_passphrase", "flower_password"])
def test_rotations(name):
    seen = 0
    for inventory, groups in ROTATED.items():
        points = [("lock", host) for host in dict.fromkeys(sum(groups.values(), []))]
        for stage, components in CATALOGUE[name]["stages"].items():
            points += [
                (f"{stage} {component}", host) for component in components for host in dict.fromkeys(sum((groups[group] for group in PARTS[component]), []))
            ]
            points += [(f"{stage} verified", host) for host in dict.fromkeys(sum((groups[group] for group in rotation.VERIFIES), []))]
        for (stage, host), kind in itertools.product(points, KINDS):
            seen += 1
            case = f"{name}, {inventory}: {stage} {host} {kind}"
            world = Rotation(name, groups, (stage, host, kind))
            before = copy.deepcopy(world.vault)
            try:
                said = world.run("mine")
            except Killed:
                said = ["killed"]
            world.sound()
            assert world.happened, case
            assert bool(said) == (kind != "ok") or world.overtaken, f"{case}: {said}"
            if stage == "lock" and kind not in ("ok", "killed after", "killed before") and not world.overtaken:
                assert world.vault == before, f"{case}: the vault was written"
            if world.known() == {"new"}:  # it was at its end
                assert {one["presents"] for one in world.state.values()} == {"new"}, case
                continue
            if "vault_rotation" in world.vault:
                assert "old" in world.known() and "new" in world.known(), case
            world.event, world.lost, world.dropped = None, set(), set()
            assert world.run("next", "mine") == [], case
            assert world.known() == {"new"} and "vault_rotation" not in world.vault and world.locked() == [], case
            assert {one["presents"] for one in world.state.values()} == {"new"}, case
    assert seen > 150
