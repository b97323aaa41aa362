"""Superuser and application's role on a real server: made, converted from what earlier versions left, without a session that ends."""

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile

import pytest
from rendered import component

PROGRAMS = next(iter(sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)), pathlib.Path("none")).parent
pytestmark = pytest.mark.skipif(not PROGRAMS.exists() or (os.geteuid() == 0 and not shutil.which("setpriv")), reason="no PostgreSQL server on this machine")
EMPTY = {}
RIGHTS = "rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls"
# An object of each kind that has an owner, in two databases
OLD = """
create extension citext;
create schema trading;
create table trading.trade (id bigint generated always as identity, kind public.citext, at timestamptz) partition by range (at);
create table trading.trade_1 partition of trading.trade for values from ('2020-01-01') to ('2030-01-01');
create table plain (id serial primary key, what text);
insert into plain (what) values ('kept');
create index on plain (what);
create view seen as select * from plain;
create materialized view counted as select count(*) from plain;
create sequence free;
create type mood as enum ('good', 'bad');
create type pair as (a int, b int);
create type span as range (subtype = int);
create domain positive as int check (value > 0);
create function twice(int) returns int language sql as 'select $1 * 2';
create procedure nothing() language sql as '';
create aggregate total(int) (sfunc = int4pl, stype = int);
create operator === (leftarg = int, rightarg = int, function = int4eq);
create operator class odd for type int using btree as operator 1 <, operator 2 <=, operator 3 =, operator 4 >=, operator 5 >, function 1 btint4cmp(int, int);
create collation byte (locale = 'C');
create conversion mine for 'LATIN1' to 'UTF8' from iso8859_1_to_utf8;
create text search configuration words (copy = simple);
create text search dictionary dull (template = simple);
create statistics widths on id, what from plain;
create publication news for table plain;
select lo_create(4711);
create function hook() returns event_trigger language plpgsql as 'begin end';
create event trigger watched on ddl_command_end execute function hook();
alter default privileges grant select on tables to reader;
alter default privileges in schema trading grant usage on sequences to reader;
alter default privileges revoke execute on functions from public;
alter table plain owner to senex;
"""
ROLES = """
create role reader; create role team; grant team to senex; create role helper login in role senex; alter role helper set role = senex;
alter role senex set search_path = "$user", public, trading; alter role senex set statement_timeout = '5min';
create role boss superuser; set role boss; grant senex to reader with admin option; reset role; create role barman login replication;
create database reports; create database "it's \\ odd"; create database theirs owner reader;
alter role senex password 'first-password-1';
"""


class Server:
    """A server whose operating system's user may be both roles, as in the container."""

    def __init__(self, base, first, data=None, **inputs):
        self.base, self.port = base, "5432"
        files = component("postgresql", senex_database_password="x" * 12, postgresql_databases=[{"name": "reports"}], **inputs)[0]
        self.script = files["config/postgresql/roles.sh"][0]
        self.user = "postgres" if os.geteuid() == 0 else os.environ.get("USER", "")
        subprocess.run(["cp", "--archive", data or self.empty(first), base / "data"], check=True)
        (base / "data/pg_hba.conf").write_text("local all all peer map=container\nhost all postgres all reject\nhost all all all scram-sha-256\n")
        (base / "data/pg_ident.conf").write_text("".join(f"container {self.user} {name}\n" for name in (first, "senex", "postgres", "superman")))
        for attempt in range(5):  # a port that is free now may be somebody else's when the server comes up
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = str(free.getsockname()[1])
            options = f"-c listen_addresses=127.0.0.1 -p {self.port} -c unix_socket_directories={base} -c fsync=off -c wal_level=logical"
            (base / "log").unlink(missing_ok=True)
            done = self.run([PROGRAMS / "pg_ctl", "-D", base / "data", "-w", "-l", base / "log", "-o", options, "start"], check=False)
            if done.returncode == 0:
                break
            said = (base / "log").read_text(errors="replace")
            assert attempt < 4 and "Address already in use" in said, said

    def empty(self, first):
        """A new cluster, made once: initdb costs as much as dozens of statements."""
        if first not in EMPTY:
            place = EMPTY[first] = tempfile.TemporaryDirectory(dir="/tmp")
            if os.geteuid() == 0:
                shutil.chown(place.name, "postgres")
            words = ["--no-sync", f"--username={first}", "--encoding=UTF8", "--locale=C"]
            self.run([PROGRAMS / "initdb", *words, f"{place.name}/data"])
        return f"{EMPTY[first].name}/data"

    def command(self, argv):
        """setpriv, because runuser asks PAM each time."""
        return ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups", *map(str, argv)] if os.geteuid() == 0 else [*map(str, argv)]

    def environment(self, user, **more):
        return {"PATH": f"{PROGRAMS}:{os.environ['PATH']}", "PGHOST": str(self.base), "PGPORT": self.port, "PGUSER": user, "LC_ALL": "C", **more}

    def run(self, argv, check=True, stdin="", user="", **more):
        done = subprocess.run(self.command(argv), env=self.environment(user, **more), input=stdin, capture_output=True, text=True, check=False, cwd="/")
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def sql(self, text, user="postgres", database="postgres", check=True, **more):
        argv = ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", "-"]
        done = self.run(argv, check, text, user, **more)
        return done.stdout.strip() if check else done

    def roles(self, check=True):
        """What the script changed."""
        done = self.run(["sh", "-s"], check, self.script)
        return [line for line in done.stdout.splitlines() if line.startswith("changed: ")] if check else done

    def session(self, user, database, password):
        """One that stays open, over TCP as the application's."""
        argv = ["psql", "-XqAt", f"host=127.0.0.1 dbname={database}"]
        environment = self.environment(user, PGPASSWORD=password)
        return subprocess.Popen(self.command(argv), env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/")

    def stop(self, mode="immediate"):
        self.run([PROGRAMS / "pg_ctl", "-D", self.base / "data", "-m", mode, "stop"], check=False)


def ask(session, text):
    session.stdin.write(f"{text};\n")
    session.stdin.flush()
    return session.stdout.readline().strip()


@contextlib.contextmanager
def serving(first, data=None, **inputs):
    with tempfile.TemporaryDirectory(dir="/tmp") as base:
        if os.geteuid() == 0:
            shutil.chown(base, "postgres")
        server = Server(pathlib.Path(base), first, data, **inputs)
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="module")
def data_of_old():
    """What earlier versions made: the application's role is the first. Each test has a copy."""
    with serving("senex") as made:
        made.sql(ROLES, "senex")
        for database in ("reports", "it's \\ odd", "template1"):
            made.sql(OLD, "senex", database)
        made.stop("fast")
        yield made.base / "data"


