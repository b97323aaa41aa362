"""A dump restored: into a database beside the one in use, checked, and then put in its place. The one from before stays under another name."""

from __future__ import annotations

import copy
import json
import os
import re
import time

from senex_backup import around, dump, fetch, undo
from senex_backup.around import CLUSTER
from senex_backup.common import BackupError, NotNow, Settings, need, rows, say, server, sql
from senex_backup.filling import fill, no_rights_gained
from senex_backup.postgresql import amcheck, contents, dump_file, psql, sequences

RAISE = "raise"  # what becomes of sequences, unless the plan says otherwise


def chosen(settings: Settings, name: str) -> str:
    """Path of a dump by its name; `newest` is the newest of any reason."""
    directory = settings.directory(dump.DIRECTORY)
    there = dump_file.dumps(directory)
    wanted = dump_file.newest({one: dump_file.timestamp_of(one) for one in there}) if name == "newest" and there else os.path.basename(name)
    if wanted not in there:
        raise BackupError(f"there is no dump {name} in {directory}: see {settings.home}/bin/backup list, and backup fetch for those off the host")
    return os.path.join(directory, wanted)


def plan(settings: Settings, name: str, fetched: bool = False) -> dict:
    """What a restore would do; a dump that is damaged ends it here, before anything has changed."""
    if undo.is_meant(settings, name):
        return undo.plan(settings, name)
    came = fetch.read(settings, "fetched.json") if fetched else {}
    # This host may have made newer ones, of its own empty database
    path = chosen(settings, came.get("dump") or name if name == "newest" else name)
    dump_file.verify(path)
    facts, database = dump_file.facts(path), settings["database"]["name"]
    version = int(sql(settings, "show server_version_num;", CLUSTER))
    if facts.get("server_version", version) // 10000 > version // 10000:
        raise BackupError(
            f"{os.path.basename(path)} is of PostgreSQL {facts['server_version'] // 10000}, and {version // 10000} runs here: restore it on that one"
        )
    size = facts.get("database_bytes") or os.path.getsize(path) * 10
    need(os.path.join(settings.home, "data"), int(size * 1.2), f"the restored database beside {database}")
    stamp = time.strftime("%Y%m%d%H%M%S", time.gmtime())
    now = int(sql(settings, f"select pg_database_size('{database}');", CLUSTER))
    made = time.strftime("%F %T UTC", time.gmtime(dump_file.timestamp_of(os.path.basename(path))))
    counted = facts.get("tables", {})
    return {
        "dump": path, "made": made, "rows": sum(counted.values()), "tables": len(counted), "database": database, "database_bytes": now,
        "restored": f"{database}_restore_{stamp}", "aside": f"{database}_before_restore_{stamp}", "machine": came.get("machine"), "source": came.get("copy"),
        "roles": around.missing(settings, facts), "others": around.others(settings),
    }  # fmt: skip


def load(settings: Settings, wanted: dict) -> dict:
    """Restore into a new database and check it; nothing of it stays where that fails."""
    if wanted.get("back"):
        allow(settings, wanted["database"])
        return undo.load(settings, wanted)
    path, new = wanted["dump"], wanted["restored"]
    began = time.monotonic()
    dump_file.verify(path)
    allow(settings, settings["database"]["name"])
    sweep(settings, wanted["database"])
    filled, checked = into(settings, path, new)
    seconds = round(time.monotonic() - began, 1)
    say(f"{os.path.basename(path)} is restored in {new} and checked: {', '.join(checked)}; {seconds} s")
    return {**wanted, "checked": checked, "load_seconds": round(filled - began, 1), "seconds": seconds}


def sweep(settings: Settings, database: str) -> None:
    """Restored databases that never took their place: of a run that was killed, or whose server had no room even to drop them."""
    for (name,) in rows(settings, "select datname from pg_database", CLUSTER):
        if re.fullmatch(rf"{re.escape(database)}_restore_\d{{14}}", name):
            sql(settings, f"drop database if exists {around.quoted(name)} with (force);", CLUSTER)
            say(f"{name}, which an earlier restore left, is removed")


