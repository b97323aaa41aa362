"""What an upgrade of PostgreSQL would do, and what speaks against it. Nothing is changed here."""

from __future__ import annotations

import os
import re
import subprocess
import time

from ansible_collections.senex.trader.plugins.module_utils.host import untrusted
from ansible_collections.senex.trader.plugins.module_utils.postgresql import facts as pg_facts
from ansible_collections.senex.trader.plugins.module_utils.postgresql import upgrade_state
from ansible_collections.senex.trader.plugins.module_utils.postgresql.upgrade import MEGABYTE, Upgrade, needed, no_room

# What docs/operations/upgrade.md says was measured, on two cores that were busy with other things
FIXED_SECONDS, BYTES_A_SECOND = 80, 3 * MEGABYTE
SIZES = """
select datname, pg_database_size(oid), datallowconn or datname = 'template0', dattablespace = (select oid from pg_tablespace where spcname = 'pg_default')
from pg_database order by 1
"""
# What pg_dump does not see, or leaves without effect
NOT_COPIED = """
select 'prepared transaction ' || regexp_replace(gid, '[^ -~]', '?', 'g'), 'commit it or roll it back' from pg_prepared_xacts
union all select 'logical replication slot ' || slot_name, 'end what reads it, and drop it' from pg_replication_slots where slot_type = 'logical'
union all select 'subscription ' || regexp_replace(subname, '[^ -~]', '?', 'g'), 'drop it, and make it again afterwards' from pg_subscription order by 1
"""


def plan(upgrade: Upgrade, back: bool) -> dict:
    """Where it would go from here: forward, back, finish (a run ended before it had done all), or none."""
    state, wanted = upgrade.state, upgrade.wanted
    disk = upgrade_state.major_of(wanted.data)
    broken = state.phase == "exchanging" and not upgrade.exchange.is_committed()
    if broken:
        disk = state.data["pending"]["major"]
    if disk is None:
        raise OSError(f"postgresql_data_directory: there is no cluster in {wanted.data}: mount the disk that holds it, or put the path right; "
                      "on a host that never had one site.yml makes one, of any version")  # fmt: skip
    answer = {"from": disk, "to": wanted.version, "resumed": state.phase != "", "interrupted": state.phase, "kept": state.kept.get("data", ""),
              "aside": state.aside}  # fmt: skip
    if state.phase == "finishing" or (state.phase == "exchanging" and not broken):
        return {**answer, "way": "finish", "to": disk, "returned": _returned(state, disk)}
    if back:
        return {**answer, "way": "back", **_back(upgrade, disk, broken)}
    if disk == wanted.version:
        return {**answer, "way": "undo" if state.phase else "none"}
    if disk > wanted.version:
        there = f"-e upgrade_back=true leads back to {state.kept['data']}" if state.kept.get("major") == wanted.version else "there is no way down"
        raise OSError(f"postgresql_version: {wanted.version} is asked for, and the data is of PostgreSQL {disk}: {there}. Set it to {disk} otherwise")
    return {**answer, "way": "forward", **({"lines": []} if state.phase else _forward(upgrade, disk))}


def _returned(state: upgrade_state.State, disk: int) -> bool:
    """Whether what is not finished is a rollback: its cluster has unit and configuration of its own, and the inventory still asks for the other version.

    One that an earlier version of the collection began says it by the version that it keeps.
    """
    return bool(state.data.get("returned")) or (state.data.get("kept") or {}).get("major", 0) > disk


