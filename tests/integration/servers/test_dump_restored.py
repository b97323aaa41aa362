"""Dumps on a real server: restored where nothing of theirs is known, with roles, grants, collation, large objects and what is the database's own."""

import dataclasses
import gzip
import json
import os
import pathlib
import re
import shlex
import types

import pytest
from ansible_collections.senex.trader.plugins.module_utils.postgresql import facts as pg_facts
from ansible_collections.senex.trader.plugins.module_utils.postgresql import server as pg_server
from rendered import ROLES as ROLES_DIRECTORY
from test_backup_command import command, settings  # noqa: F401  (fixtures)
from test_postgresql_roles import PROGRAMS, pytestmark, serving  # noqa: F401  (the mark)
from watched import host
from watched import settings as watched_settings

from senex_ops import checks_database  # isort: skip

ROLES_OF = ROLES_DIRECTORY / "postgresql"

ROLES = """
create role reports; create role auditor login createdb connection limit 3 in role reports;
alter role auditor set search_path = "$user", public; alter role auditor set work_mem = '8MB';
create role boss superuser;
"""
DATABASE = """
create database senex owner senex template template0 encoding 'UTF8' locale_provider icu icu_locale 'de' lc_collate 'C' lc_ctype 'C' connection limit 7;
comment on database senex is 'orders'' own: "1";
next line';
revoke connect, temporary on database senex from public; grant connect on database senex to reports;
alter database senex set search_path = "$user", trading, public; alter database senex set work_mem = '5MB';
alter role auditor in database senex set statement_timeout = '5s'; alter role auditor in database senex set search_path = trading;
"""
CONTENT = """
create schema trading; create extension citext; create extension amcheck schema trading;
create table public.orders (id serial primary key, word citext check (word <> ''), at timestamptz default now());
insert into public.orders (word) select 'word ' || n from generate_series(1, 100) n;
create table trading.seen (id int references public.orders); alter table trading.seen owner to reports;
grant select on public.orders to auditor; grant usage on schema trading to reports;
create view trading.newest as select max(at) from public.orders;
create function trading.twice(int) returns int language sql security definer as 'select $1 * 2'; alter function trading.twice owner to boss;
select lo_from_bytea(4711, 'a picture'); alter large object 4711 owner to senex;
"""
OWN = """select datcollate, datctype, datlocprovider, datconnlimit, pg_get_userbyid(datdba), shobj_description(oid, 'pg_database'),
  array(select privilege_type || coalesce(nullif(grantee, 0)::regrole::text, 'public') from aclexplode(datacl) where grantee <> datdba order by 1),
  array(select coalesce(nullif(setrole, 0)::regrole::text, '-') || c from pg_db_role_setting s, unnest(setconfig) c where s.setdatabase = d.oid order by 1)
  from pg_database d where datname = 'NAME'"""
ALIKE = "select rolcanlogin, rolcreatedb, rolconnlimit, rolconfig, rolsuper from pg_roles where rolname = 'auditor'"


@pytest.fixture(scope="module")
def server():
    with serving("postgres") as found:
        found.sql("create role senex login;")
        yield found


@pytest.fixture
def backup(command, settings, server, monkeypatch, tmp_path):  # noqa: F811
    """The command on a host whose containers are all this one server."""
    from senex_backup import dump, filling, restore
    from senex_backup.postgresql import dump_file

    environment = " ".join(shlex.quote(f"{name}={value}") for name, value in server.environment("postgres").items())
    stub = tmp_path / "podman"
    stub.write_text(f"""#!/bin/sh
shift; [ "$1" != --interactive ] || shift
echo "$1" >> {tmp_path}/containers; shift
cd /; exec {shlex.join(server.command(["env"]))} {environment} "$@"
""")
    stub.chmod(0o755)
    for module in (command.common, dump, filling):
        monkeypatch.setattr(module, "PODMAN", str(stub))
    argv = dump_file.command
    monkeypatch.setattr(dump_file, "command", lambda *words: [str(stub), *argv(*words)[1:]])
    settings.given["database"] = {"name": "senex", "owner": "senex", "role": "postgres", "container": "postgres"}
    settings.given["retention"] = {"manual": {"days": 7, "keep": 1}}
    for text in (ROLES, DATABASE):
        server.sql(text)
    server.sql(CONTENT, database="senex")
    found = type("Backup", (), {"settings": settings, "restore": restore, "server": server, "tmp": tmp_path, "trouble": command.common.BackupError})
    found.made = dump.make(settings, "manual")["path"]
    yield found
    forgotten(server)


