"""A dump restored, and a cluster upgraded: what the application has written into its database runs in no session of the superuser's, on a real server."""

import gzip
import os
import subprocess
import types

import pytest
from ansible_collections.senex.trader.plugins.module_utils import dump_entries, pg_facts, pg_server, pg_upgrade, superuser_session
from test_backup_command import command, settings  # noqa: F401  (fixtures)
from test_dump_restored import CONTENT, DATABASE, ROLES, backup, forgotten, free, server  # noqa: F401  (fixtures)
from test_postgresql_roles import OLD, pytestmark, serving  # noqa: F401  (the mark)

SCHEMA = "create schema trap authorization senex; grant usage on schema trap to reports"
TRAP = """
create function trap.escape() returns void language plpgsql as $$ begin
  begin reset role; reset session authorization; exception when others then null; end; -- not where a function of the server's own calls it
  if (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then
    alter role senex superuser;
  end if;
end $$;
create function trap.open(text) returns boolean language plpgsql immutable as $$ begin perform trap.escape(); return true; end $$;
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
    "cast of a key": "create type trap.mood as enum ('1'); create function trap.number(trap.mood) returns int language sql immutable"
    " as 'select trap.made($1::text)'; create cast (trap.mood as int) with function trap.number(trap.mood) as implicit;"
    "create table trap.key (id int primary key); insert into trap.key values (1); create table trap.held (a trap.mood); insert into trap.held values ('1');"
    "alter table trap.held add foreign key (a) references trap.key",
    "table of somebody else": "create table trap.held (a text check (trap.open(a))); insert into trap.held values ('x')",
    "table of the superuser": "create table trap.held (a text check (trap.open(a))); insert into trap.held values ('x')",
}
OWNERS = {"table of somebody else": "reports", "table of the superuser": "postgres"}
BY_ITS_OWNER = ("index", "materialized view")  # PostgreSQL itself makes them as their owner


@pytest.fixture(params=PLACES)
def trapped(backup, request):  # noqa: F811
    """A database whose dump does that."""
    backup.server.sql(SCHEMA, database="senex")
    backup.server.sql(f"{TRAP}{PLACES[request.param]}", user="senex", database="senex")
    if owner := OWNERS.get(request.param):
        backup.server.sql(f"alter table trap.held owner to {owner}", database="senex")
    os.unlink(backup.made)
    backup.made, backup.place = backup.restore.dump.make(backup.settings, "manual")["path"], request.param
    yield backup
    backup.server.sql("alter role senex nosuperuser")


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


def seen(server):  # noqa: F811
    return server.sql(f"{SEEN}; {OTHERS}; select proname, proowner::regrole from pg_proc where pronamespace::regnamespace::text = 'trap' order by 1", database="senex")


def test_a_restore_makes_nobody_a_superuser(trapped):
    """And all of it is there again: rows, owners and rights."""
    before = seen(trapped.server)
    trapped.server.sql("drop database senex with (force)")
    trapped.restore.prove(trapped.settings, "newest", "pitr-drill")
    assert free(trapped.server) == "f" and seen(trapped.server) == before


def test_and_would_by_the_superuser_alone(trapped):
    trapped.server.sql("drop database senex with (force)")
    trapped.server.sql("create database senex owner senex template template0 encoding 'UTF8'")
    as_one(trapped.server, trapped.made)
    assert free(trapped.server) == ("f" if trapped.place in BY_ITS_OWNER else "t")


def test_rights_that_changed_meanwhile_end_a_restore(backup, monkeypatch):  # noqa: F811
    """By whatever way: the database that was filled goes, and the one in use stays."""
    fill = backup.restore.fill

    def filled(*words):
        fill(*words)
        backup.server.sql("grant boss to senex; alter role senex createrole; alter role senex set work_mem = '8MB'")

    monkeypatch.setattr(backup.restore, "fill", filled)
    with pytest.raises(backup.trouble, match="rights in this cluster changed meanwhile: role senex; role senex createrole; role senex in role boss; setting work_mem of"):
        backup.restore.into(backup.settings, backup.made, "senex_restore_x")
    assert backup.server.sql("select count(*) from pg_database where datname = 'senex_restore_x'") == "0"
    backup.server.sql("revoke boss from senex; alter role senex nocreaterole; alter role senex reset work_mem")
