"""Every operation over several hosts, at each stage and host, with each thing that can happen there.

Walked by the playbooks' own plays and by the code that decides in them: who may begin a stage (plugins/filter/operations.py, rotation.py), what a host
lets be changed (the lock), what is recorded. Hosts and what is done on them are stand-ins. tests/integration/controller runs some of it with Ansible.
"""

import contextlib
import copy
import functools
import itertools
import re

import pytest
import yaml
from ansible_collections.senex.trader.plugins.filter import operations, rotation
from ansible_collections.senex.trader.plugins.module_utils.host import release_record
from ansible_collections.senex.trader.plugins.module_utils.host.release_record import Ledger, LockHeld
from ansible_collections.senex.trader.plugins.plugin_utils.components import component_groups, every_group
from controller import ROOT
from patterns import plays, whole

ALONE = {name: ["one"] for name in ("postgresql", "postgresql_primary", "redis", "web", "celery", "celery_beat", "nginx")}
PAIR = {**ALONE, "web": ["one", "two"], "celery": ["one", "two"]}
APART = {
    "postgresql": ["data"],
    "postgresql_primary": ["data"],
    "redis": ["data"],
    "web": ["w1", "w2"],
    "celery": ["work"],
    "celery_beat": ["beat"],
    "nginx": ["door"],
}
GROUPS = {"alone": ALONE, "pair": PAIR, "apart": APART}
# What happens to a host at a stage: it fails; its connection drops before or after what it did, for good or for this once; Ansible itself takes it out of
# the run; the controller is killed; the controller sleeps, and another release comes and goes
KINDS = [
    "ok", "failed", "lost before", "lost after", "lost once", "dropped", "killed before", "killed after", "taken over before", "taken over after",
]  # fmt: skip


@pytest.fixture(autouse=True)
def one_boot(monkeypatch):
    monkeypatch.setattr(release_record, "this_boot", lambda: "boot")


class Silent(Exception):
    """Does not answer."""


class Dropped(Exception):
    """Ansible's own unreachable: no rescue, and no further play."""


class Killed(BaseException):
    """The controller."""


class Plain(Ledger):
    """The lock and the records without files and without a heartbeat, which cost ten times as long."""

    def __init__(self):
        super().__init__("")
        self.files = {}

    def _alone(self):
        return contextlib.nullcontext()

    def _write(self, name, text, mode):
        self.files[name] = text

    def _read(self, name):
        return self.files.get(name)

    def _remove(self, name):
        del self.files[name]

    @contextlib.contextmanager
    def kept(self, identifier, step, lost=None, about=None):
        self.renew(identifier, step, about)
        yield


class World:
    """Hosts, each with the real rules of its lock and its records."""

    def __init__(self, groups, event=None):
        self.groups, self.event = groups, event
        self.hosts = list(dict.fromkeys(host for names in groups.values() for host in names))
        self.application = self.of("web", "celery", "celery_beat")
        self.ledgers = {}
        for host in self.hosts:
            self.ledgers[host] = Plain()
        self.lost, self.dropped, self.overtaken, self.happened = set(), set(), False, False
        self.held, self.late = set(), False  # who has a lock of this run, and whether another run took one from it

    def of(self, *names):
        return list(dict.fromkeys(host for name in names for host in self.groups.get(name, [])))

    def matched(self, pattern):
        """Hosts of a play."""
        found = []
        for word in pattern.split(":"):
            name, first = re.fullmatch(r"(\w+)(\[0\])?", word).groups()
            found += self.groups.get(name, [])[: 1 if first else None]
        return [host for host in dict.fromkeys(found) if host not in self.dropped]

    def ask(self, host, stage, work):
        """One step of a host, with what happens there."""
        kind = self.event[2] if self.event and self.event[:2] == (stage, host) and not self.happened else ""
        self.happened = self.happened or bool(kind)
        if kind == "killed before":
            raise Killed
        if kind == "taken over before":
            self.overtake()
        if kind in ("lost before", "lost once"):
            self.lost |= {host} if kind == "lost before" else set()
            raise Silent(f"{host} does not answer")
        if kind == "dropped":
            self.dropped.add(host)
            self.lost.add(host)
            raise Dropped
        if host in self.lost:
            raise Silent(f"{host} does not answer")
        if kind == "failed":
            raise OSError("it failed")
        done = work()
        if kind == "lost after":
            self.lost.add(host)
            raise Silent(f"{host} does not answer")
        if kind == "killed after":
            raise Killed
        if kind == "taken over after":
            self.overtake()
        return done

    def overtake(self):
        """Another release, of another controller, from its beginning to its good end."""
        self.overtaken, self.late = True, bool(self.held)
        for host in self.hosts:
            self.ledgers[host].begin({"id": "other", "what": "deploy of 3", "who": "ben@desk"}, "any")
        self.theirs()
        for host in self.hosts:
            self.ledgers[host].finish("other", {"kind": "deploy", "result": "succeeded", "reference": "3"})

    def begin(self, host, identifier, take_over):
        self.ledgers[host].begin({"id": identifier, "what": "an operation", "who": "anna@desk"}, take_over)
        self.held.add(host)

    def end(self, host, identifier, record=None):
        self.held.discard(host)
        return self.ledgers[host].finish(identifier, record)

    def locked(self):
        return [host for host in self.hosts if self.ledgers[host].holder()]

    def changed(self, host, identifier, stage, change):
        """As the modules do."""
        with self.ledgers[host].changing({"id": identifier, "at": stage}) as still:
            still()
            change()


