"""What the superuser is led to in a database that is the application's, on a real server: its owner may set and make whatever it likes there."""

import pytest
from ansible_collections.senex.trader.plugins.module_utils.postgresql import psql, session
from pitr import checks
from test_postgresql_roles import pytestmark, serving  # noqa: F401  (the mark)

# A function of the application's that makes its role a superuser, where a superuser runs it
TRAP = """
create role app login;
create database app owner app;
\\c app
set role app;
create schema made;
create function made.trap() returns int language plpgsql as $$ begin
  if (select usesuper from pg_user where usename = current_user) then alter role app superuser; end if; return 1; end $$;
create view made.looked as select made.trap() as number;
create sequence made.numbers owned by none;
select nextval('made.numbers');
"""


@pytest.fixture(scope="module")
def server():
    with serving("postgres") as found:
        found.sql(TRAP)
        yield found


def superuser(server):
    return server.sql("select rolsuper from pg_roles where rolname = 'app'") == "t"


def test_the_trap_works(server):
    server.sql("select number from made.looked", database="app")
    assert superuser(server)
    server.sql("alter role app nosuperuser")


def test_a_sequence_of_a_view_has_nothing_read(server):
    server.sql("alter sequence made.numbers owner to postgres; alter view made.looked owner to postgres;", database="app")
    server.sql("alter sequence made.numbers owned by made.looked.number", database="app")
    server.sql(checks.SEQUENCES, database="app")
    assert not superuser(server)


@pytest.mark.parametrize("path", [True, False])
def test_a_setting_of_the_database_makes_nobody_else_of_the_superuser(server, path):
    server.sql("alter database app set role = app")
    try:
        assert server.sql("select current_user", database="app") == "app", "a plain session is"
        assert server.sql("select current_user", database=session.target("app", path)) == "postgres"
    finally:
        server.sql("alter database app reset role")


def test_a_function_beside_amchecks_own_is_found(server):
    server.sql("create database checked owner app")
    server.sql("create extension amcheck schema pg_catalog", database="checked")
    assert server.sql(psql.IMPOSTORS, database="checked") == "", "nobody else makes anything there"
    server.sql("drop extension amcheck; create extension amcheck schema public; grant create on schema public to app", database="checked")
    assert server.sql(psql.IMPOSTORS, database="checked") == ""
    server.sql("set role app; create function public.bt_index_check(oid, boolean) returns void language sql as 'select null'", database="checked")
    assert server.sql(psql.IMPOSTORS, database="checked") == "public.bt_index_check"
