"""What has to happen so that a component of the service user is as wanted: pure comparison, nothing is changed here."""

from __future__ import annotations

import functools
import http.client
import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ansible_collections.senex.trader.plugins.module_utils.engine import unit_text
from ansible_collections.senex.trader.plugins.module_utils.host import bounded, fileset
from ansible_collections.senex.trader.plugins.module_utils.host.fileset import Change, Manifest, WantedFile, digest
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import ServiceUser

QUADLET_DIRECTORY = ".config/containers/systemd"
UNIT_DIRECTORY = ".config/systemd/user"
# What systemd brings up again by itself is given so long before it counts as a difference: a restart of PostgreSQL takes its readers along
SETTLE_SECONDS = 10.0
# Before the fingerprint of a unit whose start was not seen to end
START_UNCONFIRMED = "begun:"


@dataclass
class Component:
    """One component as a role hands it over."""

    name: str
    files: list[WantedFile] = field(default_factory=list)
    directories: list[dict] = field(default_factory=list)
    secrets: dict[str, str] = field(default_factory=dict)
    units: list[dict] = field(default_factory=list)
    preconditions: list[dict] = field(default_factory=list)
    image_input: str = ""
    no_restart: frozenset[str] = frozenset()  # secrets that a script brings to what runs, without a restart
    images: dict[str, dict] = field(default_factory=dict)  # reference -> the image that it is to name (id), and the one to go back to (previous)

    def unit_texts(self) -> dict[str, str]:
        """File name -> text of every unit file of the part."""
        return {os.path.basename(item.path): item.content.decode() for item in self.files if is_unit(item.path)}


def is_unit(path: str) -> bool:
    """Whether a file is a Quadlet or systemd unit in one of the unit directories."""
    directory, suffix = os.path.dirname(path), os.path.splitext(path)[1]
    return (directory.endswith(QUADLET_DIRECTORY) and suffix in unit_text.QUADLET_SUFFIXES) or (
        directory.endswith(UNIT_DIRECTORY) and suffix in unit_text.SYSTEMD_SUFFIXES
    )


@dataclass
class Plan:
    """The difference between a component and the host."""

    changes: list[Change]
    directories: list[dict]
    secrets: dict[str, str | None]
    old_secrets: dict[str, str]
    pull: list[str]
    stop: list[str]
    act: list[dict]  # units to start, restart or run, in order
    fingerprints: dict[str, str]
    running: list[str]  # what ran before
    repairs: dict[str, int]  # as the manifest is to have them
    hand: set[str]  # files and secrets that somebody changed since the last run
    unmask: list[str]
    enable: list[str]  # units that the next boot would not bring
    tags: dict[str, str]  # reference -> image that it is to name from now on
    since: str = ""
    reload: bool = False
    resumed: bool = False

    @property
    def empty(self) -> bool:
        """Nothing to do."""
        work = (self.changes, self.directories, self.secrets, self.pull, self.stop, self.act, self.unmask, self.enable, self.tags, self.resumed)
        return not any(work)

    def sentences(self) -> list[str]:
        """The plan, a line each, for a person."""
        lines = ["finish what an earlier run began and did not end"] if self.resumed else []
        lines += [f"create directory {item['path']}" for item in self.directories]
        lines += [f"pull {reference}" for reference in self.pull]
        lines += [f"let {reference} name image {image[:12]}" for reference, image in self.tags.items()]
        lines += [f"{'remove' if change.after is None else 'install'} {change.path}{self._by_hand(change.path)}" for change in self.changes]
        lines += [f"{'remove' if value is None else 'set'} secret {name}{self._by_hand(secret_key(name))}" for name, value in self.secrets.items()]
        lines += [f"unmask {name} (it is masked)" for name in self.unmask]
        lines += [f"enable {name} (it is disabled)" for name in self.enable]
        lines += [f"stop {unit}" for unit in self.stop]
        lines += [f"{item['verb']} {item['name']} ({item['why']})" for item in self.act]
        return lines

    def _by_hand(self, what: str) -> str:
        return f" (changed by hand since {self.since})" if what in self.hand else ""


def secret_key(name: str) -> str:
    """The name of a Podman secret among paths of files."""
    return f"secret {name}"