@pytest.fixture
def old(data_of_old):
    with serving("senex", data_of_old) as server:
        yield server


OWNERS = """
select distinct pg_get_userbyid(o) from (select relowner o from pg_class where oid > 16383 and relkind in ('r', 'p', 'v', 'm', 'S')
and oid not in (select objid from pg_depend where deptype = 'e')
union select proowner from pg_proc where oid > 16383 and proname not in ('span', 'span_multirange', 'multirange')
and oid not in (select objid from pg_depend where deptype in ('e', 'i'))
union select typowner from pg_type where typname in ('mood', 'pair', 'span', 'positive', '_mood', 'plain')
union select oprowner from pg_operator where oprname = '==='
union select opcowner from pg_opclass where opcname = 'odd' union select opfowner from pg_opfamily where opfname = 'odd'
union select collowner from pg_collation where collname = 'byte' union select conowner from pg_conversion where conname = 'mine'
union select cfgowner from pg_ts_config where cfgname = 'words' union select dictowner from pg_ts_dict where dictname = 'dull'
union select stxowner from pg_statistic_ext union select pubowner from pg_publication union select lomowner from pg_largeobject_metadata
union select nspowner from pg_namespace where nspname = 'trading') as owners
"""


def test_a_new_cluster():
    with serving("postgres") as new:
        new.sql("alter role postgres password 'random'")
        assert new.roles() == ["changed: role postgres has no password", "changed: role senex"]
        assert new.roles() == []
        assert new.sql(f"select rolcanlogin, {RIGHTS} from pg_roles where rolname = 'senex'") == "t|f|f|f|f|f"


def test_an_old_cluster_is_converted_under_open_sessions(old):
    with old.session("senex", "reports", "first-password-1") as session:
        assert ask(session, "select count(*) from plain") == "1"
        changed = old.roles()
        assert changed == ["changed: role senex is no superuser any more, postgres is"]
        assert ask(session, "insert into plain (what) values ('meanwhile') returning what") == "meanwhile"
        assert ask(session, "create table late (); select 1") == "1"
        assert old.roles() == []
        session.stdin.close()
    assert old.roles() == []
    assert old.sql("select shobj_description(10, 'pg_authid') is null") == "t", "nothing of it is under way any more"
    both = f"select oid = 10, rolname, {RIGHTS} from pg_roles where rolname in ('senex', 'postgres') order by 2"
    assert old.sql(both) == "t|postgres|t|t|t|t|t\nf|senex|f|f|f|f|f"
    assert old.sql("select rolname from pg_authid where rolpassword is not null") == "senex"
    for database in ("reports", "it's \\ odd"):
        assert old.sql(OWNERS, database=database) == "senex"
    assert old.sql("select datname, pg_get_userbyid(datdba) from pg_database order by 1").splitlines() == [
        "it's \\ odd|senex", "postgres|postgres", "reports|senex", "template0|postgres", "template1|postgres", "theirs|reader"]  # fmt: skip
    assert old.sql("select r.rolname, m.rolname from pg_auth_members a join pg_roles r on r.oid = roleid join pg_roles m on m.oid = member "
                   "where r.rolname !~ '^pg_' order by 1, 2") == "senex|helper\nsenex|reader\nteam|senex"  # fmt: skip
    assert old.sql("select rolname from pg_roles where rolname ~ 'converting'") == ""


