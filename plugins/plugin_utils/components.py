"""The registry of components (roles/senex/vars/components.yml), and what is derived from it.

It belongs to the role senex because every role depends on that one, and an inventory that uses single roles has no playbooks. Plugins read the file by
themselves, so that no task has to load it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

REGISTRY = Path(__file__).parents[2] / "roles/senex/vars/components.yml"
EVERY_HOST, CONTAINERS, MONITORED, LOGGED = "every_host", "containers", "monitored", "logged"
NOWHERE = "all:!all"
MONITORING, LOGS = "monitoring", "logs"  # the groups (and components) whose host reads the metrics of all, and keeps the journals of all
BY_GROUP = {MONITORED: MONITORING, LOGGED: LOGS}  # every host, where that group has one
EXPORTERS_ADDRESS = "exporters_address"  # the variable with the address that the exporters of a host listen at
EXACTLY_ONE, AT_MOST_ONE, ONE_OR_MORE, ANY = "exactly_one", "at_most_one", "one_or_more", "any"
NEEDED = (EXACTLY_ONE, ONE_OR_MORE)
WORLD = "world"


class RegistryError(ValueError):
    """The registry says what nobody understands."""


@dataclass(frozen=True)
class Memory:
    """MB on a host of 8 GB, bounds, the group whose hosts have it, and whether all hosts of an environment that has such a host leave room for it."""

    share: int
    least: int
    most: int | None = None
    group: str = ""
    shared: bool = False


@dataclass(frozen=True)
class Image:
    """Names of variables."""

    variable: str
    input: str
    unless: str = ""


@dataclass(frozen=True)
class Port:
    """Where a component is reached from other hosts; a port and a number of ports may be names of variables."""

    port: int | str
    clients: tuple[str, ...]
    count: int | str = 1
    address: str = ""
    only: str = ""
    elsewhere: tuple[str, ...] = ()
    private: bool = False


@dataclass(frozen=True)
class Data:
    """Where it is below the home, and the variable that lets it begin with nothing."""

    begin: str
    variables: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unit:
    """A unit of the service user. Whether it is to run all the time, on the hosts of which group, and the variable without which it is not there."""

    unit: str
    group: str = ""
    only: str = ""
    watched: bool = True


@dataclass(frozen=True)
class Job:
    """A job that saves data of a component. One that says what it does, when, and for how many days its copies stay has no inputs of its own in its role."""

    job: str
    what: str = ""
    schedule: str = ""
    days: int = 0
    max_age: int = 0


@dataclass(frozen=True)
class Component:
    """One entry of the registry."""

    name: str
    phase: int
    groups: Mapping[str, str]
    where: str
    units: tuple[Unit, ...]
    system_units: tuple[str, ...]
    image: Image | None
    memory: Mapping[str, Memory]
    secrets: Mapping[str, str]
    data: Data | None
    ports: tuple[Port, ...]
    certificates: tuple[str, ...]
    jobs: Mapping[str, tuple[Job, ...]]
    checks: tuple[str, ...]
    metrics: int | None

    @property
    def user_units(self) -> tuple[str, ...]:
        return tuple(one.unit for one in self.units)

    @property
    def reached_ports(self) -> tuple[Port, ...]:
        """Its own, and that of its exporter, which the host that reads metrics reaches."""
        exporter = Port(port=self.metrics or 0, clients=(MONITORING,), address=EXPORTERS_ADDRESS, private=True)
        return (*self.ports, exporter) if self.metrics else self.ports

    @property
    def backups(self) -> dict[str, tuple[str, ...]]:
        """The names of its jobs, by the command that runs them."""
        return {command: tuple(one.job for one in jobs) for command, jobs in self.jobs.items()}


KEYS = {"groups", "where", "phase", "units", "image", "memory", "secrets", "data", "ports", "certificates", "backups", "checks", "metrics"}
COUNTS = (EXACTLY_ONE, AT_MOST_ONE, ONE_OR_MORE, ANY)
MADE = ("word", "django", "fernet", "given", "optional")


def _only(where: str, given: Mapping[str, Any], known: Iterable[str]) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise RegistryError(f"{where}: there is no key {', '.join(unknown)}; there are {', '.join(sorted(known))}")


def _entry(kind: type, where: str, given: Mapping[str, Any]) -> Any:
    _only(where, given, [field.name for field in fields(kind)])
    return kind(**given)


def _port(where: str, given: Mapping[str, Any]) -> Port:
    clients = given.get("clients", ())
    clients = (clients,) if isinstance(clients, str) else tuple(clients)
    return _entry(Port, where, {**given, "clients": clients, "elsewhere": tuple(given.get("elsewhere", ()))})


def _memory(name: str, given: Mapping[str, Mapping[str, Any]], groups: Mapping[str, str]) -> dict[str, Memory]:
    """Of a component with one group, it need not be said."""
    found = {entry: _entry(Memory, f"{name}.memory.{entry}", {"group": next(iter(groups), ""), **one}) for entry, one in given.items()}
    if len(groups) > 1 and not all("group" in one for one in given.values()) or any(one.group not in groups for one in found.values()):
        raise RegistryError(f"{name}.memory: each entry needs one of its groups: {', '.join(groups)}")
    return found


def _data(name: str, given: Mapping[str, Any]) -> Data:
    return _entry(Data, f"{name}.data", {key: tuple(one) if isinstance(one, list) else one for key, one in given.items()})


def _named(kind: type, where: str, given: str | Mapping[str, Any]) -> Any:
    """An entry with more to say than its name."""
    return _entry(kind, where, {next(field.name for field in fields(kind)): given} if isinstance(given, str) else given)


def _job(where: str, given: str | Mapping[str, Any]) -> Job:
    one = _named(Job, where, given)
    if not isinstance(given, str) and not (one.what and one.schedule and one.days > 0 and one.max_age > 0):
        raise RegistryError(f"{where}.{one.job}: needs what, schedule, days and max_age, or its name alone where its role has inputs for these")
    return one


def component(name: str, given: Mapping[str, Any]) -> Component:
    """An entry as it stands in the registry."""
    _only(name, given, KEYS)
    groups, units = given.get("groups", {}), given.get("units", {})
    if bool(groups) is bool(given.get("where")) or given.get("where", EVERY_HOST) not in (EVERY_HOST, CONTAINERS, *BY_GROUP):
        raise RegistryError(f"{name}: needs groups, or where: {EVERY_HOST}, {CONTAINERS}, {MONITORED} or {LOGGED}")
    wrong = [f"{group}: {count}" for group, count in groups.items() if count not in COUNTS]
    wrong += [f"{secret}: {made}" for secret, made in given.get("secrets", {}).items() if made not in MADE]
    if wrong:
        raise RegistryError(f"{name}: {', '.join(wrong)}; a group has {', '.join(COUNTS)}, a secret is {', '.join(MADE)}")
    _only(f"{name}.units", units, ("user", "system"))
    return Component(
        name=name,
        phase=given["phase"],
        groups=groups,
        where=given.get("where", ""),
        units=tuple(_named(Unit, f"{name}.units.user", one) for one in units.get("user", ())),
        system_units=tuple(units.get("system", ())),
        image=_entry(Image, f"{name}.image", given["image"]) if "image" in given else None,
        memory=_memory(name, given.get("memory", {}), groups),
        secrets=given.get("secrets", {}),
        data=_data(name, given["data"]) if "data" in given else None,
        ports=tuple(_port(f"{name}.ports", one) for one in given.get("ports", ())),
        certificates=tuple(given.get("certificates", ())),
        jobs={command: tuple(_job(f"{name}.backups", one) for one in jobs) for command, jobs in given.get("backups", {}).items()},
        checks=tuple(given.get("checks", ())),
        metrics=given.get("metrics"),
    )


def parsed(given: Mapping[str, Mapping[str, Any]]) -> dict[str, Component]:
    """All entries in their order."""
    found = {name: component(name, one) for name, one in given.items()}
    for one in found.values():
        strangers = {client for port in one.ports for client in port.clients} - {*found, WORLD}
        if strangers or not all(port.clients for port in one.ports):
            raise RegistryError(f"{one.name}.ports: each needs clients: components, or {WORLD}; {', '.join(sorted(strangers))} is none")
    return found


@functools.cache
def registry() -> dict[str, Component]:
    """The collection's components."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return parsed(yaml.load(REGISTRY.read_text(encoding="utf-8"), loader)["senex_components"])  # noqa: S506  (a safe loader)


