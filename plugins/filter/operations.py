"""What an operation over several hosts may do next, and how it ended.

Ansible goes on with the hosts that are left when one does not answer, or when a run leaves it out. So a stage begins only when every host of the
inventory that the stages before it concern has said that it did its part, and the end is told of those that did not.
"""

from __future__ import annotations

from ansible_collections.senex.trader.plugins.plugin_utils.components import every_group

EVERYBODY = tuple(every_group())
PRIMARY = "postgresql_primary"  # the group that playbooks/validate.yml makes of senex_postgresql_primary
LOST = "the lock of this release"  # as plugins/module_utils/host/release_record.py begins what it says then


def operation_troubles(way: list, told: dict, stage: str = "", host: str = "") -> list:
    """What keeps this host from this stage; without a stage, what went wrong in all.

    `way` has the stages in their order: `stage`, `hosts` and perhaps `serial`, where one host begins after the other. `told` has, of each host, its
    `failure` and the stages it has `confirmed`.
    """
    failures = [one["failure"] for one in told.values() if one.get("failure")]
    if failures:
        return failures
    for one in way:
        waits = list(one["hosts"])
        if one["stage"] == stage:
            waits = waits[: waits.index(host)] if one.get("serial") and host in waits else []
        missing = [name for name in waits if one["stage"] not in (told.get(name) or {}).get("confirmed", [])]
        if missing:
            return [f"{name}, {one['stage']}: not confirmed (no answer, or left out of this run)" for name in missing]
        if one["stage"] == stage:
            break
    return []


def release_hook_hosts(groups: dict, where: str) -> list:
    """Where an operator's own tasks run: on the `first` web host, or on `all` hosts."""
    return _hosts(groups, "web")[:1] if where == "first" else _hosts(groups, *EVERYBODY)


def release_way(groups: dict, skips: list, idle: bool = False, hook: str = "", maintenance: bool = False) -> list:
    """The stages of a release. `skips` are stages that this one has not; an idle one changes nothing. `hook`: where an operator's own tasks run before the
    first change (first, all), if there are any. In `maintenance` the site is closed and nothing serves from before the dump until all is as it is to be."""

    application, nginx = _hosts(groups, "web", "celery", "celery_beat"), _hosts(groups, "nginx")
    undo = {"stage": "undo", "hosts": _hosts(groups, "web")[:1]}
    way = [
        {"stage": "prepare", "hosts": _hosts(groups, *EVERYBODY)},
        {"stage": "plan", "hosts": _hosts(groups, "web")[:1]},
        *([{"stage": "pre_deploy", "hosts": release_hook_hosts(groups, hook)}] if hook else []),
        *([{"stage": "close", "hosts": nginx}, {"stage": "stop", "hosts": application}] if maintenance else []),
        {"stage": "dump", "hosts": _hosts(groups, PRIMARY)},
        *([undo] if maintenance else []),
        {"stage": "web", "hosts": _hosts(groups, "web"), "serial": True},
        {"stage": "celery", "hosts": _hosts(groups, "celery", "celery_beat")},
        *([{"stage": "serves", "hosts": application}, {"stage": "open", "hosts": nginx}] if maintenance else [undo]),
        {"stage": "verify", "hosts": nginx[:1]},
    ]
    return [one for one in way if one["stage"] == "prepare" or not (idle or one["stage"] in skips)]


def release_end(way: list, told: dict) -> dict:
    """How a release ended: `trouble`, hosts that are `behind` with the newer image after all, each with the reason, and the `result` for the record.

    Of each host `told` has also whether it was `touched` and is `back`, and why not (`not_back`).
    """
    trouble = operation_troubles(way, told)
    touched = {host: one for host, one in told.items() if one.get("touched")}
    behind = [
        one.get("not_back") or f"{host}: it may run the newer image, nobody was there to switch it back"
        for host, one in touched.items()
        if not one.get("back") or one.get("not_back")
    ]
    behind = behind if trouble else []
    result = "succeeded" if not trouble else "not switched back" if behind else "switched back" if touched else "refused"
    return {"trouble": trouble, "behind": behind, "result": result, "lost": any(LOST in line for line in trouble + behind)}


def restore_way(groups: dict, group: str, rests_first: bool = False, queue: bool = False) -> list:
    """The stages of a restore: the lock, the copy beside what serves, the rest of the application, the exchange."""
    application = _hosts(groups, "web", "celery", "celery_beat")
    target, redis = _hosts(groups, group)[:1], _hosts(groups, "redis")[:1] if queue else []
    rests, prepare = {"stage": "rests", "hosts": application}, {"stage": "prepare", "hosts": target}
    return [
        {"stage": "lock", "hosts": _hosts(groups, *EVERYBODY)},
        *([rests, prepare] if rests_first else [prepare, rests]),
        {"stage": "switch", "hosts": target},
        *([{"stage": "queue", "hosts": redis}] if queue else []),
        {"stage": "serves", "hosts": application, "serial": True},
    ]


def upgrade_way(groups: dict, way: str) -> list:
    """The stages of PostgreSQL's upgrade: forward, back, or what an earlier run left (undo, finish)."""
    application, database = _hosts(groups, "web", "celery", "celery_beat"), _hosts(groups, PRIMARY)
    return [
        {"stage": "lock", "hosts": _hosts(groups, *EVERYBODY)},
        *([{"stage": "prepare", "hosts": database}] if way in ("forward", "back") else []),
        *([{"stage": "rests", "hosts": application}] if way != "finish" else []),
        {"stage": "switch", "hosts": database},
        {"stage": "serves", "hosts": application, "serial": True},
    ]


def checksums_way(groups: dict) -> list:
    """The stages of enabling data checksums: they are made while nothing runs."""
    application = _hosts(groups, "web", "celery", "celery_beat")
    return [
        {"stage": "lock", "hosts": _hosts(groups, *EVERYBODY)},
        {"stage": "rests", "hosts": application},
        {"stage": "switch", "hosts": _hosts(groups, PRIMARY)},
        {"stage": "serves", "hosts": application, "serial": True},
    ]


def update_images_way(groups: dict, components: list) -> list:
    """The stages of an update of images: what the servers hold is saved, then one server after the other restarts."""
    due = [name for name in ("postgresql", "redis") if name in components]
    return [
        {"stage": "lock", "hosts": _hosts(groups, *EVERYBODY)},
        {"stage": "dump", "hosts": _hosts(groups, *due)},
        *({"stage": name, "hosts": _hosts(groups, name)} for name in due),
    ]


def _hosts(groups: dict, *names: str) -> list:
    return list(dict.fromkeys(host for name in names for host in groups.get(name) or []))


class FilterModule:
    """Filters of operations."""

    def filters(self):
        """Names in templates."""
        return {
            "operation_troubles": operation_troubles,
            "checksums_way": checksums_way,
            "release_hook_hosts": release_hook_hosts,
            "release_way": release_way,
            "release_end": release_end,
            "restore_way": restore_way,
            "update_images_way": update_images_way,
            "upgrade_way": upgrade_way,
        }
