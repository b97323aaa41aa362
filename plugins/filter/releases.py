"""Records of releases for a person, and the choice of the one to go back to."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible_collections.senex.trader.plugins.module_utils import untrusted

SERVED = ("deploy", "rollback")


def release_lines(records: list, holder: dict | None = None) -> list:
    """A line each, oldest first; last, what is under way."""
    lines = [
        f"{one['id']}  {one['what']}: {one['result']}, {one.get('seconds', '?')} s, by {one['who']}"
        + f", {one.get('failed', 0)} of {one.get('requests', 0)} probes failed"
        + (f", migrations {', '.join(one['migrations'])}" if one.get("migrations") else "")
        + (f", before it: {one['restore_point_at']}" if one.get("restore_point_at") else "")
        + (f" | {one['reason'].splitlines()[0][:160]}" if one.get("reason") else "")
        for one in records
    ]
    if holder:
        lines.append(f"{holder['id']}  {holder['what']}: under way, at '{holder['step']}', by {holder['who']}")
    # Why one failed may be in the words of others
    return [untrusted.printable(line, 2000) for line in lines] or ["nothing was released with playbooks/deploy.yml yet"]


def _good(records: list) -> list:
    """Releases that succeeded. What an earlier attempt with the same image migrated, killed or switched back, is theirs: it was not pending any more."""
    good, tried = [], {}
    for one in (one for one in records if one.get("kind") in SERVED):
        mine = [*tried.get(one["reference"], []), one]
        if one.get("result") == "succeeded":
            tried.pop(one["reference"], None)
            good.append({**one, "migrations": list(dict.fromkeys(name for attempt in mine for name in attempt.get("migrations", [])))})
        else:
            tried[one["reference"]] = mine
    return good


def newest_records(of_hosts: list) -> list:
    """The records of the host that knows of the newest release that succeeded: one that was added later has none, or not all of them."""
    return max(of_hosts, key=lambda records: (max((one["id"] for one in _good(records)), default=""), len(records)), default=[])


def rollback_target(records: list, wanted: str = "") -> dict:
    """Where to go back to: `reference`, `tag`, and `undo`, the migrations of the releases since, newest first.

    Without a name it is what ran before the newest release that succeeded; with one, the release of that id or tag.
    """
    good = _good(records)
    if not good:
        raise AnsibleFilterError("release: nothing was released with playbooks/deploy.yml, so there is nothing to go back to")
    if not wanted:
        newest = good[-1]
        return {**newest["previous"], "undo": _undone(good, newest["previous"]["reference"]), "from": newest["tag"]}
    found = next((one for one in reversed(good) if wanted in (one["id"], one["tag"])), None)
    if found is None:
        first = good[0]["previous"]
        if wanted != first["tag"]:
            known = ", ".join(dict.fromkeys([first["tag"], *(f"{one['id']} ({one['tag']})" for one in good)]))
            raise AnsibleFilterError(f"release: '{wanted}' is no release of this environment; it knows {known}")
        found = first
    return {"reference": found["reference"], "tag": found["tag"], "undo": _undone(good, found["reference"]), "from": good[-1]["tag"]}


def _undone(good: list, reference: str) -> list:
    """Migrations that were applied since the image last served, and not taken back meanwhile."""
    last = max((place for place, one in enumerate(good) if one["reference"] == reference), default=-1)
    applied: list = []
    for one in good[last + 1 :]:
        undone = set(one.get("undone", []))
        applied = [name for name in applied if name not in undone] + list(one.get("migrations", []))
    return applied[::-1]


class FilterModule:
    """Filters of releases."""

    def filters(self):
        """Names in templates."""
        return {"newest_records": newest_records, "release_lines": release_lines, "rollback_target": rollback_target}