def every_group(components: Mapping[str, Component] | None = None) -> dict[str, str]:
    """The groups of the inventory in the order of what they have, each with how many hosts it must have."""
    found: dict[str, str] = {}
    for one in (registry() if components is None else components).values():
        for group, count in one.groups.items():
            if found.setdefault(group, count) != count:
                raise RegistryError(f"{one.name}: {group} is {count} here and {found[group]} elsewhere")
    return found


def groups_of(name: str, components: Mapping[str, Component] | None = None, inventory: Mapping[str, Sequence[str]] | None = None) -> list[str]:
    """The groups whose hosts have a component; of one that goes by another group none, where that one has no host in an inventory."""
    known = registry() if components is None else components
    if name not in known:
        raise RegistryError(f"there is no component {name}; there are {', '.join(known)}")
    if known[name].where in BY_GROUP and inventory is not None and not inventory.get(BY_GROUP[known[name].where]):
        return []
    if known[name].where in (EVERY_HOST, *BY_GROUP):
        return list(every_group(known))
    if known[name].where == CONTAINERS:
        return list(dict.fromkeys(group for one in known.values() if one.image for group in one.groups))
    return list(known[name].groups)


def component_groups(components: Mapping[str, Component] | None = None, inventory: Mapping[str, Sequence[str]] | None = None) -> dict[str, list[str]]:
    """What a run puts in place by component, and in which groups. What every host has comes before it, and is not asked for by group."""
    known = registry() if components is None else components
    return {name: groups_of(name, known, inventory) for name, one in known.items() if one.where != EVERY_HOST}