def attempt(told, host, work, key="failure"):
    """A block and its rescue."""
    try:
        work()
    except Dropped:
        return False
    except (Silent, LockHeld, OSError) as error:
        told[host][key] = ". ".join(filter(None, [told[host].get(key), f"{host}: {error}"]))
        return False
    return True


# -- releases


class Release(World):
    hook = ""  # where the operator's own tasks run before the first change

    def __init__(self, *given):
        super().__init__(*given)
        self.image, self.previous = dict.fromkeys(self.application, "1"), "1"
        self.maintenance = False

    def theirs(self):
        self.image = dict.fromkeys(self.application, "3")

    def run(self, identifier, take_over=""):
        """By the plays of release.yml and their tasks; how it ended, and what it said."""
        told = {host: {"confirmed": []} for host in self.hosts}
        way = operations.release_way(self.groups, [], hook=self.hook, maintenance=self.maintenance)
        hosts = {one["stage"]: one["hosts"] for one in way}
        unfinished = []
        for play in plays("release"):
            assert not play.get("any_errors_fatal") and play["name"]
            for task in [task for task in play["tasks"] if task.get("ansible.builtin.include_tasks", "").startswith("release/")]:
                stage, file, when = task.get("vars", {}).get("release_stage"), task["ansible.builtin.include_tasks"], str(task.get("when", ""))
                if "release_maintenance" in when and ("not release_maintenance" in when) is self.maintenance:
                    continue
                for host in self.matched(play["hosts"]):
                    if file == "release/stage.yml":
                        if host in hosts.get(stage, []):
                            self.stage(identifier, way, told, stage, host, take_over)
                    elif file == "release/roll_back.yml":
                        self.switch_back(identifier, way, told, host)
                    elif file == "release/finish.yml":
                        self.finish(identifier, way, told, host, unfinished)
        end = operations.release_end(way, told)
        unfinished += [f"{host}: no answer" for host in self.hosts if not told[host].get("finished") and not any(line.startswith(host) for line in unfinished)]
        return end, end["trouble"] + end["behind"] + unfinished

    def stage(self, identifier, way, told, stage, host, take_over):
        if operations.operation_troubles(way, told, stage, host):
            return

        def work():
            if stage == "prepare":
                self.begin(host, identifier, take_over)
                self.previous = self.ledgers[host].newest().get("reference", self.previous)
            elif stage in ("web", "celery"):
                assert not self.maintenance or all("stop" in told[one]["confirmed"] for one in self.application), "something serves beside it"
                self.changed(host, identifier, stage, lambda: self.image.update({host: "2"}))
            else:
                self.ledgers[host].renew(identifier, stage)

        if stage in ("stop", "web", "celery"):
            told[host]["touched"] = True
        if attempt(told, host, lambda: self.ask(host, stage, work)):
            told[host]["confirmed"].append(stage)

    def switch_back(self, identifier, way, told, host):
        if not told[host].get("touched") or not operations.release_end(way, told)["trouble"]:
            return
        back = lambda: self.changed(host, identifier, "back", lambda: self.image.update({host: self.previous}))  # noqa: E731
        told[host]["back"] = attempt(told, host, lambda: self.ask(host, "back", back), "not_back")

    def finish(self, identifier, way, told, host, unfinished):
        record = {"kind": "deploy", "result": operations.release_end(way, told)["result"]}
        try:
            told[host]["finished"] = self.ask(host, "finish", lambda: self.end(host, identifier, record))
            if not told[host]["finished"]:
                unfinished.append(f"{host}: nothing was recorded")
        except (Silent, OSError) as error:
            unfinished.append(f"{host}: {error}")
        except Dropped:
            pass

    def last(self, host):
        records = self.ledgers[host].records()
        return records[-1]["result"] if records else ""


