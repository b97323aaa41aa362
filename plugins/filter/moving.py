"""What a move of a component to another host would do, what speaks against it, and what it asks of the inventory afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ansible_collections.senex.trader.plugins.module_utils.postgresql.move_state import JOINING, MOVED, PROMOTING, STOPPING
from ansible_collections.senex.trader.plugins.plugin_utils import moving_redis
from ansible_collections.senex.trader.plugins.plugin_utils.moving_redis import TITLES, move_inventory

MEGABYTE = 1 << 20
# What a copy and the WAL of meanwhile may take beside the data
SPARE = 1536 * MEGABYTE
RATE = 30 * MEGABYTE  # bytes a second of a base backup over a network, a slow one
VARIABLES = ("move_confirm", "move_cancel")


def move_input_problems(groups: Mapping[str, Sequence[str]], given: Mapping, known: Sequence[str] = ()) -> list[str]:
    """Of what the run was given: `component`, `to`, `address` and `own_address` (whether it is in the inventory); `known`: variables that begin with move_."""
    problems = [f"{name}: is no variable of a move; they are {', '.join(VARIABLES)}" for name in sorted(set(known) - set(VARIABLES))]
    component, target = str(given.get("component") or ""), str(given.get("to") or "")
    if component not in TITLES:
        problems.append(f"component: {component or 'nothing'} cannot be moved; write -e component={' or -e component='.join(TITLES)}")
    if not target:
        problems.append(f"to: say -e to=HOST, a host of the inventory that {TITLES.get(component, 'it')} is to run on")
    elif target not in groups.get("all", ()):
        problems.append(f"to: {target} is no host of the inventory; add it with its senex_private_address, and leave it out of the group {component}")
    elif not given.get("own_address"):
        problems.append(f"senex_private_address: {target} has none in the inventory; write its address in the network that the hosts share")
    if component == "redis":
        return problems + moving_redis.group_problems(groups)
    if len(groups.get("postgresql", ())) != 1:
        problems.append("inventory: the group postgresql must have the one host that PostgreSQL is on now")
    if not groups.get("pgbouncer"):
        problems.append("inventory: the group pgbouncer has no host. Without a pooler connections fail while PostgreSQL goes over, and nothing lets them wait; "
                        "put the hosts of the application into it and run site.yml first (docs/user/pgbouncer.md)")  # fmt: skip
    past = [host for name in ("web", "celery", "celery_beat") for host in groups.get(name, ()) if host not in groups.get("pgbouncer", ())]
    if groups.get("pgbouncer") and past:
        problems.append(f"inventory: {', '.join(dict.fromkeys(past))} has the application and is not in the group pgbouncer, so its connections would fail; "
                        "put it into that group and run site.yml first")  # fmt: skip
    return problems


def move_way(source: Mapping, target: Mapping) -> str:
    """Where it goes from what the two hosts remember and have: `none` (nothing to do), `finish` (the new one has taken over), `undo` (the old one was stopped),
    or `forward`."""
    if source.get("component") == "redis":
        return moving_redis.way(source, target)
    old, new = source.get("state") or {}, target.get("state") or {}
    if new.get("phase") == PROMOTING or (old.get("phase") == STOPPING and target.get("serves") and not target.get("standby")):
        return "finish"
    if old.get("phase") == STOPPING:
        return "undo"
    if old.get("phase") == MOVED:
        return "none"
    return "forward"


def move_needed(size: int) -> int:
    """Bytes that a standby of this size takes on its host."""
    return size * 12 // 10 + SPARE


def move_problems(source: Mapping, target: Mapping, names: Mapping) -> list[str]:
    """What keeps it from beginning, from what the two hosts have. `names`: `from` and `to`, `version` of the inventory."""
    if names.get("component") == "redis":
        return moving_redis.problems(source, target, names)
    here, there = names["from"], names["to"]
    if not source.get("serves") or source.get("standby"):
        return [f"{here}: PostgreSQL does not serve there, so nothing can be copied; senex status says what is wrong"]
    problems = []
    if source["major"] != int(names["version"]):
        problems.append(f"postgresql_version: {names['version']} is asked for, and {here} has {source['major']}; run playbooks/upgrade_postgresql.yml first")
    if not source.get("superuser", True):
        problems.append(f"senex_database_superuser: the application's role is the superuser on {here} still; run site.yml first")
    if source.get("tablespaces"):
        problems.append(f"{here}: tablespace {source['tablespaces']} lies outside of the data directory; move its tables to pg_default and drop it")
    if not source.get("authority"):
        problems.append(f"{here}: PostgreSQL has no authority for certificates yet; run site.yml, which gives it one for PgBouncer")
    if not (source.get("senders") and source.get("slots")) or source.get("wal_level") == "minimal":
        problems.append(f"{here}: no room for one more standby; see max_wal_senders, max_replication_slots and wal_level in postgresql_settings")
    state, old = target.get("state") or {}, source.get("state") or {}
    if old.get("phase") == JOINING and old.get("other") not in ("", None, there):
        other = old["other"]
        problems.append(f"to: {there} is asked for, and a move to {other} is under way; go on with that, or give it up: -e to={other} -e move_cancel=true")
    mine = target.get("cluster") and target["cluster"] == source.get("cluster")
    if target.get("filled") and state.get("phase") != JOINING and not (mine and state.get("phase") == MOVED):
        what = f"cluster {target['cluster']}" if target.get("cluster") else "something"
        problems.append(f"{there}: its data directory has {what} already, which no move has left there; move that elsewhere")
    need = move_needed(int(source["bytes"]))
    if not state.get("joined") and int(target.get("free") or 0) < need:
        problems.append(f"{there}: {int(target.get('free') or 0) // MEGABYTE} MB are free, and about {need // MEGABYTE} MB are needed: make room first")
    return problems


def move_lines(source: Mapping, target: Mapping, names: Mapping, way: str, confirmed: bool) -> list[str]:
    """The plan, for a person."""
    if names.get("component") == "redis":
        return moving_redis.lines(source, target, names, way, confirmed)
    here, there = names["from"], names["to"]
    ends = "Confirmed." if confirmed else "Nothing was changed. To carry it out: -e move_confirm=true"
    if way == "none":
        return [f"Nothing to do: PostgreSQL has moved from {here} to {there}.", *move_inventory(here, there)]
    if way == "cancel":
        return [f"The move to {there} is given up: the standby stops, and its replication slot on {here} goes."]
    if way == "finish":
        return [f"A move was cut short after {there} had taken over: what is missing is done, and clients go on there.", ends]
    if way == "undo":
        return [f"A move was cut short while {here} was stopped, and {there} had not taken over: {here} serves again. The same command then begins anew.", ends]
    size = int(source["bytes"])
    old, again = (target.get("state") or {}).get("phase") == MOVED, (target.get("state") or {}).get("joined")
    return [
        f"PostgreSQL {source['major']}, cluster {source['cluster']}, goes from {here} to {there} ({names['address']})",
        f"data: {size // MEGABYTE} MB; {there} has {int(target['free']) // MEGABYTE} MB free and needs about {move_needed(size) // MEGABYTE} MB",
        *([f"The cluster that {there} had is kept beside the new copy"] if old else []),
        "A run before was cut short: the standby that it made goes on" if again else
        f"1. while the application serves: {there} is prepared and gets a copy over TLS, about {size // RATE + 20} s, and follows; nothing restarts on {here}",
        f"2. PgBouncer lets connections wait for some seconds: {here} stops, {there} has all of it and takes over, the connections go on there",
        f"3. {here} stays closed with its data; a new archive for point-in-time recovery begins on {there} with a base backup",
        f"If a step before the takeover fails, {here} serves on. Rollback after it: -e component=postgresql -e to={here}",
        f"Until the inventory says so, site.yml refuses. {' '.join(move_inventory(here, there))}",
        ends,
    ]  # fmt: skip


def move_refusal(moves: Mapping[str, Mapping], host: str, group_names: Sequence[str] = ()) -> list[str]:
    """Why a run may not change a host that a move has left or is at; nothing where it may. `moves`: of each component, what the host remembers."""
    return [line for component, move in moves.items() for line in _refusal(component, move, host, group_names)]


def _refusal(component: str, move: Mapping, host: str, group_names: Sequence[str]) -> list[str]:
    phase, title = move.get("phase"), TITLES[component]
    if not phase or component not in group_names:
        return []
    if phase == MOVED:
        return [f"inventory: {title} has moved from {host} to {move['other']} ({move.get('at')}), and its data on {host} is of before. "
                + " ".join(move_inventory(host, move["other"], component))]  # fmt: skip
    to = host if move.get("role") == "to" else move.get("other")
    words = f"playbooks/move.yml -e component={component} -e to={to}"
    return [f"inventory: a move of {title} to {to} is not at its end. Go on: {words} -e move_confirm=true. Give it up: {words} -e move_cancel=true"]


def move_failure(ended: Mapping, names: Mapping) -> list[str]:
    """What a run that did not come to its end says: who serves, and what to do."""
    failures = [str(one).rstrip(".") + "." for one in ended.get("failures", ())] or [f"{names['to']} did not answer."]
    component = names.get("component", "postgresql")
    title = TITLES[component]
    if ended.get("taken_over"):
        words = move_inventory(names["from"], names["to"], component)
        return [f"{title} serves on {names['to']}, and not all is done:", *failures, "The same command goes on.", *words]
    where = f"It serves on {names['from']} as before. " if ended.get("undone") else ""
    return [f"{title} was not moved:", *failures, f"{where}The same command goes on; -e move_cancel=true gives it up."]


def move_held(paused: Sequence[Mapping], pointed: Sequence[Mapping]) -> str:
    """For how many seconds clients of a pooler waited at most, by the clock of its host."""
    until = {one["item"]: float(one["until"]) for one in pointed if "until" in one}
    spans = [until[one["item"]] - float(one["since"]) for one in paused if "since" in one and one["item"] in until]
    return f"{max(spans):.1f}" if spans else "?"


def move_done(names: Mapping, waits: object, trouble: str = "") -> list[str]:
    """What is said at the end. `waits`: seconds for which clients waited; `trouble`: why there is no base backup of the new archive yet."""
    here, there = names["from"], names["to"]
    if names.get("component") == "redis":
        return moving_redis.done(names, waits)
    return [
        f"PostgreSQL serves on {there}. Clients waited for {waits} s.",
        f"{here} is closed and keeps its data. Rollback: -e component=postgresql -e to={here}",
        f"No base backup was taken, so no moment can be restored yet: senex pitr base on {there}. {trouble}" if trouble else "A base backup was taken.",
        *move_inventory(here, there),
    ]


class FilterModule:
    """Filters of a move."""

    def filters(self):
        """Names in templates."""
        return {
            "move_input_problems": move_input_problems,
            "move_way": move_way,
            "move_problems": move_problems,
            "move_lines": move_lines,
            "move_inventory": move_inventory,
            "move_refusal": move_refusal,
            "move_failure": move_failure,
            "move_held": move_held,
            "move_done": move_done,
        }