def hosts_pattern(*names: str, components: Mapping[str, Component] | None = None, inventory: Mapping[str, Sequence[str]] | None = None) -> str:
    """The pattern for the hosts that have one of these components; without a name, of all hosts that have any. Groups that an inventory does not have are
    left out, for Ansible warns of each; where none is left it is a pattern for no host."""
    known = registry() if components is None else components
    groups = [group for name in names for group in groups_of(name, known, inventory)] if names else list(every_group(known))
    return ":".join(dict.fromkeys(group for group in groups if inventory is None or group in inventory)) or NOWHERE


def hosts_of(names: Iterable[str], groups: Mapping[str, Sequence[str]], components: Mapping[str, Component] | None = None) -> list[str]:
    """The hosts of an inventory that have one of these components."""
    return list(dict.fromkeys(host for name in names for group in groups_of(name, components) for host in groups.get(group) or []))


def memory_entries(group_names: Iterable[str], components: Mapping[str, Component] | None = None) -> dict[str, Memory]:
    """The entries of the memory plan that a host of these groups needs."""
    known = registry() if components is None else components
    here = set(group_names)
    return {entry: memory for one in known.values() for entry, memory in one.memory.items() if memory.group in here}


def environment_groups(groups: Mapping[str, Sequence[str]], components: Mapping[str, Component] | None = None) -> list[str] | None:
    """The groups that have a host; None where no component's has one, as for a role that is used without them."""
    return [name for name in every_group(components) if groups.get(name)] or None


def absent_components(groups: Mapping[str, Sequence[str]], components: Mapping[str, Component] | None = None) -> list[str]:
    """What no host of an inventory has; nothing where its groups have no host at all."""
    known = registry() if components is None else components
    there = environment_groups(groups, known)
    return [name for name, one in known.items() if there is not None and one.groups and not set(one.groups) & set(there)]