RELEASE = ["prepare", "plan", "dump", "web", "celery", "undo", "verify", "back", "finish"]


def cases(way_of, stages, groups=GROUPS):
    for name, inventory in groups.items():
        hosts = {one["stage"]: one["hosts"] for one in way_of(inventory)}
        for stage in stages:
            for host in hosts.get(stage, list(dict.fromkeys(sum(inventory.values(), [])))):
                for kind in KINDS:
                    yield name, (stage, host, kind)


def test_releases():
    seen = 0
    for name, event in cases(lambda inventory: operations.release_way(inventory, []), RELEASE):
        seen += 1
        for first in ("", "celery", "verify"):  # for a way back to happen something has to fail before it
            if (first != "") != (event[0] == "back"):
                continue
            judge_release(GROUPS[name], event, first, f"{name}: {event} {first}")
    assert seen > 300


@pytest.mark.parametrize("hook", ["first", "all"])
def test_releases_with_tasks_of_the_operators(hook):
    for name, event in cases(lambda inventory: operations.release_way(inventory, [], hook=hook), ["pre_deploy"]):
        judge_release(GROUPS[name], event, "", f"{name}: {event}", hook)
        world = Release(GROUPS[name], event)
        world.hook = hook
        if event[2] == "failed":
            end, said = world.run("mine")
            assert (end["result"], set(world.image.values()), len(said)) == ("refused", {"1"}, 1), said
            assert {world.last(host) for host in world.hosts} == {"refused"} and world.locked() == []


def judge_release(groups, event, first, case, hook="", maintenance=False):
    world = Release(groups, event)
    world.hook, world.maintenance = hook, maintenance
    if first:
        failing = (first, operations.release_way(groups, [])[4 if first == "celery" else 6]["hosts"][-1])
        plain = world.ask

        def ask(host, stage, work):
            if (stage, host) == failing:
                raise OSError("it failed")
            return plain(host, stage, work)

        world.ask = ask
    killed = False
    try:
        end, said = world.run("mine")
    except Killed:
        killed, end, said = True, {"result": ""}, []
    if world.overtaken and not world.late:  # it came and went before this one had any lock, or when it had given up all
        assert (end["result"], said) == ("succeeded", []) and set(world.image.values()) == {"3" if event[0] == "finish" else "2"}, case
        return
    if world.overtaken:
        assert set(world.image.values()) == {"3"}, f"{case}: the other's image is gone"
        assert {world.ledgers[host].newest()["id"] for host in world.hosts} == {"other"}, case
        assert said, f"{case}: nobody is told"
        return
    if not killed:
        new = [host for host in world.application if world.image[host] != "1"]
        if end["result"] == "succeeded":
            assert new == world.application, case
        else:
            assert set(new) <= world.lost | {line.split(":")[0] for line in end["behind"]}, f"{case}: {new} has the newer image and nobody knows"
            assert end["trouble"], case
        for host in set(new) & world.lost if end["result"] != "succeeded" else ():
            assert any(line.startswith(host) for line in said), f"{case}: {host} is not named"
        assert set(world.locked()) <= world.lost | ({event[1]} if event[0] == "finish" else set()), f"{case}: {world.locked()}"
        answering = [host for host in world.hosts if host not in world.lost and (event[0], host) != ("finish", event[1])]
        if event[2] not in ("ok", "lost once") or event[0] != "finish":
            assert {world.last(host) for host in answering} <= {end["result"], ""}, case
        assert bool(said) == (event[2] != "ok" or bool(first) or end["result"] != "succeeded") or event[0] == "back", f"{case}: {said}"
    world.event, world.lost, world.dropped = None, set(), set()
    world.__dict__.pop("ask", None)
    end, said = world.run("next", "mine")
    assert (end["result"], said) == ("succeeded", []) and world.locked() == [] and set(world.image.values()) == {"2"}, case
    assert {world.last(host) for host in world.hosts} == {"succeeded"}, case