def _forward(upgrade: Upgrade, disk: int) -> dict:
    wanted = upgrade.wanted
    rows = upgrade.old.rows(SIZES)
    problems = [f"database {name} takes no connections: drop it, or let it take some" for name, _size, open_, _default in rows if open_ == "f"]
    spaces = [name for (name,) in upgrade.old.rows("select spcname from pg_tablespace where spcname !~ '^pg_'")]
    if spaces:
        problems.append(f"tablespace {', '.join(spaces)}: move its tables to pg_default and drop it; the new cluster has one directory")
    uid = upgrade.exchange.service.inspect("{{.Config.User}}")
    if uid != str(wanted.uid):
        problems.append(f"postgresql_container_uid: {wanted.uid} in the new image, {uid} now: take the same variant (Alpine or Debian) in both versions")
    if upgrade.old.role != wanted.superuser:
        problems.append(f"senex_database_superuser: there is no role {wanted.superuser} here yet, and the application's is the superuser: run site.yml first, "
                        f"with postgresql_version {disk}")  # fmt: skip
    problems += [f"{name} would be missing in the new cluster: {do}" for name, do in upgrade.old.rows(NOT_COPIED)]
    problems += _too_old_client(upgrade, wanted.version)
    sizes = [int(size) for _name, size, _open, _default in rows]
    need, free = needed(sizes), upgrade_state.free(wanted.data)
    problems += no_room(upgrade, sizes)
    if problems:
        raise OSError("the upgrade cannot begin, nothing was changed: " + "; ".join(problems))
    there = bool(upgrade.user.image_ids([wanted.image]))
    names = [name for name, *_rest in rows if not name.startswith("template")]
    extensions = sorted({f"{name} {version}" for base in upgrade.old.databases() for name, version in
                         upgrade.old.rows("select extname, extversion from pg_extension", base)})  # fmt: skip
    lines = [
        f"PostgreSQL {disk} -> {wanted.version}, image {wanted.image} ({'here already' if there else 'pulled first'})",
        f"databases: {', '.join(names)}; {sum(sizes) // MEGABYTE} MB in all; extensions: {', '.join(extensions)}",
        f"disk: about {need // MEGABYTE} MB needed, {free // MEGABYTE} MB free",
        "1. while the application serves: a rehearsal with roles, extensions and every object in an empty new cluster; a dump (pre-deploy)",
        f"2. the application stops, and nobody comes in from outside: about {FIXED_SECONDS + sum(sizes) // BYTES_A_SECOND} s",
        f"3. everything is copied with the new version's pg_dump ({upgrade.jobs} jobs), compared, looked through by amcheck, analyzed",
        f"4. {wanted.data} is renamed to {os.path.basename(wanted.data)}.{disk}-TIME and kept, the new cluster takes its place, the application starts",
        "5. the archive for point-in-time recovery is kept beside a new one, which begins with a base backup",
    ]
    return {"lines": lines, "bytes": sum(sizes), "need": need, "free": free}


def _too_old_client(upgrade: Upgrade, version: int) -> list[str]:
    """Barman takes its base backups with the host's own pg_basebackup."""
    if not untrusted.kind(os.path.join(upgrade.user.home, "bin/pitr")):
        return []
    said = subprocess.run(["/usr/bin/pg_basebackup", "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"(\d+)", said)
    if found and int(found[1]) >= version:
        return []
    return [f"pitr_packages: pg_basebackup of this host is of PostgreSQL {found[1] if found else '(none)'}: install postgresql-client-{version} or newer"]


def _back(upgrade: Upgrade, disk: int, broken: bool) -> dict:
    kept = upgrade.state.kept
    if broken and upgrade.state.data.get("returns"):  # the way back itself: what serves is put in order before the next attempt
        return {"lines": [], "to": upgrade.state.data["kept"]["major"]}
    if broken:
        raise OSError("upgrade_back: an upgrade was cut short; run the playbook without it first")
    if not kept:
        raise OSError("upgrade_back: no cluster from before an upgrade is kept on this host; restore a dump or a moment with playbooks/restore.yml")
    newer = [line for line in pg_facts.differences(kept["facts"], pg_facts.facts(upgrade.old)) if line.startswith(("table", "sequence"))]
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(kept["at"]))
    lines = [
        f"PostgreSQL {disk} -> {kept['major']}, the cluster that served until {since}: {kept['data']}, image {kept['image']}",
        f"NOT in it: everything that was written since {since}",
        *[f"  {line}" for line in newer[:20]],
        *([f"  and {len(newer) - 20} more"] if len(newer) > 20 else []),
        f"1. a dump (pre-deploy) of what serves now; {upgrade.wanted.data} is kept as {os.path.basename(upgrade.wanted.data)}.{disk}-TIME",
        "2. the application stops; the kept cluster takes its place, is compared with what it held then and looked through by amcheck",
        "3. the application starts; migrations that it lacks are applied; its archive for point-in-time recovery goes on",
    ]
    return {"lines": lines, "to": kept["major"]}
