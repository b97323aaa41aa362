"""A dump restored, and a cluster upgraded: what the application has written into its database runs in no session of the superuser's, on a real server."""

import gzip
import os
import re
import subprocess
import types

import pytest
from ansible_collections.senex.trader.plugins.module_utils.postgresql import dump_entries, session
from ansible_collections.senex.trader.plugins.module_utils.postgresql import facts as pg_facts
from ansible_collections.senex.trader.plugins.module_utils.postgresql import server as pg_server
from ansible_collections.senex.trader.plugins.module_utils.postgresql import upgrade as pg_upgrade
from test_backup_command import command, settings  # noqa: F401  (fixtures)
from test_dump_restored import CONTENT, DATABASE, ROLES, backup, forgotten, free, server  # noqa: F401  (fixtures)
from test_postgresql_roles import OLD, pytestmark, serving  # noqa: F401  (the mark)

SCHEMA = "create schema trap authorization senex; grant usage on schema trap to reports"
# What runs as a superuser leaves a role named after its place
TRAP = """
create function trap.escape(text) returns void language plpgsql as $$ begin
  begin reset role; reset session authorization; exception when others then null; end; -- not where a function of the server's own calls it
  if (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then
    begin execute format('create role %I', 'ran in ' || $1); exception when duplicate_object then null; end;
  end if;
end $$;
create function trap.open(text) returns boolean language plpgsql immutable as $$ begin perform trap.escape($1); return true; end $$;
create function trap.made(text) returns int language sql immutable as 'select trap.open($1)::int';
"""
# Each in an object that runs it while a database is filled
PLACES = {
    "check": "create table trap.held (a text check (trap.open(a))); insert into trap.held values ('x')",
    "generated column": "create table trap.held (a text, b int generated always as (trap.made(a)) stored); insert into trap.held (a) values ('x')",
    "domain": "create domain trap.odd as text check (trap.open(value)); create table trap.held (a trap.odd); insert into trap.held values ('x')",
    "domain of a partition": "create domain trap.odd as text check (trap.open(value)); create table trap.held (a trap.odd) partition by list (a);"
    "create table trap.held_1 partition of trap.held for values in ('x')",
    "aggregate": "create domain trap.odd as text check (trap.open(value)); create function trap.join(trap.odd, text) returns trap.odd language sql"
    " as 'select $1'; create aggregate trap.joined(text) (sfunc = trap.join, stype = trap.odd, initcond = 'x')",
    "index": "create table trap.held (a text); insert into trap.held values ('x'); create index on trap.held (trap.made(a))",
    "materialized view": "create materialized view trap.held as select trap.made('x')",
    "cast of a key": "create type trap.mood as enum ('x'); create function trap.number(trap.mood) returns int language sql immutable"
    " as 'select trap.made($1::text)'; create cast (trap.mood as int) with function trap.number(trap.mood) as implicit;"
    "create table trap.key (id int primary key); insert into trap.key values (1); create table trap.held (a trap.mood); insert into trap.held values ('x');"
    "alter table trap.held add foreign key (a) references trap.key",
    "table of somebody else": "create table trap.held (a text check (trap.open(a))); insert into trap.held values ('x')",
    "table of the superuser": "create table trap.held (a text check (trap.open(a))); insert into trap.held values ('x')",
}
OWNERS = {"table of somebody else": "reports", "table of the superuser": "postgres"}
BY_ITS_OWNER = ("index", "materialized view")  # PostgreSQL itself makes them as their owner


def planted(server, database, other, **more):  # noqa: F811
    """All of them in one database."""
    server.sql(SCHEMA.replace("reports", other), database=database, **more)
    server.sql(TRAP, user="senex", database=database, **more)
    for name, text in PLACES.items():
        for word in ("held_1", "held", "odd", "joined", "join", "mood", "number", "key"):
            text = re.sub(rf"trap\.{word}\b", f'trap."{word} of {name}"', text)
        server.sql(text.replace("'x'", f"'{name}'"), user="senex", database=database, **more)
        if owner := OWNERS.get(name, "").replace("reports", other):
            server.sql(f'alter table trap."held of {name}" owner to {owner}', database=database, **more)


