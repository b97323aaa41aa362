"""Hosts of the model of operations (test_operations_model.py): stand-ins, each with the real rules of its lock and its records."""

import contextlib
import re

import pytest
from ansible_collections.senex.trader.plugins.module_utils.host import release_record
from ansible_collections.senex.trader.plugins.module_utils.host.release_record import Ledger, LockHeld

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
    def heartbeat(self, identifier, step, lost=None, about=None):
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


def cases(way_of, stages, groups=GROUPS):
    for name, inventory in groups.items():
        hosts = {one["stage"]: one["hosts"] for one in way_of(inventory)}
        for stage in stages:
            for host in hosts.get(stage, list(dict.fromkeys(sum(inventory.values(), [])))):
                for kind in KINDS:
                    yield name, (stage, host, kind)