def forgotten(server):
    server.sql("drop database if exists senex with (force)")
    for role in ("auditor", "reports", "boss"):
        server.sql(f"drop role if exists {role}")


def roles(server):
    return set(server.sql("select rolname from pg_roles where rolname !~ '^pg_'").splitlines())


def test_a_dump_is_restored_where_none_of_its_roles_is_known(backup):
    server = backup.server
    before, alike = server.sql(OWN.replace("NAME", "senex")), server.sql(ALIKE)
    forgotten(server)
    found = backup.restore.prove(backup.settings, "newest", "pitr-drill")
    assert server.sql(OWN.replace("NAME", "senex")) == before and "orders' own" in before and "i|7|senex" in before
    assert server.sql(ALIKE) == alike and server.sql("select rolpassword is null from pg_authid where rolname = 'auditor'") == "t"
    assert server.sql("select rolsuper from pg_roles where rolname = 'boss'") == "f", "whoever may do everything is made by a person"
    assert server.sql("select pg_has_role('auditor', 'reports', 'member')") == "t"
    assert server.sql("select convert_from(lo_get(4711), 'UTF8')", database="senex") == "a picture"
    assert server.sql("select has_table_privilege('auditor', 'public.orders', 'select')", database="senex") == "t"
    assert server.sql("select relowner::regrole from pg_class where relname = 'seen'", database="senex") == "reports"
    said = ", ".join(found["checked"])
    assert "100 rows in 2 tables" in said and "1 large objects" in said and "9 bytes in large objects" in said and "1 functions" in said
    assert "3 roles made anew (auditor, boss, reports), without passwords" in said and "amcheck" in said
    assert found["dump"] == os.path.basename(backup.made) and found["rows"] == 100
    assert (backup.tmp / "containers").read_text().splitlines()[-1] == "pitr-drill"


def test_no_password_is_in_the_file_beside_a_dump(backup):
    backup.server.sql("alter role auditor password 'seen-by-nobody-1'")
    os.rename(backup.made, f"{backup.made}.before")
    path = backup.restore.dump.make(backup.settings, "manual")["path"]
    text = pathlib.Path(f"{path}.json").read_text()
    assert "SCRAM" not in text and "seen-by" not in text and json.loads(text)["roles"]["auditor"]["options"].startswith("login inherit createdb")
    assert os.stat(f"{path}.json").st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", ["large objects", "grants on tables"])
def test_what_no_row_is_of_is_missed_too(backup, kind):
    """And nothing of it all stays: neither the database nor the roles."""
    path = pathlib.Path(f"{backup.made}.json")
    facts = json.loads(path.read_text())
    facts["objects"][kind] += 1
    path.write_text(json.dumps(facts))
    forgotten(backup.server)
    before = roles(backup.server)
    with pytest.raises(backup.trouble, match=f"is not what was dumped: {kind}: "):
        backup.restore.prove(backup.settings, "newest", "pitr-drill")
    assert roles(backup.server) == before and backup.server.sql("select count(*) from pg_database where datname = 'senex'") == "0"


def test_a_dump_of_an_earlier_version_is_restored_as_it_was(backup):
    """It says nothing of roles: what they own is missed, and the drill tells it before the emergency does."""
    path = pathlib.Path(f"{backup.made}.json")
    facts = {name: value for name, value in json.loads(path.read_text()).items() if name not in ("roles", "properties", "objects")}
    path.write_text(json.dumps(facts))
    backup.server.sql("drop database senex")
    assert "100 rows in 2 tables" in backup.restore.prove(backup.settings, "newest", "pitr-drill")["checked"]
    forgotten(backup.server)
    with pytest.raises(backup.trouble, match='role "(auditor|reports|boss)" does not exist'):
        backup.restore.prove(backup.settings, "newest", "pitr-drill")


def test_the_restore_itself_says_which_roles_it_makes_and_keeps_what_is_set_now(backup, monkeypatch):
    server = backup.server
    server.sql("alter database senex set work_mem = '9MB'; revoke all on all tables in schema public from auditor;")
    server.sql("drop owned by boss; drop role boss", database="senex")
    server.sql("create database elsewhere; create database senex_before_restore_20260101000000")
    monkeypatch.setattr(backup.restore, "need", lambda *_: None)
    plan = backup.restore.plan(backup.settings, "newest")
    assert plan["roles"] == ["boss"] and plan["others"] == ["elsewhere"]
    loaded = backup.restore.load(backup.settings, plan)
    before = server.sql(OWN.replace("NAME", plan["restored"]))
    assert "i|7|senex" in before and "work_mem=5MB" in before
    backup.restore.around.carry_over(backup.settings, "senex", plan["restored"])
    assert "work_mem=9MB" in server.sql(OWN.replace("NAME", plan["restored"]))
    assert server.sql("show search_path", database=plan["restored"]) == '"$user", trading, public'
    assert loaded["checked"]
    for name in (plan["restored"], "elsewhere", "senex_before_restore_20260101000000"):
        server.sql(f"drop database {name}")