def caught(server):  # noqa: F811
    """Where a function of the application's ran as a superuser."""
    return {name.removeprefix("ran in ") for name in server.sql("select rolname from pg_roles where rolname like 'ran in %'").splitlines()}


@pytest.fixture
def trapped(backup):  # noqa: F811
    """A database whose dump does all that."""
    planted(backup.server, "senex", "reports")
    os.unlink(backup.made)
    backup.made = backup.restore.dump.make(backup.settings, "manual")["path"]
    yield backup
    backup.server.sql("".join(f'drop role "ran in {name}";' for name in caught(backup.server)))


def as_one(server, archive):  # noqa: F811
    """The same, as the superuser all along."""
    words = [*server.command(["env"]), *(f"{name}={value}" for name, value in server.environment("postgres").items())]
    with gzip.open(archive) as packed:
        subprocess.run([*words, "psql", "-XqAt", "-d", "senex"], input=packed.read(), capture_output=True, check=True, cwd="/")


SEEN = """select c.relname, pg_get_userbyid(c.relowner), array(select a::text from unnest(coalesce(c.relacl, acldefault(case when c.relkind = 'S' then 's'
  else 'r' end::"char", c.relowner))) a order by 1) from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where n.nspname in ('trap', 'public', 'trading') and c.relkind <> 'i' order by n.nspname, 1"""
OTHERS = """select nspname, pg_get_userbyid(nspowner), array(select a::text from unnest(coalesce(nspacl, acldefault('n', nspowner))) a order by 1)
  from pg_namespace where nspname in ('trap', 'public', 'trading') order by 1"""
FUNCTIONS = "select proname, proowner::regrole from pg_proc where pronamespace::regnamespace::text = 'trap' order by 1"


def seen(server):  # noqa: F811
    return server.sql(f"{SEEN}; {OTHERS}; {FUNCTIONS}", database="senex")


def test_a_restore_makes_nobody_a_superuser(trapped):
    """And all of it is there again: rows, owners and rights."""
    before = seen(trapped.server)
    trapped.server.sql("drop database senex with (force)")
    trapped.restore.prove(trapped.settings, "newest", "pitr-drill")
    assert not caught(trapped.server) and seen(trapped.server) == before


def test_and_would_by_the_superuser_alone(trapped):
    trapped.server.sql("drop database senex with (force)")
    trapped.server.sql("create database senex owner senex template template0 encoding 'UTF8'")
    as_one(trapped.server, trapped.made)
    assert caught(trapped.server) == {*PLACES} - {*BY_ITS_OWNER}


def test_rights_that_changed_meanwhile_end_a_restore(backup, monkeypatch):  # noqa: F811
    """By whatever way: the database that was filled goes, and the one in use stays."""
    fill = backup.restore.fill

    def filled(*words):
        fill(*words)
        backup.server.sql("grant boss to senex; alter role senex createrole; alter role senex set work_mem = '8MB'")

    monkeypatch.setattr(backup.restore, "fill", filled)
    changed = "role senex; role senex createrole; role senex in role boss; setting work_mem of role senex"
    with pytest.raises(backup.trouble, match=f"rights in this cluster changed meanwhile: {changed}. Look who did that"):
        backup.restore.into(backup.settings, backup.made, "senex_restore_x")
    assert backup.server.sql("select count(*) from pg_database where datname = 'senex_restore_x'") == "0"
    backup.server.sql("revoke boss from senex; alter role senex nocreaterole; alter role senex reset work_mem")


ODD = "it's \\ odd"
HERE = """
create role senex login connection limit 3; create role reader; create role team; grant team to senex;
alter role senex set statement_timeout = '1ms'; alter role senex set role = team;
create database senex owner senex; create database "it's \\ odd" owner reader;
alter database senex set statement_timeout = '1ms'; alter database senex set role = senex;
revoke connect on database senex from public; grant connect on database senex to reader; comment on database senex is 'orders';
"""
MORE = """
create table shared.own (id int references shared.key); comment on table shared.own is 'ours'; comment on function trap.escape(text) is 'a trap';
grant select on shared.own to reader with grant option; select lo_from_bytea(4712, 'a picture'); revoke insert on shared.own from senex;
create table trap."x; Type: FUNCTION; Schema: x; Owner: postg" (a text check (trap.open(a)));
insert into trap."x; Type: FUNCTION; Schema: x; Owner: postg" values ('x');
create table trap."y\u20287; 1259 7 FUNCTION - x postgres" (a text check (trap.open(a)));
insert into trap."y\u20287; 1259 7 FUNCTION - x postgres" values ('x');
"""
LIMITS = "-c statement_timeout=0 -c role=none"


