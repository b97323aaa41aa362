"""Which keys opened what a database held at a moment: a restore brings back rows that the key of now may not open."""

from __future__ import annotations

import datetime

from ansible_collections.senex.trader.plugins.plugin_utils.rotations import at as _at

FOREVER = datetime.datetime.max.replace(tzinfo=datetime.UTC)
COMMAND = "playbooks/rotate.yml -e secret={name} -e rotate_confirm=true"


def _former(vault: dict, name: str, entry: dict) -> list[dict]:
    """The keys before the one of now, oldest first; one that a rotation has just taken away everywhere counts."""
    kept = [dict(one) for one in vault.get("vault_retired_keys") or [] if one["secret"] == name]
    if entry.get("stage") == "refuse" and not entry.get("again"):
        kept.append({"key": entry["other"], "replaced": entry["since"], "until": None})
    return sorted(kept, key=lambda one: _at(one["until"]) or FOREVER)


def _when(one: dict) -> str:
    return f"in use until {one['until']}" if one["until"] else "that a rotation takes away now"


def restore_keys(vault: dict, catalogue: dict, moment: str = "") -> dict:
    """`lines` about the keys of a moment (empty: not known which), and `missing`, whether hosts lack one of them now. No key is in them."""
    when, lines, missing = _at(moment), [], False
    for name, one in catalogue.items():
        if not one.get("reads") or not vault.get(one["vault"]):
            continue
        entry = (vault.get("vault_rotation") or {}).get(name) or {}
        read = [vault[one["vault"]], *(entry["other"].split(",") if entry.get("stage") in ("accept", "use") else [])]
        former = _former(vault, name, entry)
        since = [None, *(_at(kept.get("replaced")) for kept in former)]
        needed = [
            kept
            for kept, began in zip(former, since, strict=False)
            if not when or ((_at(kept["until"]) or FOREVER) > when and (began is None or began <= when))
        ]
        # A rotation by an earlier version of this collection kept nothing
        rotated = _at((vault.get("vault_rotated") or {}).get(name))
        unknown = (
            rotated if rotated and not any((_at(kept["until"]) or FOREVER) >= rotated for kept in former) else _at(former[0].get("since")) if former else None
        )
        lost = unknown and (not when or unknown > when)
        unread = [kept for kept in needed if kept["key"] not in read]
        lines.append(f"{name} ({one['reads']}): " + (
            "the key of now" if not needed and not lost else
            "; ".join([f"the key {_when(kept)}, which {'is not read now' if kept in unread else 'is read now too'}" for kept in needed]
                      + ([f"a key from before {unknown:%Y-%m-%d %H:%M} UTC, which the vault does not have"] if lost else []))
        ))  # fmt: skip
        if unread:
            lines.append(f"  before the restore: {COMMAND.format(name=name)} -e rotate_retired=true; after it: the same without rotate_retired")
        if lost:
            lines.append("  add it to vault_retired_keys from the vault's own history (docs/operations/rotation.md); without it that is unreadable")
        missing = missing or bool(unread or lost)
    return {"lines": lines, "missing": bool(missing and when)}


class FilterModule:
    """Filters about keys of older copies."""

    def filters(self) -> dict:
        """Name to function."""
        return {"restore_keys": restore_keys}
