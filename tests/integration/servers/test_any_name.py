"""Databases, schemas, tables, sequences and roles may have any name: what is asked of a real server is taken for nothing else, and ends no run."""

import json
import pathlib
import types

import pytest
from ansible_collections.senex.trader.plugins.module_utils.postgresql import facts as pg_facts
from ansible_collections.senex.trader.plugins.module_utils.postgresql import psql, sequences, session
from ansible_collections.senex.trader.plugins.module_utils.postgresql import server as pg_server
from pitr import checks, database, recovery, restore
from test_backup_command import command, settings  # noqa: F401  (fixtures)
from test_dump_restored import backup, forgotten  # noqa: F401  (fixture)
from test_postgresql_roles import pytestmark, serving  # noqa: F401  (the mark)

from pitr.jobs import PitrError  # isort: skip

# A separator of psql's or of Python's each, a line that is a full stop, and what quoting could go wrong by
NAMES = ["a|b", "a\tb", "a\nb", "a\rb", "a\n.\nb", "a\u2028b", "a\x85b", "a\x0bb", "a\x1cb", 'a"b,c', "a'b\\c", "dbname=a b", " a "]

DATABASES = ["a\nb", "a\u2028b", 'a"b,c', "a'b\\c", "dbname=a b"]  # each costs time


def ident(name):
    return '"' + name.replace('"', '""') + '"'


def content(names):
    return "".join(
        f"create schema {ident(name)}; create table {ident(name)}.{ident(name)} (id serial primary key);"
        f"insert into {ident(name)}.{ident(name)} select from generate_series(1, {number});"
        f"create sequence {ident(name)}.{ident(name + 's')}; select nextval('{(ident(name) + '.' + ident(name + 's')).replace(chr(39), chr(39) * 2)}');"
        for number, name in enumerate(names, 1)
    )


@pytest.fixture(scope="module")
def server():
    with serving("postgres") as found:
        found.sql("create role senex login")
        yield found


@pytest.fixture
def named(server):
    """A database of these names, beside others that are called by them."""
    server.sql("create database senex owner senex")
    for name in DATABASES:
        server.sql(f"create database {ident(name)} owner senex")
    server.sql("".join(f"create role {ident(name)};" for name in NAMES))
    server.sql(content(NAMES), database="senex")
    yield server
    for name in ["senex", *DATABASES]:
        server.sql(f"drop database if exists {ident(name)} with (force)")
    server.sql("".join(f"drop role if exists {ident(name)};" for name in NAMES))


def whole(name):
    return f"{ident(name)}.{ident(name)}"


def test_an_upgrade_compares_each(named):
    server = pg_server.Server(None, types.SimpleNamespace(uid=70, superuser="postgres", owner="senex", container="postgres"), sockets=str(named.base))
    server.execute = lambda *argv, stdin=None, check=True, **_: exact(named, argv, check, stdin)
    found = pg_facts.facts(server)
    assert set(DATABASES) < set(found) and set(NAMES) < set(found[""]["R"])
    assert {name: found["senex"]["T"][whole(name)] for name in NAMES} == {name: str(number) for number, name in enumerate(NAMES, 1)}
    pg_facts.amcheck(server, 1)
    assert len(sequences.held(server.rows(sequences.HELD, "senex"))) == 2 * len(NAMES)