def test_the_server_in_production_is_no_place_for_a_drill(command, backup):  # noqa: F811
    given = type("Given", (), {"container": "postgres", "name": "newest"})
    with pytest.raises(backup.trouble, match="no place for a drill"):
        command.cli.proven(backup.settings, given)


def test_a_dump_that_does_not_restore_is_seen_though_it_can_be_read(backup):
    """It has its end, its checksum and its counts: what proves it whole is not what proves it restorable."""
    from senex_backup.postgresql import dump_file

    with gzip.open(backup.made, "rt") as packed:
        text = packed.read()
    with gzip.open(backup.made, "wt") as packed:
        packed.write(text.replace("CREATE TABLE public.orders", "CREATE TABLE public.ordres", 1))
    pathlib.Path(f"{backup.made}.sha256").unlink()
    dump_file.verify(backup.made)
    forgotten(backup.server)
    with pytest.raises(backup.trouble, match="psql ended with 3"):
        backup.restore.prove(backup.settings, "newest", "pitr-drill")


# Whoever owns a database decides what a name without a schema is there, for everybody who has no search path of his own
TRAP = """
create schema trap;
create function trap.current_setting(text) returns text language plpgsql as
  $$ begin alter role senex superuser; return pg_catalog.current_setting($1); exception when others then return pg_catalog.current_setting($1); end $$;
create function trap.format(text, variadic text[]) returns text language plpgsql as
  $$ begin alter role senex superuser; return pg_catalog.format($1, variadic $2); exception when others then return ''; end $$;
alter database senex set search_path = trap, pg_catalog, public;
"""


@pytest.fixture
def trap(backup):
    backup.server.sql("grant create on database senex to senex")
    backup.server.sql(TRAP, user="senex", database="senex")
    yield backup
    backup.server.sql("alter role senex nosuperuser")


def free(server):
    return server.sql("select rolsuper from pg_roles where rolname = 'senex'")


def test_the_owner_of_the_database_leads_no_superuser_to_functions_of_its_own(trap):
    trap.server.sql("select current_setting('work_mem')", database="senex")
    assert free(trap.server) == "t", "whoever asks there as one asks is led"
    trap.server.sql("alter role senex nosuperuser")
    os.rename(trap.made, f"{trap.made}.before")
    trap.restore.dump.make(trap.settings, "manual")
    assert free(trap.server) == "f"


def test_nor_the_watchdog(trap):
    asked = []

    def inside(container, *argv, stdin):
        asked.append(argv)
        done = trap.server.run(argv, False, stdin, "postgres")
        return host.Ended(done.returncode, done.stdout, done.stderr)

    config = watched_settings()
    config = dataclasses.replace(config, database=dataclasses.replace(config.database, user="senex", database="senex", superuser="postgres"))
    rows = checks_database.psql(type("Host", (), {"inside": staticmethod(inside)}), config, checks_database.DATABASE)
    assert {row[0] for row in rows} >= {"connections", "cluster"} and asked and free(trap.server) == "f"
    assert checks_database.psql(type("Host", (), {"inside": staticmethod(inside)}), config, "show search_path", "senex") == [["trap, pg_catalog, public"]]


def test_nor_an_upgrade(trap):
    server = pg_server.Server(None, types.SimpleNamespace(uid=70, superuser="postgres", owner="senex", container="postgres"), sockets=str(trap.server.base))
    server.execute = lambda *argv, stdin=None, check=True, **_: trap.server.run(argv, check, stdin or "", "postgres")
    found = pg_facts.facts(server)
    assert found["senex"]["E"]["amcheck"] and found["senex"]["T"]["public.orders"] == "100"
    pg_facts.amcheck(server, 1)
    assert pg_facts.writes(server)["senex"] and free(trap.server) == "f"