@pytest.fixture(scope="module")
def clusters():
    """One with everything that has an owner, by several owners, and an empty one."""
    with serving("postgres") as old, serving("postgres") as new:
        old.sql(HERE)
        for database in ("senex", ODD, "template1"):
            old.sql(OLD, database=database, PGOPTIONS=LIMITS)
            old.sql("create schema shared authorization reader; grant create, usage on schema shared to senex; create table shared.key (id int primary key);"
                    "alter table shared.key owner to reader; grant references on shared.key to senex", database=database, PGOPTIONS=LIMITS)  # fmt: skip
            planted(old, database, "reader", PGOPTIONS=LIMITS)
            old.sql(MORE, user="senex", database=database, PGOPTIONS=LIMITS)
        old.sql("alter database senex connection limit 0")
        yield old, new


def upgrade_of(old, new):
    """An upgrade's own steps, in the containers of two servers."""
    wanted = types.SimpleNamespace(uid=70, superuser="postgres", owner="senex", version=15, container="postgres")

    def execute(*argv, stdin=None, check=True, **_):
        place = old if f"--host={pg_server.OLD_SOCKETS}" in argv else new
        return place.run([word for word in argv if word != f"--host={pg_server.OLD_SOCKETS}"], check, stdin or "", "postgres")

    made = pg_upgrade.Upgrade.__new__(pg_upgrade.Upgrade)
    made.wanted, made.jobs = wanted, 4
    made.old, made.fresh = (pg_server.Server(None, wanted, sockets=str(one.base)) for one in (old, new))
    made.old.execute = lambda *argv, stdin=None, check=True, **_: old.run(argv, check, stdin or "", "postgres")
    made.fresh.execute = execute
    return made


def dumped(server, database):  # noqa: F811
    """All that pg_dump sees, the database's own properties as well."""
    text = server.run(["pg_dump", "--create", "--dbname", session.target(database)], user="postgres").stdout
    return [line for line in text.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]


def test_an_upgrade_makes_nobody_a_superuser_and_loses_nothing(clusters):
    """Limits of the application's end nothing, and none of its names is taken for what it is not."""
    old, new = clusters
    upgrade = upgrade_of(old, new)
    upgrade._roles()
    for number, database in enumerate(upgrade.old.databases()):
        upgrade._copy(database, f"{new.base}/{number}")
    assert caught(new) == caught(old) == set()
    assert pg_facts.differences(pg_facts.facts(upgrade.old), pg_facts.facts(upgrade.fresh)) == []
    for database in ("senex", ODD, "template1"):
        assert dumped(new, database) == dumped(old, database)


FAKE = "--\n-- Name: x; Type: FUNCTION; Schema: -; Owner: postgres\n--\n\nalter role senex superuser;\n\n"
WRITTEN = rf"""
create schema written;
create function written.a() returns text language sql as $a$select '{FAKE}'::text || $$ {FAKE} $$ where false$a$ ;
create function written.b() returns text language plpgsql as 'begin return E''\''{FAKE}''; end';
comment on function written.b() is 'it''s \{FAKE}';
create function written.c() returns text language sql begin atomic select E'\\''{FAKE}'::text; select '$$'::text; end;
create table written.t ("a
{FAKE[:50]}" text default E'\\''{FAKE}', "$b$" int, "e'" int);
create table written.u ("x'" text check ("x'" <> E'{FAKE}\\'));
insert into written.t values ('{FAKE}', 1, 2), (E'\\.\n{FAKE}', 1, 3);
insert into written.u values ('{FAKE}');
create view written."v
{FAKE[:55]}" as select E'{FAKE}''\\' as "y""'", '/*' as z;
create type written.e as enum ('--', '/*', '$$', 'x'' ');
create schema "x; Type: FUNCTION; Schema: y"; create table "x; Type: FUNCTION; Schema: y".t (a text check (a <> ''));
"""