def into(settings: Settings, path: str, new: str) -> tuple[float, list[str]]:
    """A new database with what a dump holds and what belongs around it: when it was filled, and what was compared."""
    facts = dump_file.facts(path)
    roles = around.missing(settings, facts)
    around.make_roles(settings, facts, roles)
    try:
        around.create(settings, new, facts)
        try:
            with no_rights_gained(settings, path):
                fill(settings, path, new)
                filled = time.monotonic()
                checked = check(settings, facts, new)
            around.dress(settings, new, facts)
        except BaseException:
            without(settings, f"""drop database if exists "{new}" with (force);""")
            raise
    except BaseException:
        for role in roles:
            without(settings, f"drop role {around.quoted(role)};")
        raise
    return filled, checked + ([f"{len(roles)} roles made anew ({', '.join(roles)}), without passwords"] if roles else [])


def without(settings: Settings, text: str) -> None:
    """Take back what a restore that failed has made. A server that is gone by now hides no reason: the next restore begins with that."""
    try:
        sql(settings, text, CLUSTER)
    except BackupError as trouble:
        say(f"<4>{text.rstrip(';')} was not done: {trouble}")


def prove(settings: Settings, name: str, container: str) -> dict:
    """A drill: the dump restored in a server that has nothing yet, as on a new host. The database has its own name there."""
    path = chosen(settings, name)
    facts, database = dump_file.facts(path), {**settings["database"], "container": container}
    there = copy.copy(settings)
    there.given = {**settings.given, "database": database}
    try:
        need(settings.home, int((facts.get("database_bytes") or os.path.getsize(path) * 10) * 1.2), "the restored dump")
    except BackupError as error:
        raise NotNow(str(error)) from error
    dump_file.verify(path)
    own = {"options": "login", "member of": [], "settings": []}
    owner = {"roles": {database["owner"]: own}}  # a dump of before names no roles
    around.make_roles(there, owner, around.missing(there, owner) if database["owner"] not in (facts.get("roles") or {}) else [])
    _, checked = into(there, path, database["name"])
    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(dump_file.timestamp_of(os.path.basename(path))))
    return {"dump": os.path.basename(path), "made": made, "bytes": os.path.getsize(path), "rows": sum(facts.get("tables", {}).values()), "checked": checked}


def check(settings: Settings, facts: dict, new: str) -> list[str]:
    """Compare with what was written beside the dump; what was compared."""
    checked = []
    if facts.get("tables") is not None:
        script = "\n".join((contents.COUNTS, contents.SEQUENCES, contents.EXTENSIONS, around.OBJECTS))
        found = rows(settings, script, new, timeout=3600)
        counts = {name: int(count) for kind, name, count in found if kind == "T"}
        wrong = [f"{name} has {counts.get(name)} rows instead of {number}" for name, number in facts["tables"].items() if counts.get(name) != number]
        wrong += [f"{name} was not in the dump" for name in counts if name not in facts["tables"]]
        values = {name: int(value) for kind, name, value in found if kind == "S"}
        for name, (low, high) in facts["sequences"].items():
            if not low <= values.get(name, -1) <= high:
                wrong.append(f"sequence {name} is at {values.get(name)} instead of {high}")
        there = {name for kind, name, _ in found if kind == "E"}
        wrong += [f"extension {name} is missing" for name in facts["extensions"] if name not in there]
        objects = {name: int(count) for kind, name, count in found if kind == "O"}
        wrong += [f"{name}: {objects.get(name)} instead of {count}" for name, count in facts.get("objects", {}).items() if objects.get(name) != count]
        if wrong:
            raise BackupError(f"the restored database is not what was dumped: {'; '.join(wrong[:10])}")
        checked += [f"{sum(counts.values())} rows in {len(counts)} tables", f"{len(values)} sequences", f"{len(there)} extensions"]
        checked += [f"{count} {name}" for name, count in facts.get("objects", {}).items() if count]
    if sql(settings, amcheck.AVAILABLE, new) == "1":
        script = amcheck.of_indexes(sql(settings, amcheck.SCHEMA, new))
        if said := psql.impostors([name for (name,) in rows(settings, psql.IMPOSTORS, new)]):
            raise BackupError(said)
        checked.append(f"{sql(settings, script, new, timeout=7200, path=True)} indexes by amcheck")
    sql(settings, "analyze;", new, timeout=3600, path=True)
    return checked