def extensions(server, calls, check=True):
    """What the script of a run does for these extensions."""
    script = (ROLES_OF / "templates/reconcile.sh.j2").read_text()
    sql = "\n".join(re.findall(r"^(?:export PGOPTIONS=.*|sql\(\) .*)$", script, re.MULTILINE))
    extension = re.search(r"^FITTING=.*?^extension\(\) \{.*?^\}", script, re.MULTILINE | re.DOTALL)[0]
    return server.run(["sh", "-euc", f"{sql}\n{extension}\n{calls}"], check, user="postgres")


def test_nor_the_look_for_an_extension(trap):
    trap.server.sql("create view trap.pg_extension as select 'x'::name extname where trap.current_setting('port') <> ''", user="senex", database="senex")
    trap.server.sql("create view trap.pg_available_extensions as select from pg_class where trap.current_setting('port') <> ''", user="senex", database="senex")
    done = extensions(trap.server, "extension senex citext 'citext pg_trgm'; extension senex pg_trgm 'citext pg_trgm'")
    assert done.stdout == "changed: extension pg_trgm in senex\n" and free(trap.server) == "f"


def test_the_superuser_makes_no_extension_that_is_not_named(trap):
    there = "select string_agg(extname, ' ' order by extname) from pg_extension where extname in ('cube', 'earthdistance')"
    refused = extensions(trap.server, "extension senex earthdistance 'citext earthdistance'", False)
    assert refused.returncode == 1 and "earthdistance in senex needs cube; name that as well" in refused.stderr
    assert trap.server.sql(there, database="senex") == ""
    named = "'earthdistance cube'"
    trap.server.sql("alter database senex reset search_path")  # what is needed, and is made first, would lie among functions of the owner's
    done = extensions(trap.server, f"extension senex earthdistance {named}; extension senex cube {named}")
    assert done.stdout == "changed: extension cube in senex\nchanged: extension earthdistance in senex\n", "in whatever order"
    assert trap.server.sql(there, database="senex") == "cube earthdistance"
    assert extensions(trap.server, "extension senex earthdistance earthdistance").stdout == "", "what is there stays"


WATCH = """
create table public.ran (path text);
create function public.look() returns event_trigger language plpgsql as
  $$ begin insert into public.ran select pg_catalog.current_setting('search_path'); end $$;
create event trigger looked on ddl_command_end when tag in ('CREATE FUNCTION') execute function public.look();
"""


def test_the_script_of_an_extension_runs_where_nobody_else_makes_anything(trap):
    trap.server.sql(WATCH, database="senex")
    try:
        trap.server.sql("drop extension if exists unaccent; drop extension if exists fuzzystrmatch cascade", database="senex")
        assert extensions(trap.server, "extension senex unaccent unaccent").stdout == "changed: extension unaccent in senex\n"
        assert trap.server.sql("select distinct path from public.ran", database="senex") == "senex_extension, pg_temp"
        assert trap.server.sql("select count(*) from pg_namespace where nspname = 'senex_extension'", database="senex") == "0"
        where = "select extnamespace::regnamespace from pg_extension where extname = 'unaccent'"
        assert trap.server.sql(where, database="senex") == "trap", "where it would be without all that"
    finally:
        trap.server.sql("drop event trigger looked", database="senex")


def test_an_extension_that_needs_another_is_not_made_among_functions_that_its_script_may_take(trap):
    trap.server.sql("drop extension if exists cube cascade", database="senex")
    named = "'earthdistance cube'"
    extensions(trap.server, f"extension senex cube {named}")
    where = trap.server.sql("select extnamespace::regnamespace from pg_extension where extname = 'cube'", database="senex")
    trap.server.sql(f"set role senex; create function {where}.cube_dim(int) returns int language sql as 'select 1'", database="senex")
    refused = extensions(trap.server, f"extension senex earthdistance {named}", False)
    assert refused.returncode == 1 and f"might call {where}.cube_dim of role senex" in refused.stderr, refused.stderr


def test_nor_a_restore_to_a_moment(trap, monkeypatch):
    monkeypatch.syspath_prepend(str(ROLES_OF.parent / "pitr/files"))
    from pitr import checks, database, recovery, restore

    given = types.SimpleNamespace(
        superuser="postgres", owner="senex", database="senex", container_uid=70, unit="postgres.service", container="postgres", sockets=""
    )

    def podman(*words, stdin=None, check=True, **_):
        return trap.server.run(words[words.index("psql" if "psql" in words else "env") :], check, stdin or "", "postgres")

    monkeypatch.setattr(database, "podman", podman)
    found = checks.verify(recovery.Server(given, "restored"))
    assert found["rows"]["public.orders"] == 100 and found["amcheck"] == "ok" and free(trap.server) == "f"
    assert restore.handed_out(given) and free(trap.server) == "f"