@pytest.mark.parametrize("strings", ["on", "off"])
def test_nothing_that_is_written_is_taken_for_an_entry(backup, strings):  # noqa: F811
    """By a function, a comment, a name or a row that looks like one; whatever the database has for its strings."""
    backup.server.sql(f"grant create on database senex to senex; alter database senex set standard_conforming_strings = {strings}")
    backup.server.sql(WRITTEN, user="senex", database="senex", PGOPTIONS="-c standard_conforming_strings=on")
    before = dumped(backup.server, "senex")
    assert "".join(f"{line}\n" for line in before).count(FAKE) > 6, "as it was written"
    os.unlink(backup.made)
    backup.restore.dump.make(backup.settings, "manual")
    backup.server.sql("drop database senex with (force)")
    backup.restore.prove(backup.settings, "newest", "pitr-drill")
    assert free(backup.server) == "f" and sorted(dumped(backup.server, "senex")) == sorted(before)


def test_an_entry_of_a_list_is_known_by_its_number_alone():
    """A name may hold what Python takes for the end of a line, and then look like an entry of its own."""
    listing = (
        ";\n; Selected TOC Entries:\n;\n6; 2615 7 SCHEMA - trap senex\n3; 3079 8 EXTENSION - citext \n9; 0 0 COMMENT - EXTENSION citext \n"
        "21; 1259 9 TABLE trap y\u20287; 1259 7 FUNCTION - x postgres senex\n22; 1259 9 TABLE trap z postgres\n23; 0 0 COMMENT trap TABLE z postgres\n"
        "30; 0 9 TABLE DATA trap z postgres\n31; 0 0 ACL trap TABLE z postgres\n5; 1262 4 DATABASE - app senex\n"
    )
    assert dump_entries.steps(listing, "senex") == [
        ("database", "superuser", ["5;"]), ("main", "superuser", ["6;", "3;", "9;"]), ("main", "application", ["21;"]),
        ("main", "superuser", ["22;", "23;"]), ("main", "application", ["30;"]), ("rights", "superuser", ["31;"]),
    ]  # fmt: skip


HEAD = b"SET client_encoding = 'UTF8';\nSELECT pg_catalog.set_config('search_path', '', false);\n\n"


@pytest.mark.parametrize(("text", "said"), [
    (b"--\n-- Name: x; Type: TABLE; Schema: s; Owner: senex\n--\n\nCREATE TABLE x (); \\! id\n", "a backslash between statements"),
    (b"\\! id\n", "a backslash between statements"),
    (b"SET client_encoding = 'SJIS';\n", "what is a string in it cannot be told"),
    (b"SET standard_conforming_strings = off;\n", "what is a string in it cannot be told"),
])  # fmt: skip
def test_what_pg_dump_does_not_write_is_not_restored(text, said):
    with pytest.raises(ValueError, match=said):
        list(dump_entries.parts((HEAD + text).splitlines(keepends=True), "senex"))


@pytest.mark.parametrize(("line", "found"), [
    (b"-- Name: x; Type: TABLE; Schema: s; Owner: boss; Tablespace: fast\n", ("TABLE", "boss")),
    (b"-- Data for Name: x; Type: TABLE DATA; Schema: s; Owner: boss\n", ("TABLE DATA", "boss")),
    (b"-- Name: x; Type: FUNCTION; Schema: y; Owner: postgres; Type: TABLE; Schema: s; Owner: senex\n", None),
    (b"-- Name: x; Type: TABLE; Schema: s; Type: FUNCTION; Schema: y; Owner: senex\n", None),
    (b"-- Name: x\n", None),
])  # fmt: skip
def test_an_entry_is_what_its_comment_says_unless_a_name_may_have_said_it(line, found):
    assert dump_entries.described(line) == found
    kind, owner = found or (None, None)
    assert dump_entries.by_whom(kind, owner, "senex", dump_entries.SUPERUSER) == (
        dump_entries.SUPERUSER if found and kind != "TABLE DATA" else dump_entries.APPLICATION
    )
