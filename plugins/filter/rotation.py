"""The way of a secret from its old value to a new one, as the environment's vault remembers it.

`vault_rotation` holds an entry for each secret that is under way: the `stage` and the `other` value beside the one in its own variable, which is the
old one while the stage is `accept`, and the new one from `use` on. Roles read it as `senex_rotation`; it goes when the old value is refused everywhere.
Where copies of the data need the old value, `vault_retired_keys` then has it: the `secret`, the `key`, when it was the only one (`since`, where that is
known), when its successor came (`replaced`) and until when it was known to hosts (`until`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.senex.trader.plugins.filter.status import printable
from ansible_collections.senex.trader.plugins.plugin_utils.components import absent_secrets, component_groups
from ansible_collections.senex.trader.plugins.plugin_utils.rotations import later, states

# The plays of a stage in their order, with the components that each applies; the last one tries what only shows when all of it is done
APPLICATION = {"web": ("django",), "workers": ("celery",)}
PLAYS = {"serves": tuple(name for name in component_groups() if (name,) not in APPLICATION.values()), **APPLICATION, "verify": ()}
VERIFIES = ("postgresql", "redis", "web", "backup")
# Secrets that a server has to take before the application presents them
SERVERS = {"database_password": "postgresql", "redis_password": "redis"}
THEIRS = (
    "Where it is somebody else's: have them take a new one (best beside the old one, or as a second user), write it into the vault as {vault} with "
    "ansible-vault edit, run playbooks/site.yml --tags django,celery, and have the old one refused. Nothing was changed."
)


def _plain(value):
    """Without the marks that Ansible puts on values."""
    return json.loads(json.dumps(value))


def _rotated(catalogue: dict, vault: dict, groups: dict | None) -> list:
    """What the vault has and a host uses; and what is under way, whoever uses it."""
    absent = set(absent_secrets(groups or {})) - set(vault.get("vault_rotation") or {})
    return sorted(name for name, one in catalogue.items() if vault.get(one["vault"]) and name not in absent)


def rotation_catalogue(catalogue: dict, issued: list) -> dict:
    """The collection's own secrets, and those of the application that somebody else issues."""
    does = "you give it; the application restarts once, one instance after the other"
    own = {str(name): {"vault": f"vault_{name}", "given": True, "stages": {"use": ["django", "celery"]}, "does": does} for name in issued}
    return {**own, **catalogue}


def rotation_names(asked: str, catalogue: dict, vault: dict, groups: dict | None = None) -> list:
    """Short names of what was asked for: a comma between several, vault_ in front or not."""
    names = [name.strip().removeprefix("vault_") for name in str(asked).split(",") if name.strip()]
    known = _rotated(catalogue, vault, groups)
    wrong = [name for name in names if name not in known]
    theirs = [name for name in wrong if name in SERVERS and name in absent_secrets(groups or {})]
    if theirs:
        name = theirs[0]
        why = f"secret: {name} cannot be rotated here, for no host of this environment has its server (group {SERVERS[name]})"
        raise AnsibleFilterError(f"{why}. {THEIRS.format(vault=catalogue[name]['vault'])}")
    if wrong:
        raise AnsibleFilterError(f"secret: {', '.join(wrong)} cannot be rotated here; the vault has {', '.join(known)}")
    return list(dict.fromkeys(names))


def rotation_lines(catalogue: dict, vault: dict, groups: dict | None = None) -> list:
    """A line for each secret of the vault: when it was rotated last, how far a rotation is, and what one does."""
    lines = []
    for name in _rotated(catalogue, vault, groups):
        one, entry = catalogue[name], (vault.get("vault_rotation") or {}).get(name)
        when = f"under way since {entry['since']}, at '{entry['stage']}'" if entry else (vault.get("vault_rotated") or {}).get(name, "not known")
        kept = [str(key["until"]) for key in vault.get("vault_retired_keys") or [] if key["secret"] == name]
        lines.append(f"{name}  (last: {when})  {one['does']}" + (f"; kept for older copies: the keys in use until {', '.join(kept)}" if kept else ""))
    return lines