class Fingerprints:
    """One value for everything a unit reads when it starts: text, files, secrets, image. And how often somebody's change of one of these was undone:
    the unit may have started with that, and looks the same as before."""

    def __init__(self, component: Component, user: ServiceUser, images: dict[str, str], secrets: dict[str, str], managed: set[str], repairs: Counter):
        self.user, self.images, self.secrets, self.no_restart, self.repairs = user, images, secrets, component.no_restart, repairs
        self.paths = {os.path.basename(item.path): item.path for item in component.files if is_unit(item.path)}
        self.wanted = {item.path: item.content for item in component.files}
        self.managed = sorted(managed | set(self.wanted))
        self.units = {unit_text.service_of(name): (name, text) for name, text in component.unit_texts().items()}

    def of(self, unit: dict) -> str:
        """The fingerprint of one unit."""
        name, text = self.units.get(unit["name"], (unit["name"], ""))
        image = unit_text.image(text)
        image_id = self.images.get(image) if image else None
        if unit.get("run_once_key") is not None:
            return digest(str(unit["run_once_key"]), text, image_id)
        directory = os.path.join(self.user.home, QUADLET_DIRECTORY)
        read = [text, image_id]
        known = [self.paths.get(name, name)]
        for path in unit_text.paths_read(text, self.user.home, directory):
            for managed in self.managed:
                if managed == path or managed.startswith(path.rstrip("/") + "/"):
                    read += [managed, self.wanted[managed] if managed in self.wanted else self.of_others[managed][0]]
                    known.append(managed)
        for secret in unit_text.secrets_read(text):
            read += [secret, None if secret in self.no_restart else self.secrets.get(secret)]
            known += [] if secret in self.no_restart else [secret_key(secret)]
        return digest(name, *read, *(f"repaired {what} {self.repairs[what]}" for what in dict.fromkeys(known) if self.repairs[what]))

    @functools.cached_property
    def of_others(self) -> dict[str, tuple]:
        """Files that other components have installed; all at once, for each question is a process."""
        return fileset.read_all([path for path in self.managed if path not in self.wanted])


def make_plan(component: Component, manifest: Manifest, user: ServiceUser) -> Plan:
    """Compare a component with the host."""
    wanted_paths = {item.path for item in component.files}
    neighbours = manifest.others()
    others = {path for other in neighbours for path in other.files}
    gone = [path for path in manifest.files if path not in wanted_paths and path not in others]
    changes = fileset.compare(component.files, gone)
    hand = {change.path for change in fileset.by_hand(changes, manifest)}
    places = fileset.directories([item["path"] for item in component.directories])
    directories = [item for item in component.directories if "kind" not in places[item["path"]]]

    texts = component.unit_texts()
    references = sorted({found for found in map(unit_text.image, texts.values()) if found})
    shared_secrets = {name for other in neighbours for name in other.secrets}
    gone_secrets = [name for name in manifest.secrets if name not in component.secrets and name not in shared_secrets]
    read_secrets = {name for text in texts.values() for name in unit_text.secrets_read(text)}
    names = [unit["name"] for unit in component.units]
    stale = [name for name in manifest.units if name not in names]
    beside = [name for name in map(unit_text.service_of, texts) if "@." not in name and name not in names + stale]  # of timers, slices
    containers = any(name.endswith(".container") for name in texts)
    with ThreadPoolExecutor() as pool:  # each asks a program of its own, which takes longer than all else here
        asked = [
            pool.submit(user.image_ids, references),
            pool.submit(user.secret_values, sorted({*component.secrets, *gone_secrets, *read_secrets})),
            pool.submit(user.unit_states, names + stale + beside),
            pool.submit(user.unhealthy) if containers else pool.submit(set),
        ]
        images, there, states, unhealthy = (answer.result() for answer in asked)
    surge_units = [name for name in stale if name in map(unit_text.service_of, texts)]
    at_boot = {name: states.get(name, {}).get("UnitFileState", "") for name in names + surge_units + beside}
    states = {name: state for name, state in states.items() if name not in beside}
    if not manifest.unfinished:
        states = _settled(user, states)
    tags = {name: one["id"] for name, one in component.images.items() if name in images and images[name] != one["id"]}
    images = {**images, **tags}
    secrets: dict[str, str | None] = {name: value for name, value in component.secrets.items() if there.get(name) != value}
    secrets.update({name: None for name in gone_secrets if name in there})

    mine = {secret_key(name): digest(component.secrets[name]) for name in secrets if name in component.secrets and name in manifest.secrets}
    hand |= {key for key, value in mine.items() if manifest.written.get(key, value) == value}
    repairs = {**manifest.repairs, **{key: manifest.repairs.get(key, 0) + 1 for key in hand}}
    undone = sum((Counter(other.repairs) for other in neighbours), Counter(repairs))
    prints = Fingerprints(component, user, images, {**there, **component.secrets}, others, undone)
    act = []
    for unit in component.units:
        why = _why(unit, states.get(unit["name"], {}), prints, manifest, texts, unhealthy)
        if why:
            act.append({**unit, "verb": why[0], "why": why[1]})
    return Plan(
        changes=changes,
        directories=directories,
        secrets=secrets,
        old_secrets={name: there[name] for name in secrets if name in there},
        pull=[reference for reference in references if reference not in images],
        stop=[name for name in stale if states.get(name, {}).get("ActiveState") not in (None, "inactive", "deactivating")],
        act=unavailable_first(act, states, [name for name in names if _is_ill(name, texts, unhealthy)]),
        fingerprints={unit["name"]: prints.of(unit) for unit in component.units},
        running=[name for name, state in states.items() if state.get("ActiveState") in ("active", "activating", "reloading")],
        repairs=repairs,
        hand=set() if manifest.unfinished else {key for key in hand if key in manifest.written},
        since=manifest.since() if manifest.found else "",
        unmask=[name for name, state in at_boot.items() if state.startswith("masked")],
        enable=[name for name, state in at_boot.items() if state in ("disabled", "enabled-runtime") and installs(name, texts)],
        tags=tags,
        # After a run that was cut short, files may lie there that systemd has not read yet
        reload=manifest.unfinished or any(is_unit(change.path) for change in changes),
        resumed=manifest.unfinished,
    )