def raise_sequences(settings: Settings, database: str, new: str) -> None:
    """Numbers that the database in use has handed out since are not handed out again. One that does not answer may be why this is done."""
    try:
        numbers = sequences.raised(*(sequences.held(rows(settings, sequences.HELD, name)) for name in (database, new)))
        if numbers:
            sql(settings, sequences.script(numbers), new)
            say(f"sequences go on where {database} had come to: {', '.join(f'{name} at {number}' for name, number in sorted(numbers.items()))}")
    except (BackupError, ValueError) as error:
        say(f"sequences are as restored: {error}")


def swap(settings: Settings, wanted: dict) -> dict:
    """The restored database takes the name of the one in use, which keeps its data under another. Both at once, or neither."""
    database, new, aside = wanted["database"], wanted["restored"], wanted["aside"]
    keep_out = f"""alter database "{database}" allow_connections false;
    select count(pg_terminate_backend(pid)) from pg_stat_activity where datname in ('{database}', '{new}') and pid <> pg_backend_pid();"""
    if wanted.get("sequences", RAISE) == RAISE:
        raise_sequences(settings, database, new)
    try:
        sql(settings, keep_out, CLUSTER)
        for attempt in range(20):  # a session that was told to end takes a moment
            try:
                sql(settings, f"""begin; alter database "{database}" rename to "{aside}"; alter database "{new}" rename to "{database}"; commit;""", CLUSTER)
                break
            except BackupError:
                if attempt == 19:
                    raise
                time.sleep(0.5)
    except BaseException as error:
        raise BackupError(f"{error} {named(settings, database, new, aside)}") from error
    try:
        allow(settings, aside)
        if wanted["machine"]:
            fetch.take_over(settings, wanted["machine"], "postgresql")
    except (BackupError, OSError) as error:
        raise BackupError(f"{database} is the restored database now, and the one from before is kept as {aside}; what was to follow failed: {error}") from error
    say(f"{database} is the restored database now; the one from before is kept as {aside}")
    return wanted


def named(settings: Settings, database: str, new: str, aside: str) -> str:
    """Which database has the name after a swap that failed, and whoever may connect to it may do so again.

    Both names change at once, or neither; whether they have, a server that ended over it can only say when it is back.
    """
    kept = f"if there is a database {aside}, that is the one from before, and {database} is the restored one; if there is none, {database} is what it was"
    try:
        swapped = any(name == aside for (name,) in rows(settings, "select datname from pg_database", CLUSTER))
        allow(settings, database)
        if swapped:
            allow(settings, aside)
    except (BackupError, OSError, ValueError) as trouble:
        allowed = f"""senex psql -U {settings["database"]["role"]} -d {CLUSTER} -c 'alter database "{database}" allow_connections true'"""
        return (
            f"PostgreSQL does not answer: {trouble} When it does (senex status says what stops it), senex psql -l shows which is which: {kept}. Then: {allowed}"
        )
    if swapped:
        return f"{database} is the restored database now, and the one from before is kept as {aside}"
    return f"{database} is what it was; {new} holds what was restored"


def allow(settings: Settings, database: str) -> None:
    """Whoever may connect may do so again; a swap that was killed has left it closed."""
    sql(settings, f"""alter database "{database}" allow_connections true;""", CLUSTER)


def step(settings: Settings, which: str, argument: str, fetched: bool = False) -> dict:
    """One of the three, each told what the one before it found."""
    if which == "plan":
        return plan(settings, argument, fetched)
    wanted = json.loads(argument)
    if which == "load":
        server(settings).execute("pg_isready", "-q", "-h", "127.0.0.1")
        return load(settings, wanted)
    around.carry_over(settings, wanted["database"], wanted["restored"])
    return swap(settings, wanted)