def _read_again(vault: dict, name: str, one: dict, entry: dict | None, now: str) -> dict:
    """A secret's entry with which everything knows its former values beside the one of now."""
    kept = [str(key["key"]) for key in vault.get("vault_retired_keys") or [] if key["secret"] == name and key["key"] != vault[one["vault"]]]
    if not one.get("reads") or not (kept or entry):
        raise AnsibleFilterError(f"rotate_retired: the vault has no former value of {name} that could be read with")
    return {**entry, "stage": "use", "back": now} if entry else {"stage": "use", "other": ",".join(dict.fromkeys(kept)), "since": now, "again": True}


def rotation_step(vault: dict, catalogue: dict, names: list, stage: str, now: str, values: dict | None = None, retired: bool = False) -> dict:
    """What the vault's variables become when these secrets reach a stage (None: it goes); nothing where all are there or beyond.

    `retired`: what they were before is known again, and no new values are taken.
    """
    rotation, rotated, edits = _plain(vault.get("vault_rotation") or {}), _plain(vault.get("vault_rotated") or {}), {}
    for name in names:
        one, entry = catalogue[name], rotation.get(name)
        if retired and stage == "accept" and (entry or {}).get("stage") in (None, "refuse"):
            rotation[name] = _read_again(vault, name, one, entry, now)
            edits["vault_rotation"] = rotation
        way = [*one["stages"], "done"]
        if retired or stage not in way or way.index(stage) != (way.index(entry["stage"]) + 1 if entry else 0):
            continue
        if stage == "done":
            if one.get("reads") and not entry.get("again"):
                known = {"since": rotated[name]} if name in rotated else {}
                key = {"secret": name, "key": entry["other"], **known, "replaced": entry["since"], "until": now}
                edits["vault_retired_keys"] = [*edits.get("vault_retired_keys", _plain(vault.get("vault_retired_keys") or [])), key]
            del rotation[name]
            if not entry.get("again"):
                rotated[name] = later(now, entry.get("back") or entry["since"])
                edits["vault_rotated"] = rotated
        elif not entry:
            new = str((values or {}).get(name, ""))
            if not new or new == vault[one["vault"]]:
                raise AnsibleFilterError(f"secret: there is no new value for {name}, or it is the one that is in use")
            rotation[name] = {"stage": stage, "other": new, "since": later(now, rotated.get(name))}
        else:
            entry["stage"] = stage
        if stage == "use":
            old = vault[one["vault"]]
            edits[one["vault"]], rotation[name]["other"] = rotation[name]["other"], str(old)
        edits["vault_rotation"] = rotation or None
    return edits


def rotation_states(under_way: dict, ended: dict) -> dict:
    """How far each rotation of a vault is: moment and number of the stage, which hosts keep (module_utils/host/rotation_mark.py)."""
    return states(under_way, ended)


def rotation_at(vault: dict, names: list, stage: str) -> list:
    """Which of these secrets are at a stage now."""
    return [name for name in names if (vault.get("vault_rotation") or {}).get(name, {}).get("stage") == stage]


def _hosts(groups: dict, names: Iterable[str]) -> list:
    return list(dict.fromkeys(host for name in names for host in groups.get(name, [])))


def rotation_begins(groups: dict, component_groups: dict) -> list:
    """What has to be confirmed before the vault is written at all: every host answers, and has its lock for this rotation."""
    everybody = _hosts(groups, [name for names in component_groups.values() for name in names])
    return [{"stage": "begin", "play": what, "what": what, "host": host} for what in ("answers", "lock") for host in everybody]


def rotation_ahead(rotation: dict, components: list, groups: dict, hosts: list) -> list:
    """Secrets under way whose servers may not take yet what the application would present: a run of these components, on these hosts, would not tell them.

    The vault is written before any host is touched. An interrupted rotation, gone on with, comes to the servers first, and so does a whole site.yml.
    """
    if not {"django", "celery"} & set(components):
        return []
    open_now = [name for name in SERVERS if (rotation.get(name) or {}).get("stage") in ("accept", "use")]
    return [name for name in open_now if (served := groups.get(SERVERS[name])) and (SERVERS[name] not in components or set(served) - set(hosts))]