def elsewhere_of(group: str, components: Mapping[str, Component] | None = None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """By which variables a client is told of a server that no host of this group is, and the groups of its clients; nothing where it has to be one of them."""
    known = registry() if components is None else components
    ports = [port for one in known.values() if group in one.groups for port in one.ports if port.elsewhere][:1]
    return (ports[0].elsewhere, tuple(name for client in ports[0].clients for name in groups_of(client, known))) if ports else ((), ())


def _left(installed: Iterable[str], group_names: Iterable[str], known: Mapping[str, Component]) -> list[Component]:
    """Components that a host has and, by its groups, is not to have any more."""
    there, here = set(installed), set(group_names)
    return [one for name, one in known.items() if name in there and one.groups and not here & set(one.groups)]


def memory_groups(group_names: Iterable[str], installed: Iterable[str], components: Mapping[str, Component] | None = None) -> list[str]:
    """The groups of a host, with those of components that still run there: what these may take is nobody else's yet."""
    here = list(group_names)
    left = _left(installed, here, registry() if components is None else components)
    return [*here, *(group for one in left if one.memory for group in one.groups)]


def left_behind(installed: Iterable[str], group_names: Iterable[str], components: Mapping[str, Component] | None = None) -> str:
    """What is said of components that a host has and, by its groups, is not to have any more; empty where there is none."""
    left = _left(installed, group_names, registry() if components is None else components)
    if not left:
        return ""
    units = ", ".join(unit for one in left for unit in (*one.user_units, *one.system_units))
    names, states = ",".join(one.name for one in left), " ".join(f"-e {one.name}_state=absent" for one in left)
    groups = dict.fromkeys(next(iter(one.groups)) for one in left)
    return (
        f"still has {', '.join(one.name for one in left)}{f' ({units})' if units else ''} from before, and is in no group of theirs now. "
        "They go on as they are, with their share of the memory: this run neither changes nor removes them. "
        "To remove their units, and no data: put the host into "
        f"{', '.join(groups)} once more, run playbooks/site.yml --tags {names} {states}, and take it out again"
    )


def absent_secrets(groups: Mapping[str, Sequence[str]], components: Mapping[str, Component] | None = None) -> list[str]:
    """The secrets, without vault_, of what no host of an inventory has."""
    known = registry() if components is None else components
    return [secret for name in absent_components(groups, known) for secret in known[name].secrets]


def planned_memory(
    group_names: Iterable[str] = (), components: Mapping[str, Component] | None = None, inventory: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Memory]:
    """Those that share the memory of a host: what every environment has, and what is shared where the environment has it, on each of its hosts; the others
    where they are. Without an inventory the environment has everything."""
    known = registry() if components is None else components
    there = environment_groups(inventory or {}, known)
    always = [group for group, count in every_group(known).items() if count in NEEDED and (there is None or group in there)]
    shared = {memory.group for one in known.values() for memory in one.memory.values() if memory.shared and (there is None or memory.group in there)}
    return memory_entries([*always, *shared, *group_names], known)


def here(group_names: Iterable[str], components: Mapping[str, Component] | None = None, inventory: Mapping[str, Sequence[str]] | None = None) -> list[str]:
    """The components of a host of these groups; what every host has is among them."""
    known, mine = registry() if components is None else components, set(group_names)
    return [name for name, one in known.items() if one.where == EVERY_HOST or mine & set(groups_of(name, known, inventory or {}))]


def watched_system_units(
    group_names: Iterable[str], components: Mapping[str, Component] | None = None, inventory: Mapping[str, Sequence[str]] | None = None
) -> list[str]:
    """What of the system has to run there, by whole names. The watchdog does not ask for itself: systemd does."""
    known = registry() if components is None else components
    units = [unit for name in here(group_names, known, inventory) if name != "watchdog" for unit in known[name].system_units]
    return [unit for unit in units if unit.endswith(".service") and "*" not in unit]


def metrics_targets(groups: Mapping[str, Sequence[str]], components: Mapping[str, Component] | None = None) -> list[tuple[str, str, int]]:
    """What has metrics in an inventory: component, host, port."""
    known = registry() if components is None else components
    return [
        (name, host, int(one.metrics))
        for name, one in known.items()
        if one.metrics
        for host in dict.fromkeys(host for group in groups_of(name, known, groups) for host in groups.get(group) or [])
    ]


def watched_units(group_names: Iterable[str], components: Mapping[str, Component] | None = None) -> list[Unit]:
    """What has to run on a host of these groups, by names that no input decides."""
    known, mine = registry() if components is None else components, set(group_names)
    units = [unit for name in here(mine, known) for unit in known[name].units]
    return [one for one in units if one.watched and one.unit.endswith(".service") and "*" not in one.unit and (not one.group or one.group in mine)]


def copying_jobs(command: str, components: Mapping[str, Component] | None = None) -> list[tuple[str, Job]]:
    """The jobs that this command runs for other components than itself, with the component."""
    known = registry() if components is None else components
    return [(name, job) for name, one in known.items() if name != command for job in one.jobs.get(command, ())]


def every_job(components: Mapping[str, Component] | None = None) -> list[str]:
    """Each job that saves data of any component."""
    known = registry() if components is None else components
    return [job for one in known.values() for jobs in one.backups.values() for job in jobs]


def jobs_of_others(group_names: Iterable[str], components: Mapping[str, Component] | None = None) -> list[str]:
    """The jobs that save data of components which no host of these groups has."""
    known = registry() if components is None else components
    mine = set(here(group_names, known))
    return every_job({name: one for name, one in known.items() if name not in mine})