LETTER = b"\xe3\xa4".decode("big5")  # of which Python makes a sign of three bytes, read as UTF-8, and the last of these takes the next byte along


def test_nor_the_encoding_of_its_sessions(trap):
    """In some a letter takes what follows it along, a quote too: what a name has behind that would be a command of psql's own, in the server's container."""
    server, led = trap.server, trap.server.base / "led"
    name = f"{LETTER}' \\! touch {led} #"
    server.sql(f"""create sequence public."{name}"; alter database senex set client_encoding = 'BIG5'""", user="senex", database="senex")
    server.sql("create database copied template senex owner senex; alter database copied set client_encoding = 'BIG5'")
    last = f"""select last_value from public."{name}\""""
    try:
        server.sql("select nextval(oid::regclass) from pg_class where relname like '%touch%'", database="senex")
        trap.restore.raise_sequences(trap.settings, "senex", "copied")
        assert not led.exists() and server.sql(last, database="copied", PGCLIENTENCODING="UTF8") == "1001"
        os.rename(trap.made, f"{trap.made}.before")
        with gzip.open(trap.restore.dump.make(trap.settings, "manual")["path"]) as packed:
            assert b"\nSET client_encoding = 'UTF8';\n" in packed.read(2000), "or it would not be restored"
    finally:
        server.sql("drop database copied")


# Whoever calls one of them as the superuser makes one of its owner; the last two do it by what they make on their way
ESCAPE = """
create schema made;
create function made.climb() returns boolean language plpgsql as $$ begin
  if (select usesuper from pg_catalog.pg_user where usename = current_user) then alter role senex superuser; end if; return true; end $$;
create function made.fires() returns trigger language plpgsql as $$ begin perform made.climb(); return new; end $$;
create function made.checks(int) returns boolean language plpgsql as $$ begin return made.climb(); end $$;
create function made.counts(int) returns int immutable language plpgsql as $$ begin perform made.climb(); return $1; end $$;
create function made.replaces(int) returns boolean language plpgsql as $$ begin
  create or replace function made.later(int) returns boolean language plpgsql as $f$ begin return made.climb(); end $f$;
  alter function made.later(int) security invoker; return true; end $$;
create function made.later(int) returns boolean language sql as 'select true';
create function made.waits(int) returns boolean language plpgsql as $$ begin
  if session_user <> 'senex' and to_regclass('made.waited') is null then
    create table made.waited (id int);
    create function made.now() returns trigger language plpgsql as $f$ begin perform made.climb(); return new; end $f$;
    create constraint trigger deferred after insert on made.waited deferrable initially deferred for each row execute function made.now();
    insert into made.waited values (1);
  end if; return true; end $$;
"""
TABLES = """
create domain made.looked as int check (made.checks(value));
create table made.a1 (id int check (made.checks(id))); create table made.a2 (id made.looked);
create table made.a3 (id int, two int generated always as (made.counts(id)) stored); create index on made.a3 (made.counts(id));
create table made.a4 (id int check (made.replaces(id))); create table made.a5 (id int check (made.later(id)));
create table made.a6 (id int check (made.waits(id)));
create table made.a7 (id int); create trigger fires before insert on made.a7 for each row execute function made.fires();
"""


def test_no_rows_that_come_back_are_brought_through_functions_of_their_owners_as_the_superuser(backup):
    """Nor through one that another makes or changes on its way, at once or at the end of the transaction."""
    server = backup.server
    server.sql("grant create on database senex to senex")
    server.sql(ESCAPE + TABLES, user="senex", database="senex")
    server.sql("".join(f"insert into made.a{number} (id) values (1);" for number in range(1, 8)), user="senex", database="senex")
    kinds = "select string_agg(proname || prosecdef, ' ' order by proname) from pg_proc where pronamespace = 'made'::regnamespace or proname = 'twice'"
    before = server.sql(kinds, database="senex")
    assert "climbfalse" in before and "twicetrue" in before
    pathlib.Path(backup.made).unlink()
    backup.restore.dump.make(backup.settings, "manual")
    forgotten(server)
    try:
        backup.restore.prove(backup.settings, "newest", "pitr-drill")
        assert server.sql(kinds, database="senex") == before, "each runs as whom it did"
        assert free(server) == "f"
    finally:
        server.sql("alter role senex nosuperuser")
