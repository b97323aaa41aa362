"""A move of Redis: what speaks against it, where a run that was cut short goes on, and what a person is told. For the filters of plugins/filter/moving.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ansible_collections.senex.trader.plugins.module_utils.redis.move_state import JOINING, LEADING, MOVED, PROMOTING, STOPPING

TITLES = {"postgresql": "PostgreSQL", "redis": "Redis"}
MEGABYTE = 1 << 20
RATE = 50 * MEGABYTE  # bytes a second of a first copy


def move_inventory(source: str, target: str, component: str = "postgresql") -> list[str]:
    """What to write in the inventory after it."""
    return [
        f"In the inventory, the group {component} has to be: {component}: {{hosts: {{{target}: }}}} (in the place of {source}).",
        f"Put {target} into the groups backup and watchdog too, where {source} is in them; then run playbooks/site.yml.",
    ]


def group_problems(groups: Mapping[str, Sequence[str]]) -> list[str]:
    """What of the inventory keeps Redis from going to a host."""
    return [] if len(groups.get("redis", ())) == 1 else ["inventory: the group redis must have the one host that Redis is on now"]


def way(source: Mapping, target: Mapping) -> str:
    """See move_way. What the host that is left remembers decides: it alone tells the other one to take over."""
    old, new = source.get("state") or {}, target.get("state") or {}
    if old.get("phase") in (PROMOTING, LEADING) or (old.get("phase") == MOVED and new.get("phase") == JOINING):
        return "finish"
    return {STOPPING: "undo", MOVED: "none"}.get(old.get("phase"), "forward")


def problems(source: Mapping, target: Mapping, names: Mapping) -> list[str]:
    """See move_problems."""
    here, there = names["from"], names["to"]
    if not source.get("serves") or source.get("replica") or source.get("loading"):
        return [f"{here}: Redis does not serve there, so nothing can be copied; senex status says what is wrong"]
    found = []
    if not source.get("published"):
        found.append(f"redis_publish_address: Redis of {here} cannot be reached from other hosts; write redis_publish_address: "
                     '"{{ senex_private_address }}" and run site.yml first, for which Redis restarts once')  # fmt: skip
    state, old = target.get("state") or {}, source.get("state") or {}
    if old.get("phase") == JOINING and old.get("other") not in ("", None, there):
        other = old["other"]
        found.append(f"to: {there} is asked for, and a move to {other} is under way; go on with that, or give it up: -e to={other} -e move_cancel=true")
    if target.get("filled") and state.get("phase") not in (JOINING, MOVED):
        found.append(f"{there}: its data directory has something already, which no move has left there; move that elsewhere")
    if state.get("phase") == MOVED and state.get("forwards"):
        found.append(f"{there}: clients are led from there to {here} still; write the inventory as the move before has said, and run site.yml first")
    room = int(names.get("room") or 0)
    if room and int(source["bytes"]) > room * 9 // 10:
        found.append(f"redis_maxmemory: {room // MEGABYTE} MB on {there} are too few for {int(source['bytes']) // MEGABYTE} MB; raise redis_memory or "
                     "redis_maxmemory for it")  # fmt: skip
    return found


def lines(source: Mapping, target: Mapping, names: Mapping, where: str, confirmed: bool) -> list[str]:
    """See move_lines."""
    here, there = names["from"], names["to"]
    ends = "Confirmed." if confirmed else "Nothing was changed. To carry it out: -e move_confirm=true"
    match where:
        case "none":
            return [f"Nothing to do: Redis has moved from {here} to {there}.", *move_inventory(here, there, "redis")]
        case "cancel":
            return [f"The move to {there} is given up: the replica stops, and {here} lets nobody follow any more."]
        case "finish":
            return [f"A move was cut short when {there} took over: what is missing is done, and clients go on there.", ends]
        case "undo":
            return [
                f"A move was cut short while {here} was stopped, and {there} had not taken over: {here} serves again. The same command then begins anew.",
                ends,
            ]
    size = int(source["bytes"])
    return [
        f"Redis {source['version']}, {size // MEGABYTE} MB in memory, goes from {here} to {there} ({names['address']})",
        *([f"The data that {there} had is kept beside the new copy"] if (target.get("state") or {}).get("phase") == MOVED else []),
        f"1. while the application serves: {there} is prepared and gets a copy over TLS, about {size // RATE + 10} s, and follows; nothing restarts on {here}",
        "2. workers and Beat stop when they have ended what they have; new tasks wait in Redis",
        f"3. nginx holds requests for some seconds: writes pause, {there} has all, {here} stops, {there} takes over, and the old address leads to it",
        f"4. workers and Beat start again. {here} stays closed with its data",
        f"If a step before the takeover fails, {here} serves on. Rollback after it: -e component=redis -e to={here}",
        f"Until the inventory says so, site.yml refuses. {' '.join(move_inventory(here, there, 'redis'))}",
        ends,
    ]  # fmt: skip


def done(names: Mapping, waits: object) -> list[str]:
    """See move_done."""
    here, there = names["from"], names["to"]
    return [
        f"Redis serves on {there}. Clients waited for {waits} s.",
        f"{here} is closed, keeps its data, and leads whoever has its address to {there}, until site.yml has given all of them the new one.",
        f"Rollback, after site.yml: -e component=redis -e to={here}",
        *move_inventory(here, there, "redis"),
    ]
