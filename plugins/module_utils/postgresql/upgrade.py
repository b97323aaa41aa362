"""PostgreSQL's next major version: a new cluster beside the old, filled by the new version's own pg_dump, compared, and then put in its place."""

from __future__ import annotations

import contextlib
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.senex.trader.plugins.module_utils.host import confined, fileset, untrusted
from ansible_collections.senex.trader.plugins.module_utils.host.release_record import Ledger
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import CommandError, ServiceUser
from ansible_collections.senex.trader.plugins.module_utils.postgresql import dump_entries, pre_deploy, psql, upgrade_state
from ansible_collections.senex.trader.plugins.module_utils.postgresql import facts as pg_facts
from ansible_collections.senex.trader.plugins.module_utils.postgresql import server as pg_server
from ansible_collections.senex.trader.plugins.module_utils.postgresql.cluster_swap import ClusterSwap
from ansible_collections.senex.trader.plugins.module_utils.postgresql.server import DUMPS, OLD_SOCKETS, STAGING_CONTAINER, Server, Wanted
from ansible_collections.senex.trader.plugins.module_utils.postgresql.session import target
from ansible_collections.senex.trader.plugins.module_utils.postgresql.upgrade_state import State

# The cluster's own settings, which the new one keeps; 15 and 16 call a column otherwise than 17
LOCALE = """
select pg_encoding_to_char(encoding), datlocprovider, datcollate, datctype, coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale', ''),
  current_setting('data_checksums'), current_setting('wal_segment_size') from pg_database d where datname = 'template0'
"""


MEGABYTE = 1 << 20
# Beside the data: WAL while the new cluster is filled (max_wal_size, with what it may go beyond)
WAL = 1536 * MEGABYTE


def needed(sizes: list[int]) -> int:
    """Bytes for a new cluster with databases of these sizes, beside the old one."""
    return sum(sizes) * 12 // 10 + max(sizes) + WAL


def no_room(upgrade: Upgrade, sizes: list[int]) -> list[str]:
    """What to say where there is too little room on the disk."""
    data = upgrade.wanted.data
    need, free = needed(sizes), upgrade_state.free(data)
    if free >= need:
        return []
    return [f"{os.path.dirname(data)} has {free // MEGABYTE} MB free, and the new cluster beside the old one needs about {need // MEGABYTE} MB: make room first"
            + "".join(f"; {path} is of an earlier attempt" for path in upgrade.state.aside)]  # fmt: skip


def alike(row: list[str], version: int, wanted: bool) -> list[str]:
    """Arguments of a version's initdb for a cluster like the one that LOCALE was asked of; checksums are never given up, and made where they are wanted."""
    encoding, provider, collate, ctype, locale, checksums, segment = row
    options = [f"--encoding={encoding}", f"--lc-collate={collate}", f"--lc-ctype={ctype}"]
    options += {"i": ["--locale-provider=icu", f"--icu-locale={locale}"], "b": ["--locale-provider=builtin", f"--builtin-locale={locale}"]}.get(provider, [])
    # 18 makes them where nobody says otherwise, and those before have no word for that
    options += ["--data-checksums"] if wanted or checksums == "on" else ["--no-data-checksums"] if version >= 18 else []
    return [*options, f"--wal-segsize={int(segment.removesuffix('GB')) * 1024 if segment.endswith('GB') else segment.removesuffix('MB')}"]


@contextlib.contextmanager
def leased(user: ServiceUser, identity: str, step: str):
    """Signs of life while something takes long. Where another run has taken the lock, this one loses its server, and so ends."""
    ledger = Ledger()
    with ledger.heartbeat(identity, step, lost=lambda: user.podman("kill", STAGING_CONTAINER, check=False)):
        yield
    ledger.renew(identity, step)