def rotation_wanted(stage: str, now: dict, groups: dict, component_groups: dict) -> list:
    """What has to be confirmed at a stage before the next one, by every host of the inventory that it concerns, in the order in which it is done."""
    wanted = []
    for play, components in PLAYS.items():
        for component in [component for component in components if component in now["components"]]:
            wanted += [{"stage": stage, "play": play, "what": component, "host": host} for host in _hosts(groups, component_groups[component])]
    if now["names"]:
        wanted += [{"stage": stage, "play": "verify", "what": "verified", "host": host} for host in _hosts(groups, VERIFIES)]
    return wanted


def rotation_unconfirmed(wanted: list, marks: dict, stage: str = "", play: str = "", host: str = "") -> list:
    """A line for each confirmation that is missing; before a play of a stage, of what comes before it alone.

    A host that did not answer raises no error, and a run may leave hosts out: only a mark that a host got after its work counts.
    """
    order = list(PLAYS)

    def due(one: dict) -> bool:
        if one["stage"] != stage or play not in order:
            return True
        if one["play"] == play == "web":  # one host after the other, as they are listed
            web = [other["host"] for other in wanted if other["stage"] == stage and other["play"] == "web"]
            return host in web and web.index(one["host"]) < web.index(host)
        return order.index(one["play"]) < order.index(play)

    return [
        f"{one['host']}, {one['stage']}: {one['what']} is not confirmed (no answer, or left out of this run)"
        for one in wanted
        if due(one) and f"{one['stage']} {one['what']}" not in marks.get(one["host"], [])
    ]


def rotation_supplied(catalogue: dict, vault: dict, typed: dict) -> dict:
    """What issuers give, by its names in the vault: what was typed now, and what stays."""
    given = {name: one["vault"] for name, one in catalogue.items() if "given" in one and one["vault"] in vault}
    return {variable: typed[name] if name in typed else vault[variable] for name, variable in given.items()}


def rotation_made(names: list, catalogue: dict, makers: dict) -> dict:
    """A new value for each of these that is made here. No other maker is asked."""
    return {name: makers[catalogue[name]["vault"]] for name in names if catalogue[name]["vault"] in makers}


def rotation_rejected(seen: list) -> list:
    """One line for each trial that did not come out as it must."""
    failed = [one for one in seen if one.get("rc", 0) != 0]
    return [printable(f"{one['item']['secret']}: {one.get('stdout', '')} {one.get('stderr') or one.get('msg', '')}") for one in failed]


def vault_edited(text: str, edits: dict) -> str:
    """A vault's text with some variables set anew, or gone (None). All else, comments too, stays as it is."""
    for name, value in edits.items():
        new = "" if value is None else yaml.safe_dump({str(name): _plain(value)}, width=200, allow_unicode=True, sort_keys=False)
        # Its line, and those that are indented below it, as a certificate's are
        block = re.compile(rf"^{re.escape(name)}[ ]*:.*(?:\n|\Z)(?:(?:[ \t]*\n)*(?:[ \t]+\S.*|- .*)(?:\n|\Z))*", re.MULTILINE)
        found = block.search(text)
        before, after = (text[: found.start()], text[found.end() :]) if found else (text if not text or text.endswith("\n") else text + "\n", "")
        text = before + new + after
    found = yaml.safe_load(text) or {}
    if any(found.get(name) != (None if value is None else _plain(value)) for name, value in edits.items()):
        raise AnsibleFilterError("the vault's text could not be edited: each variable must stand at the beginning of a line, once")
    return text


class FilterModule:
    """Filters about rotations of secrets."""

    def filters(self) -> dict:
        """Name to function."""
        return {
            "rotation_catalogue": rotation_catalogue,
            "rotation_names": rotation_names,
            "rotation_lines": rotation_lines,
            "rotation_step": rotation_step,
            "rotation_at": rotation_at,
            "rotation_states": rotation_states,
            "rotation_begins": rotation_begins,
            "rotation_ahead": rotation_ahead,
            "rotation_wanted": rotation_wanted,
            "rotation_unconfirmed": rotation_unconfirmed,
            "rotation_supplied": rotation_supplied,
            "rotation_made": rotation_made,
            "rotation_rejected": rotation_rejected,
            "vault_edited": vault_edited,
        }