def test_the_application_may_what_it_needs_and_no_more(old):
    old.roles()
    application = {"user": "senex", "database": "host=127.0.0.1 dbname=reports", "PGPASSWORD": "first-password-1"}
    assert old.sql("show search_path; show statement_timeout", **application) == '"$user", public, trading\n5min'
    assert old.sql("alter table plain add column more int; select what from plain", **application) == "kept"
    assert old.sql("create table trading.next (); drop table trading.next; select 1", **application) == "1"
    assert old.sql("create extension pg_trgm; drop extension pg_trgm; select twice(2)", **application) == "4"
    old.sql("create table granted (id serial)", **application)
    assert old.sql("select has_table_privilege('reader', 'granted', 'select')", database="reports") == "t"
    for statement in ("copy plain (what) from program 'id'", "copy (select 1) to program 'cat'", "copy plain (what) from '/etc/passwd'", "create role other",
                      "create database other", "select pg_read_file('/etc/passwd')", "alter role senex superuser", "set role postgres",
                      "alter system set work_mem = '1MB'", "create extension adminpack", "set session authorization postgres"):  # fmt: skip
        said = old.sql(statement, check=False, **application)
        assert said.returncode and any(word in said.stderr for word in ("permission denied", "must be superuser", "must have privileges")), (statement, said)
    refused = old.sql("select 1", "postgres", "host=127.0.0.1 dbname=reports", check=False, PGPASSWORD="first-password-1")
    assert "rejects connection" in refused.stderr


def test_a_conversion_that_is_held_up_changes_nothing_and_is_taken_up(old):
    """Somebody holds a table for as long as it tries; the application is served meanwhile, by whom it was served."""
    with old.session("senex", "reports", "first-password-1") as session:
        assert ask(session, "begin; select count(*) from plain") == "1"
        old.script = old.script.replace("for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15;", "for _ in 1;")
        refused = old.roles(check=False)
        assert refused.returncode and "dbname='reports': " in refused.stderr and "lock timeout" in refused.stderr
        assert old.sql("select rolname, rolsuper from pg_roles where oid = 10", "senex") == "senex|t"
        assert old.sql("select count(*) from plain", "senex", "reports") == "1"
        assert ask(session, "commit; select 'goes on'") == "goes on"
        session.stdin.close()
    assert old.roles() == ["changed: role senex is no superuser any more, postgres is"]
    assert old.sql(OWNERS, database="reports") == "senex"


def test_a_conversion_that_fails_at_its_end_leaves_the_roles_as_they_were(old):
    """The last transaction, whole or not at all: a membership by somebody else's grant is what it cannot move."""
    broken = old.script.replace('drop role :"passing";', "select 1 / 0;")
    assert broken != old.script
    whole, old.script = old.script, broken
    assert old.roles(check=False).returncode
    assert old.sql("select rolname from pg_roles where rolsuper order by 1", "senex") == "boss\nsenex"
    assert old.sql("select 1", "senex", "host=127.0.0.1 dbname=reports", PGPASSWORD="first-password-1") == "1"
    old.script = whole
    assert old.roles() == ["changed: role senex is no superuser any more, postgres is"]


def test_a_role_of_the_superusers_name_is_not_taken(old):
    old.sql("create role postgres login", "senex")
    refused = old.roles(check=False)
    assert refused.returncode and "senex_database_superuser: " in refused.stderr
    assert old.sql("select rolname from pg_roles where oid = 10", "senex") == "senex"


def test_data_that_is_brought_along():
    """The first role is another one's, and the application's is a superuser too."""
    with serving("admin", senex_database_superuser="superman") as brought:
        brought.sql("create role senex superuser login createdb; create role mine", "admin")
        assert brought.roles() == ["changed: role superman", "changed: rights of role senex"]
        assert brought.roles() == []
        assert brought.sql("select rolname from pg_roles where rolsuper order by 1", "superman") == "admin\nsuperman"
