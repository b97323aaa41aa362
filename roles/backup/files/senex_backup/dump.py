"""Logical dumps: plain SQL, compressed, proven whole, with what a restore is checked against beside them."""

from __future__ import annotations

import os
import secrets
import subprocess

from senex_backup import around
from senex_backup.common import PODMAN, BackupError, Settings, need, rows, say, server
from senex_backup.postgresql import contents, dump_file, psql
from senex_backup.postgresql.session import PATIENT_17, target

DIRECTORY = "postgresql"

# Tables whose file is another than at the moment: TRUNCATE and ALTER TABLE write a new one, and whoever looks from before sees it empty
ANEW = """select c.oid::regclass from pg_class c where c.relkind in ('r', 'm') and c.relpersistence <> 't' and c.relfilenode <> 0
and pg_relation_filenode(c.oid) <> c.relfilenode;"""


class Moment:
    """A transaction that shows the database at one moment, and lets pg_dump show the same."""

    def __init__(self, settings: Settings):
        database = settings["database"]
        there = server(settings)
        argv = [PODMAN, *there.words(*there.client("psql", *psql.ROWS, "-d", target(database["name"]), role=database["role"]))]
        self.errors = dump_file.errors_apart()
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors)
        [[self.name]] = self.ask(f"{PATIENT_17}begin isolation level repeatable read, read only;\nselect pg_export_snapshot();")
        self.sequences = {name: int(value) for _, name, value in self.ask(contents.SEQUENCES)}

    def ask(self, text: str) -> list[list[str]]:
        """The rows of a script."""
        said, end = b"", secrets.token_hex(16)  # which no name in the database has as a line of its own
        try:
            self.process.stdin.write(f"{text}\n\\echo {end}\n".encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has said why on its other stream
        while (line := self.process.stdout.readline()) != f"{end}\n".encode():
            if not line:
                self.process.wait()
                raise BackupError(f"PostgreSQL does not answer: {dump_file.last_words(self.errors)[-500:]}")
            said += line
        return psql.rows(said.decode(errors="replace"))

    def facts(self) -> dict:
        """Rows of each table, sequences (which no transaction holds still: before and after), extensions, and what is not in the dump itself."""
        anew = [name for (name,) in self.ask(ANEW)]
        if anew:
            raise BackupError(f"{', '.join(anew[:10])}: written anew while the dump began, which holds nothing of it; make another when the migration is done")
        found = self.ask("\n".join((contents.COUNTS, contents.SEQUENCES, contents.EXTENSIONS, around.ROLES, around.DATABASE, around.OBJECTS)))
        after = {name: int(value) for kind, name, value in found if kind == "S"}
        return {
            "tables": {name: int(count) for kind, name, count in found if kind == "T"},
            "sequences": {name: [low, after.get(name, low)] for name, low in self.sequences.items()},
            "extensions": {name: version for kind, name, version in found if kind == "E"},
            **around.described(found),
        }

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.errors.close()


def make(settings: Settings, reason: str, keep: int | None = None) -> dict:
    """A dump of now; older ones of its reason go when their time is over."""
    directory, database = settings.directory(DIRECTORY), settings["database"]
    words = """select pg_database_size(current_database()), current_setting('server_version_num'), (select system_identifier from pg_control_system()),
      current_setting('server_encoding');"""
    [[size, version, cluster, encoding]] = rows(settings, words)
    need(directory, expected(directory, int(size)), "the dump")
    path = dump_file.path_for(directory, reason)
    before = dump_file.dumps(directory)[-1:]
    moment = Moment(settings)
    try:
        argv = dump_file.command(database["container"], database["role"], target(database["name"]), f"--encoding={encoding}", f"--snapshot={moment.name}")
        made = dump_file.write(path, argv, details=lambda: {
            "format": 1, "database": database["name"], "database_bytes": int(size), "server_version": int(version), "cluster": cluster, "reason": reason,
            **moment.facts(),
        })  # fmt: skip
    finally:
        moment.close()
    rule = settings["retention"][reason]
    was = dump_file.facts(os.path.join(directory, before[0])).get("cluster", cluster) if before else cluster
    if was != cluster:  # after a restore or an upgrade, or where somebody's disk is not mounted
        say(f"<4>this is the first dump of cluster {cluster}; the one before is of cluster {was}: nothing older is removed this time")
    gone = [] if was != cluster else dump_file.prune(directory, reason, int(rule["days"]), int(rule["keep"]) if keep is None else keep, path)
    say(f"{path}: {made['bytes']} bytes, {len(made['tables'])} tables, {made['seconds']} s" + (f"; removed {', '.join(gone)}" if gone else ""))
    if spared := dump_file.richer(directory, path):
        less = (
            f"the dump is whole and kept, and holds less than half the rows of {spared[-1]}{', which is of another cluster' if was != cluster else ''}: "
            f"{len(spared)} dumps from before stay for that. Where what is missing was removed on purpose: {settings.home}/bin/backup accept dump"
        )
        if reason == "daily":
            raise BackupError(less)
        say(f"<4>{less}")
    return {"path": path, "what": path, "bytes": made["bytes"], "sha256": made["sha256"], "removed": gone}


def expected(directory: str, database_bytes: int) -> int:
    """Bytes that a dump will need: a quarter more than the last one, in proportion to the database; its whole size where there is no last one."""
    found = dump_file.dumps(directory)
    last = dump_file.facts(os.path.join(directory, found[-1])) if found else {}
    if last.get("database_bytes"):
        return int(last["bytes"] * 1.25 * max(1.0, database_bytes / last["database_bytes"]))
    return database_bytes