def unavailable_first(act: list[dict], states: dict[str, dict], ill: list[str]) -> list[dict]:
    """Of the units that are drained while they are replaced, those that serve nobody come first: the others are what is left until then.

    What a place in the order says (`parallel_with_previous`) stays with the place.
    """
    places = [place for place, unit in enumerate(act) if unit.get("load_balancer")]
    if len(places) < 2:
        return act
    dead = {
        act[place]["name"]
        for place in places
        if states.get(act[place]["name"], {}).get("ActiveState") != "active" or act[place]["name"] in ill or answers(act[place])
    }
    turned = list(act)
    for place, unit in zip(places, sorted((act[place] for place in places), key=lambda unit: unit["name"] not in dead), strict=True):
        kept = {key: value for key, value in unit.items() if key != "parallel_with_previous"}
        turned[place] = {**kept, "parallel_with_previous": True} if act[place].get("parallel_with_previous") else kept
    return turned


def _is_ill(name: str, texts: dict[str, str], unhealthy: set[str]) -> bool:
    source = next((file for file in texts if unit_text.service_of(file) == name), name)
    return unit_text.container_name(texts.get(source, ""), source) in unhealthy


def installs(name: str, texts: dict[str, str]) -> bool:
    """Whether a unit has a plain file that says what brings it at boot; what the generator makes is linked by it."""
    return "[Install]" in texts.get(name, "")


def _settled(user: ServiceUser, states: dict[str, dict]) -> dict[str, dict]:
    """The states of units when none is on its way up any more, or when that has taken too long."""
    give_up = min(time.monotonic() + SETTLE_SECONDS, user.settle_by)
    while any(state.get("ActiveState") == "activating" for state in states.values()) and time.monotonic() < give_up:
        time.sleep(0.5)
        states = user.unit_states(list(states))
    return states


def answers(unit: dict, patience: float = 0, started: bool = False) -> str:
    """Why one of a unit's URLs does not answer as it should, asked from the host's side; empty when all do."""
    wanted = unit.get("readiness_probe") or []
    give_up = time.monotonic() + patience
    for one in [wanted] if isinstance(wanted, dict) else wanted:
        while (started or not one.get("startup_only")) and (wrong := _wrong_answer(one)):
            if time.monotonic() >= give_up:
                return wrong
            time.sleep(0.1)
    return ""


def _wrong_answer(wanted: dict) -> str:
    """By root, of whatever listens there: a redirect is an answer, and leads to other hosts."""
    try:
        reply = bounded.fetch(wanted["url"], wanted.get("headers", {}), 10, whole=False)
        status, reason = reply.status, reply.reason
    except (OSError, http.client.HTTPException) as error:
        status, reason = 0, str(error)
    good = 0 < status < wanted["status_below"] if "status_below" in wanted else status == wanted.get("status", 200)
    return "" if good else f"{wanted['url']} answers {status or 'nothing'}: {reason}"


def _why(unit, state, prints, manifest, texts, unhealthy) -> tuple[str, str] | None:
    """What one unit needs, and the reason; None when it is as it should be."""
    name = unit["name"]
    last, wanted = manifest.started.get(name), prints.of(unit)
    fresh = last == wanted
    if unit.get("run_once_key") is not None:
        return None if fresh else ("run", "not yet run for this image and key")
    active = state.get("ActiveState", "inactive")
    if active in ("failed", "inactive"):
        return "start", f"it is {active}"
    starting = active == "activating" and state.get("SubState") != "auto-restart"
    if starting and (fresh or last == START_UNCONFIRMED + wanted):
        return "start", "it is still starting"  # waits for the end of it
    if not fresh:
        return "restart", "what it reads has changed" if name in manifest.started else "first run under this collection"
    if active != "active":
        return "restart", f"it is {active}"
    if _is_ill(name, texts, unhealthy):
        return "restart", "its health check fails"
    silent = answers(unit, patience=5)
    return ("restart", silent) if silent else None