def exact(server, argv, check=True, stdin=""):
    """As Podman answers: ends of lines as they are."""
    import subprocess

    done = subprocess.run(server.command(argv), env=server.environment("postgres"), input=(stdin or "").encode(), capture_output=True, check=False, cwd="/")
    assert not check or done.returncode == 0, done.stderr
    return subprocess.CompletedProcess(argv, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def restored(named, monkeypatch):
    """A server that point-in-time recovery has brought up."""
    given = types.SimpleNamespace(
        superuser="postgres", owner="senex", database="senex", container_uid=70, unit="postgres.service", container="postgres", sockets=""
    )

    def podman(*words, stdin=None, check=True, **_):
        return exact(named, words[words.index("psql" if "psql" in words else "env") :], check, stdin)

    monkeypatch.setattr(database, "podman", podman)
    return recovery.Server(given, "restored")


def test_a_restore_to_a_moment_looks_at_each(restored):
    found = checks.verify(restored)
    assert set(DATABASES) < set(found["databases"]) and {whole(name) for name in NAMES} <= set(found["rows"]) and found["amcheck"] == "ok"
    assert len(restore.handed_out(restored.settings)) == 2 * len(NAMES)


@pytest.mark.parametrize("name", ["senex", "a\nb", "dbname=a b"])
def test_a_function_beside_amchecks_own_is_called_by_no_drill(named, restored, name):
    """The superuser of the copy would have run it."""
    there = session.target(name)
    named.sql("create schema checks; create extension amcheck schema checks; grant usage, create on schema checks to senex", database=there)
    planted = "set role senex; create function checks.bt_index_check(index oid, heapallindexed boolean) returns void language plpgsql as $$ begin "
    named.sql(planted + "create table if not exists checks.called(); end $$", database=there)
    with pytest.raises(PitrError, match="checks.bt_index_check is not amcheck's own, and would run as the superuser") as failure:
        checks.verify(restored)
    assert f"{name}: " in str(failure.value) and named.sql("select to_regclass('checks.called')", database=there) == ""
    assert named.sql("select 1 from pg_extension where extname = 'amcheck'", database=there) == "1", "that of the application stays"


@pytest.mark.parametrize("change", ["create or replace function {} language sql as 'select'", "alter extension amcheck drop function {}"])
def test_nor_one_that_took_the_place_of_its_own(server, change):
    """Whoever owns the extension's function may write another body for it."""
    server.sql("create database checked owner senex")
    try:
        server.sql("create extension amcheck schema public", database="checked")
        assert server.sql(psql.IMPOSTORS, database="checked") == ""
        server.sql(change.format("public.bt_index_check(index regclass)" + " returns void" * ("replace" in change)), database="checked")
        assert server.sql(psql.IMPOSTORS, database="checked") == "public.bt_index_check" * ("replace" in change)
    finally:
        server.sql("drop database checked")


def test_a_dump_is_restored_and_compared(backup):  # noqa: F811
    server = backup.server
    server.sql("".join(f"create role {ident(name)};" for name in NAMES))
    server.sql(content(NAMES), database="senex")
    server.sql("".join(f"alter table {whole(name)} owner to {ident(name)};" for name in NAMES), database="senex")
    try:
        pathlib.Path(backup.made).unlink()
        path = backup.restore.dump.make(backup.settings, "manual")["path"]
        facts = json.loads(pathlib.Path(f"{path}.json").read_text())
        assert {name: facts["tables"][whole(name)] for name in NAMES} == {name: number for number, name in enumerate(NAMES, 1)}
        server.sql("drop database senex with (force)")
        server.sql("".join(f"drop role {ident(name)};" for name in NAMES))
        found = backup.restore.prove(backup.settings, "newest", "pitr-drill")
        assert f"rows in {len(NAMES) + 2} tables" in " ".join(found["checked"])
        assert set(NAMES) < set(json.loads(server.sql("select json_agg(rolname) from pg_roles")))
    finally:
        server.sql("drop database if exists senex with (force)")
        server.sql("".join(f"drop role if exists {ident(name)};" for name in NAMES))


# What the owner of a database may set for every session in it
SET = {"standard_conforming_strings": "off", "quote_all_identifiers": "on", "default_transaction_read_only": "on", "statement_timeout": "1", "role": "senex"}
SET |= {"search_path": "made, pg_catalog", "backslash_quote": "on", "escape_string_warning": "off", "client_min_messages": "debug1"}
# Between quotes that are none where strings are read with backslashes
INJECTED = "\\'; alter role senex superuser; --"


def superuser(server):
    return server.sql("select rolsuper from pg_roles where rolname = 'senex'")


def test_no_setting_of_the_database_changes_what_is_asked(restored, named):
    named.sql(f"create sequence public.{ident(INJECTED)}; select nextval('public.{ident(INJECTED).replace(chr(39), chr(39) * 2)}')", database="senex")
    before = checks.verify(restored)
    for name, value in SET.items():
        named.sql(f"alter database senex set {name} = {value}")
    try:
        found = checks.verify(restored)
        assert {**found, "databases": 0} == {**before, "databases": 0}
        held = restore.handed_out(restored.settings)
        assert f"public.{ident(INJECTED)}" in held and len(held) == 2 * len(NAMES) + 1
        restore.raise_sequences(restored.settings, {name: number + 7 for name, number in held.items()})
        assert restore.handed_out(restored.settings) == {name: number + 7 + sequences.MARGIN for name, number in held.items()}
        assert superuser(named) == "f"
    finally:
        named.sql("alter role senex nosuperuser")


def test_a_setting_is_set_again_and_says_nothing_else(backup):  # noqa: F811
    """A list of names lies in the catalogue as whoever set it wrote it, which is one name to PostgreSQL and a statement to psql."""
    server = backup.server
    server.sql("grant create on database senex to senex")
    for what in ("role senex in database senex", "role senex", "database senex"):
        path = "public;alter/**/role/**/senex/**/superuser;--"
        server.sql(f"select set_config('search_path', '{path}', false); alter {what} set search_path from current", user="senex", database="senex")
    server.sql("alter role auditor in database senex set search_path = 'A b', \"c,\"\"d\", plain; alter role auditor set search_path = ''", database="senex")
    pathlib.Path(backup.made).unlink()
    path = backup.restore.dump.make(backup.settings, "manual")["path"]
    server.sql("create database other owner senex")
    try:
        backup.restore.around.carry_over(backup.settings, "senex", "other")
        facts = json.loads(pathlib.Path(f"{path}.json").read_text())
        backup.restore.around.dress(backup.settings, "other", facts)
        assert superuser(server) == "f"
        server.sql("drop database other")
        forgotten(server)
        backup.restore.prove(backup.settings, "newest", "pitr-drill")
        assert superuser(server) == "f"
        found = server.sql("select setconfig from pg_db_role_setting where setrole = 'auditor'::regrole and setdatabase <> 0 order by setdatabase")
        assert 'search_path=\\"A b\\", \\"c,\\"\\"d\\", plain' in found.split("\n")[-1]
        assert r"search_path=\"\"" in server.sql("select rolconfig from pg_roles where rolname = 'auditor'")
    finally:
        server.sql("alter role senex nosuperuser; alter role senex reset all; drop database if exists other")


@pytest.mark.parametrize(("statement", "sound"), [
    ("alter role x in database :\"db\" set search_path = public;alter/**/role/**/senex/**/superuser;--;", False),
    ("alter role \"a\"\"b\" set search_path = \"$user\", public;", True), ("alter database :\"db\" set work_mem = '5MB';", True),
    ("alter role x set \"foo.bar\" = E'it''s \\\\ odd;\nnext';", True), ("alter role x set a = 'b'; drop table y; set c = 'd';", False),
    ("alter role x set search_path = ;", False), ("alter role x set a = E'\\'; drop table y; --';", False), ("alter role x set search_path = '';", True),
])  # fmt: skip
def test_statements_of_a_dump_of_before_are_settings_or_left_out(command, capsys, statement, sound):  # noqa: F811
    from senex_backup import around

    assert around.sound([statement]) == ([statement] if sound else [])
    assert ("is no setting, and is left out" in capsys.readouterr().out) is not sound


ODD = """
create table public.late (at timestamptz, local timestamp);
insert into public.late values ('2026-11-28 12:00:00.25+00', '2026-11-28 12:00:00.25');
create table public.down (id int primary key); create sequence public.downwards increment -1 owned by public.down.id;
select nextval('public.downwards') from generate_series(1, 5); insert into public.down values (-1);
create table public.words (word text); create sequence public.of_words owned by public.words.word; insert into public.words values ('a word');
create table public.round (id int); create sequence public.again maxvalue 2 cycle owned by public.round.id;
select nextval('public.again') from generate_series(1, 3); insert into public.round values (2);
"""


def test_what_the_application_may_keep_in_its_tables_ends_no_drill(restored, named):
    """A sequence that goes down or round, or belongs to a text; times that are none, or are written in another way."""
    named.sql(ODD, database="senex")
    named.sql("grant select on all tables in schema public to senex; alter role senex set datestyle = 'German'; alter role senex set timezone = 'Asia/Tokyo'")
    named.sql("grant select on all tables in schema public to senex", database="senex")
    try:
        for column in ("public.late.at", "public.late.local"):
            assert checks.verify(restored, [column], deep=False)["newest_row"] == "2026-11-28T12:00:00.250000Z"
        for time in ("infinity", "294000-01-01", "0044-03-15 BC"):
            named.sql(f"truncate public.late; insert into public.late values ('{time}', '{time}')", database="senex")
            assert "newest_row" not in checks.verify(restored, ["public.late.at"], deep=False)
        named.sql("insert into public.down values (7); alter sequence public.downwards increment 1", database="senex")
        with pytest.raises(PitrError, match="public.downwards stands at -5, and down.id holds 7"):
            checks.verify(restored, deep=False)
    finally:
        named.sql("alter role senex reset all")