def test_releases_in_maintenance():
    way_of = functools.partial(operations.release_way, skips=[], maintenance=True)
    for name, event in cases(way_of, ["close", "stop", "dump", "web", "serves", "open"]):
        judge_release(GROUPS[name], event, "", f"{name}: {event} in maintenance", maintenance=True)


def test_in_maintenance_the_page_comes_before_anything_stops_and_goes_when_all_serve():
    for groups in GROUPS.values():
        plain, closed = operations.release_way(groups, []), operations.release_way(groups, [], maintenance=True)
        names = [one["stage"] for one in closed]
        assert names == ["prepare", "plan", "close", "stop", "dump", "undo", "web", "celery", "serves", "open", "verify"]
        assert {one["stage"] for one in plain} == set(names) - {"close", "stop", "serves", "open"}
        hosts = {one["stage"]: one["hosts"] for one in closed}
        assert hosts["close"] == hosts["open"] == groups["nginx"] and set(hosts["stop"]) == set(hosts["serves"]) == {*hosts["web"], *hosts["celery"]}


def test_whoever_is_left_out_keeps_a_release_from_its_first_change():
    for groups in GROUPS.values():
        way = operations.release_way(groups, [])
        for host in way[0]["hosts"]:
            told = {other: {"confirmed": ["prepare"]} for other in way[0]["hosts"] if other != host}
            for one in way[1:]:
                for other in one["hosts"]:
                    assert operations.operation_troubles(way, told, one["stage"], other) == [
                        f"{host}, prepare: not confirmed (no answer, or left out of this run)"
                    ]


# -- restores and upgrades: what was stopped, and what was exchanged below it


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


# -- rotations


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


# -- who takes part


@pytest.mark.parametrize("name", EXCHANGES)
def test_the_lock_is_taken_wherever_something_is_stopped(name):
    """Of the database's host alone, watchdogs of others started the application again."""
    playbook, way_of = EXCHANGES[name]
    for groups in GROUPS.values():
        way = way_of(groups)
        world = World(groups)
        concerned = {host for one in way for host in one["hosts"]}
        locking = next(play for play in plays(playbook) if "Acquire the deploy lock on every host" in str(play["tasks"]))
        assert way[0]["stage"] == "lock" and concerned <= set(way[0]["hosts"]) <= set(world.matched(locking["hosts"])), way
        ending = next(play for play in plays(playbook) if "Release the deploy lock" in str(play["tasks"]))
        assert set(world.matched(locking["hosts"])) == set(world.matched(ending["hosts"]))


def test_a_rotation_locks_every_host_that_it_touches():
    names = set(itertools.chain.from_iterable(PARTS.values()))
    for task in ("Acquire the deploy lock", "Release the deploy lock"):
        (play,) = [play for play in plays("rotate") if task in str(play.get("tasks"))]
        assert set(play["hosts"].split(":")) == names


@pytest.mark.parametrize("name", ["deploy", "rollback", "restore", "upgrade_postgresql", "update_images", "remove", "scale", "checksums"])
def test_a_limit_is_looked_at_before_anything_else(name):
    """By every group that a play of the operation goes to."""
    first, *others = whole(name)
    assert first["ansible.builtin.import_playbook"] == "require_hosts.yml"
    if name in ("deploy", "rollback"):
        others += whole("release")
    groups = {group for play in others if "hosts" in play for group in re.findall(r"[a-z_]+", re.sub(r"\{\{.*?\}\}|\[0\]", "", play["hosts"]))}
    groups -= {"all", "postgresql_primary"}  # of which the last is one of postgresql
    assert groups <= set(every_group()) and len(groups) >= 3


@pytest.mark.parametrize("name", ["release", "restore", "upgrade_postgresql", "update_images", "checksums"])
def test_no_play_under_the_lock_ends_the_run_for_all(name):
    """any_errors_fatal takes the hosts that are left out of the way back, and of the end that is told."""
    begun = name == "release"
    for play in plays(name):
        begun = begun or "Acquire the deploy lock on every host" in str(play["tasks"])
        assert not (begun and (play.get("any_errors_fatal") or "ignore_unreachable" in str(play))), play["name"]
    assert begun
