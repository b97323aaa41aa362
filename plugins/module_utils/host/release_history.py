"""What the records of releases say about a rollback: where it would go, and which migrations it would leave behind.

Standard library alone, and no import from __future__: role common installs this file with the library of the programs on the host (senex_host), for the
command `senex`; the playbooks ask the same by a filter.
"""

SERVED = ("deploy", "rollback")


def succeeded(records: list) -> list:
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


def target(records: list, wanted: str = "") -> dict:
    """Where to go back to: `reference`, `tag`, `from` and `undo`, the migrations of the releases since, newest first. LookupError where there is nothing.

    Without a name it is what ran before the newest release that succeeded; with one, the release of that id or tag.
    """
    good = succeeded(records)
    if not good:
        raise LookupError("release: nothing was released with playbooks/deploy.yml, so there is nothing to go back to")
    if not wanted:
        newest = good[-1]
        return {**newest["previous"], "undo": undone(good, newest["previous"]["reference"]), "from": newest["tag"]}
    found = next((one for one in reversed(good) if wanted in (one["id"], one["tag"])), None)
    if found is None:
        first = good[0]["previous"]
        if wanted != first["tag"]:
            known = ", ".join(dict.fromkeys([first["tag"], *(f"{one['id']} ({one['tag']})" for one in good)]))
            raise LookupError(f"release: '{wanted}' is no release of this environment; it knows {known}")
        found = first
    return {"reference": found["reference"], "tag": found["tag"], "undo": undone(good, found["reference"]), "from": good[-1]["tag"]}


def undone(good: list, reference: str) -> list:
    """Migrations that were applied since the image last served, and not taken back meanwhile."""
    last = max((place for place, one in enumerate(good) if one["reference"] == reference), default=-1)
    applied: list = []
    for one in good[last + 1 :]:
        back = set(one.get("undone", []))
        applied = [name for name in applied if name not in back] + list(one.get("migrations", []))
    return applied[::-1]