class Upgrade:
    """The steps, in the order of the playbook."""

    def __init__(self, user: ServiceUser, wanted: Wanted, identity: str):
        self.user, self.wanted, self.identity = user, wanted, identity
        self.state = State()
        self.exchange = ClusterSwap(user, wanted, self.state)
        self.new, self.dumps = f"{wanted.data}.upgrade", f"{wanted.data}.upgrade.dump"
        self.old = Server(user, wanted)
        self.jobs = min(8, os.cpu_count() or 1)

    @contextlib.contextmanager
    def _undone(self):
        """Whatever goes wrong, what served before serves on."""
        try:
            yield
        except (CommandError, OSError) as error:
            reason = pg_server.last_words(error) if isinstance(error, CommandError) else str(error)
            try:
                self.exchange.roll_back()
            except (CommandError, OSError) as trouble:
                told = [reason.rstrip("."), f"And what served before is not back: {trouble}", self.exchange.whereabouts()]
                raise OSError(". ".join([*filter(None, told), "Run the same command again when that is cured"])) from error
            raise OSError(f"{reason.rstrip('.')}. PostgreSQL {upgrade_state.major_of(self.wanted.data)} serves as before; {self.left()}") from error

    def left(self) -> str:
        """What there is of new clusters."""
        return f"kept, as a server has run on it: {', '.join(self.state.aside)}" if self.state.aside else "nothing of the new cluster is left"

    # Beside what serves
    def prepare(self, keep: int) -> dict:
        """All that can be found out and done before anything stops: image, roles, extensions, every object, the backup; then an empty cluster."""
        with self.state.alone(), leased(self.user, self.identity, "prepare"):
            if self.state.phase:
                self.exchange.roll_back()
            self._pull(self.wanted.image)
            self._of_its_version(self.wanted.image)
            for path in (self.new, self.dumps):
                if untrusted.kind(path, follow=False):
                    raise OSError(f"{path} is in the way, and no upgrade made it: move it elsewhere")
            began = time.monotonic()
            self.state.put(phase="making", making=self.new, dumps=self.dumps, to=self.wanted.version, image=self.wanted.image)
            with self._undone():
                self._make()
                self._dry_run_schema()
                self._make()
                made = self._dump(keep)
                # The plan may be old by now, and the dump took its share
                if short := no_room(self, [int(size) for (size,) in self.old.rows("select pg_database_size(oid) from pg_database")]):
                    raise OSError(short[0])
        return {**made, "seconds": round(time.monotonic() - began, 1)}

    def backup(self, keep: int) -> dict:
        """Before the way back: what was written since the upgrade is in a dump as well as in the directory that is kept."""
        with self.state.alone(), leased(self.user, self.identity, "backup"):
            if self.state.phase == "exchanging":
                self.exchange.roll_back()
            self._pull(self.state.kept["image"])  # may have been pruned
            return self._dump(keep)

    def _dump(self, keep: int) -> dict:
        place = os.path.join(self.user.home, "backups/postgresql")
        return {"dump": pre_deploy.dump(self.user, self.wanted.database, self.old.role, place, keep, self.wanted.container)}

    def _pull(self, image: str) -> None:
        if not self.user.image_ids([image]):
            result = self.user.podman("pull", "--quiet", image, check=False, timeout=1800)
            if result.returncode:
                raise OSError(self.user.cannot_pull("postgresql_image", image, result.stderr))

    def _of_its_version(self, image: str) -> None:
        closed = ("--pull=never", "--network=none", "--read-only", *confined.OPTIONS)
        said = self.user.podman("run", "--rm", *closed, "--entrypoint=postgres", image, "--version").stdout
        found = re.search(r"(\d+)", said)
        if not found or int(found[1]) != self.wanted.version:
            raise OSError(f"postgresql_image: {image} is {said.strip()}, and postgresql_version asks for {self.wanted.version}: name an image of that version")

    def _make(self) -> None:
        """An empty cluster like the old one, and its server."""
        pg_server.remove(self.user)
        pg_server.discard(self.user, self.wanted, self.new, self.dumps)
        self.user.make_directory(self.dumps, 0o700, self.wanted.uid, None)
        pg_server.owned_do(self.user, "mark", self.dumps)
        pg_server.initialise(self.user, self.wanted, self.new, alike(self.old.rows(LOCALE)[0], self.wanted.version, self.wanted.checksums))
        self.fresh = pg_server.start(self.user, self.wanted, self.new, self.dumps)

    def _dry_run_schema(self) -> None:
        """Roles, extensions and every object without its rows: what cannot be restored is known before anything stops."""
        there = {name for (name,) in self.fresh.rows("select name from pg_available_extensions")}
        for database in self.old.databases():
            missing = {name for (name,) in self.old.rows("select extname from pg_extension", database)} - there
            if missing:
                raise OSError(f"postgresql_image: {self.wanted.image} has no extension {', '.join(sorted(missing))}, which database {database} uses: "
                              "take an image that has it, or drop it there")  # fmt: skip
        self._roles()
        for number, database in enumerate(self.old.databases()):
            self._copy(database, f"{DUMPS}/{number}", "--schema-only")

    def _roles(self) -> None:
        """Roles with their passwords. The superuser is there already, by another statement than the others."""
        words = ["pg_dumpall", f"--host={OLD_SOCKETS}", f"--username={self.old.role}", "--no-password", "--globals-only"]
        first = self.wanted.superuser
        lines = untrusted.records(self.fresh.execute(*words).stdout)
        script = "".join(f"{line}\n" for line in lines if line not in (f"CREATE ROLE {first};", f'CREATE ROLE "{first}";'))
        self.fresh.program("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "postgres", stdin=script)

    def _copy(self, database: str, place: str, *options: str) -> None:
        """A database from the old server to the new one, several tables at a time."""
        dump = ["pg_dump", f"--host={OLD_SOCKETS}", f"--username={self.old.role}", "--no-password", f"--dbname={target(database)}"]
        self.fresh.execute(*dump, "--format=directory", f"--jobs={self.jobs}", "--compress=1", "--no-sync", f"--file={place}", *options)
        if database == "postgres":
            self.fresh.rows("drop database postgres", "template1")
        self._restore(database, place)
        self.fresh.execute("rm", "-rf", place, f"{place}.list")

    def _restore(self, database: str, place: str) -> None:
        """Each entry of a dump by whom it is safe: what the application has written runs in no session of the superuser's."""
        whole = database != "template1"  # that one is there already
        listing = self.fresh.execute("pg_restore", "--list", *(["--create"] if whole else []), place).stdout
        steps = dump_entries.steps(listing, self.wanted.owner)
        if whole:
            self._run(place, ["--create", f"--dbname={target('template1')}"], next(entries for stage, _, entries in steps if stage == "database"))
        with self._let_in(database) as jobs:
            given = False
            for stage, who, entries in steps:
                filling = stage == "main" and who == dump_entries.APPLICATION
                if filling or (given and stage != "main"):
                    self._rights(database, dump_entries.GIVE if filling else dump_entries.TAKE)
                    given = filling
                if stage != "database":
                    self._run(place, [f"--dbname={target(database)}"], entries, *([jobs, self.wanted.owner] if who == dump_entries.APPLICATION else []))
            if given:
                self._rights(database, dump_entries.TAKE)

    def _run(self, place: str, words: list[str], entries: list[str], jobs: int = 0, role: str = "") -> None:
        """Some entries of a dump."""
        self.fresh.execute("sh", "-c", 'cat > "$1"', "sh", f"{place}.list", stdin="\n".join(entries) + "\n")
        several = [f"--jobs={min(jobs or self.jobs, len(entries))}", "--exit-on-error"]
        self.fresh.program("pg_restore", *several, *words, f"--use-list={place}.list", place, role=role)

    def _rights(self, database: str, text: str) -> None:
        self.fresh.rows(dump_entries.script(text, psql.argument(self.wanted.owner)), database)

    @contextlib.contextmanager
    def _let_in(self, database: str):
        """The application's role may connect to a database meanwhile, whatever is so in the old cluster; how many times at once."""
        asked = """select d.datname, r.rolname, d.datconnlimit, r.rolconnlimit, has_database_privilege(r.oid, d.oid, 'connect'), quote_ident(d.datname),
          quote_ident(r.rolname) from pg_database d, pg_roles r"""
        role = self.wanted.owner
        found = [row for row in self.fresh.rows(asked, "template1") if row[:2] == [database, role]]
        if not found:
            raise OSError(f"postgresql_user: there is no role {role}, which would fill the new cluster's databases; run site.yml first")
        _, _, most, limit, may, name, who = found[0]
        opened, before = ([], []) if most == "-1" else ([f"alter database {name} connection limit -1"], [f"alter database {name} connection limit {most}"])
        if may != "t":
            opened.append(f"grant connect on database {name} to {who}")
            before.append(f"revoke connect on database {name} from {who}")
        if opened:
            self.fresh.rows("; ".join(opened), "template1")
        yield max(1, min(self.jobs, int(limit) - 1)) if int(limit) >= 0 else self.jobs
        if before:
            self.fresh.rows("; ".join(before), "template1")

    # While the application rests
    def copy_and_switch(self) -> dict:
        """Copy, compare, and put the new cluster in the place of the old."""
        times, clock = {}, time.monotonic()

        def took(what: str) -> None:
            nonlocal clock
            times[what], clock = round(time.monotonic() - clock, 1), time.monotonic()

        with self.state.alone(), leased(self.user, self.identity, "copy"), self._undone():
            self.fresh = Server(self.user, self.wanted, STAGING_CONTAINER)
            files = upgrade_state.snapshot(self.user)
            self.state.put(files=files)
            self._block_writes()
            before = pg_facts.writes(self.old)
            with ThreadPoolExecutor() as pool:
                counting = pool.submit(pg_facts.facts, self.old)
                self._roles()
                for number, database in enumerate(self.old.databases()):
                    self._copy(database, f"{DUMPS}/{number}")
                took("copy")
                held = counting.result()
            wrong = pg_facts.differences(held, pg_facts.facts(self.fresh))
            if wrong:
                raise OSError(f"the new cluster is not what the old one is: {'; '.join(wrong[:10])}")
            took("compare")
            pg_facts.amcheck(self.fresh, self.jobs)
            took("amcheck")
            self.fresh.program("vacuumdb", "--all", "--analyze-only", "--quiet", f"--jobs={self.jobs}", f"--maintenance-db={target('template1')}")
            took("analyze")
            self._assert_no_writes(before)
            pg_server.finish(self.user, self.wanted, self.new)
            took("sync")
            # Sync and the archive took their time, and who is inside the container is not kept out by the fence
            self.exchange.swap_in(self.exchange.describe(files, held), self.new, still=lambda: self._assert_no_writes(before))
            took("exchange")
        return {"checked": pg_facts.summary(held), "times": times}

    def _block_writes(self) -> None:
        """From now on nobody comes in from outside: what he wrote would be missing in the copy."""
        path = os.path.join(self.wanted.configuration, "pg_hba.conf")
        content, owner = fileset.read(path)
        if content is None:
            raise OSError(f"{path} is missing: run site.yml, which writes it")
        # The service user's file: whatever is in it, the rest of the upgrade is undone in order
        kept = [line for line in untrusted.records(content.decode(errors="replace")) if line.split()[:1] == ["local"]]
        text = "\n".join(["# An upgrade is under way: nobody comes in from outside", *kept, "host all all all reject", ""])
        self.user.writes(fileset.swap, [(path, text.encode(), owner)])
        self.old.rows("select pg_reload_conf()")
        # Each is waited for: what it wrote last is counted when it ends
        self.old.rows("select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity where client_addr is not null")

    def _assert_no_writes(self, before: dict) -> None:
        after = pg_facts.writes(self.old)
        if after != before:
            where = ", ".join(name for name in before if after.get(name) != before[name])
            raise OSError(f"somebody wrote to the old server while it was copied (database {where}): see who has a session in its container, and run it again")
