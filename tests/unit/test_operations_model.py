"""Every operation over several hosts, at each stage and host, with each thing that can happen there.

Walked by the playbooks' own plays and by the code that decides in them: who may begin a stage (plugins/filter/operations.py, rotation.py), what a host
lets be changed (the lock), what is recorded. Hosts and what is done on them are stand-ins. tests/integration/controller runs some of it with Ansible.
"""

import functools

import pytest
from ansible_collections.senex.trader.plugins.filter import operations
from hosts_model import GROUPS, Dropped, Killed, Silent, World, attempt, cases, one_boot  # noqa: F401  (a fixture)
from patterns import plays


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
