"""What a release says of SQL, beside tables as they are. Real migrations, asked of a real Django: tests/integration/images/test_migration_guard.py."""

import runpy
from pathlib import Path

import pytest

RULES = runpy.run_path(str(Path(__file__).parents[2] / "playbooks/release/files/migration_sql.py"))
MB = 2**20


class Tables:
    """`orders` is large, `kinds` is small."""

    def size(self, table):
        return {"orders": 900 * MB, "kinds": 1 * MB, "other.orders": 900 * MB}.get(table)

    def columns(self, table):
        known = {"type": "integer", "not_null": True, "default": False}
        return {"id": known, "n": {**known, "not_null": False}, "d": {**known, "default": True}, "v": {**known, "type": "character varying(20)"}}

    def volatile(self, names):
        return {"random", "gen_random_uuid", "clock_timestamp", "nextval"} & names


@pytest.fixture
def judge():
    return RULES["Judge"](Tables(), 64 * MB)


UNSAFE = [
    ("ALTER TABLE orders DROP n CASCADE", "the column orders.n goes"),
    ("alter table if exists only orders drop column if exists n", "the column orders.n goes"),
    ('ALTER TABLE "other"."orders" ALTER n SET DATA TYPE bigint USING n::bigint', "the type of other.orders.n changes from integer to bigint"),
    ("DROP TABLE IF EXISTS x, orders", "the table orders goes"),
    ("DROP MATERIALIZED VIEW report", "the materialized view report goes"),
    ("ALTER TABLE orders ADD fresh uuid DEFAULT gen_random_uuid() NOT NULL", "orders (900 MB): all wait while the table is written anew"),
    ("ALTER TABLE orders ADD COLUMN fresh bigserial", "written anew"),
    ("ALTER TABLE orders ADD COLUMN fresh integer GENERATED ALWAYS AS (n + 1) STORED", "written anew"),
    ("ALTER TABLE orders ADD CONSTRAINT f FOREIGN KEY (n) REFERENCES kinds (id)", "a constraint (FOREIGN) for n of orders"),
    (
        "ALTER TABLE orders ADD COLUMN k integer NULL; ALTER TABLE orders ADD CONSTRAINT f FOREIGN KEY (k) REFERENCES kinds (id)",
        "writes wait while the rows are checked",
    ),
    ("ALTER TABLE kinds ADD CHECK (n > 0) NOT VALID", "a constraint (CHECK) for n of kinds"),
    ("ALTER TABLE kinds ADD EXCLUDE USING gist (n WITH =)", "a constraint (EXCLUDE) for n of kinds"),
    ("CREATE UNIQUE INDEX CONCURRENTLY i ON kinds (v)", "the unique index for v of kinds"),
    ("CREATE INDEX ON ONLY orders (v)", "writes wait while the index is built"),
    ("ALTER TABLE kinds RENAME n TO m", "the column kinds.n is renamed"),
    ("ALTER TABLE kinds SET SCHEMA old", "goes to another schema"),
    ("REINDEX TABLE orders", "all wait for REINDEX"),
    ("VACUUM FULL orders", "all wait for VACUUM"),
    ("ALTER TABLE kinds ALTER d DROP DEFAULT", "loses its default"),
    # As psycopg2 writes the default of an ArrayField: a comma in brackets ends nothing
    (
        "ALTER TABLE kinds ADD COLUMN tags integer[] DEFAULT ARRAY[1, 2] NOT NULL; ALTER TABLE kinds ALTER COLUMN tags DROP DEFAULT",
        "kinds.tags may not be empty and has no default in the database",
    ),
    ("ALTER TABLE orders ADD CHECK (n = ANY (ARRAY[1, 2])), DROP n", "the column orders.n goes"),
    ("CLUSTER orders USING kinds", "orders (900 MB): all wait for CLUSTER"),
    ("CLUSTER VERBOSE orders", "orders (900 MB): all wait for CLUSTER"),
    ("VACUUM (FULL, ANALYZE) orders (n, v)", "orders (900 MB): all wait for VACUUM"),
    ("CLUSTER", "all tables: all wait for CLUSTER"),
    ("REFRESH MATERIALIZED VIEW orders WITH DATA", "orders (900 MB): all wait for REFRESH"),
    ("SELECT 1; -- harmless; DROP TABLE x\nTRUNCATE kinds", "the rows of kinds go"),
]
SAFE = [
    "ALTER TABLE orders ADD COLUMN fresh timestamptz DEFAULT now() NOT NULL",
    "ALTER TABLE orders ADD COLUMN fresh text DEFAULT 'random() ''; DROP TABLE kinds' NOT NULL",
    "ALTER TABLE orders ADD COLUMN fresh text DEFAULT E'\\'; DROP TABLE kinds' NOT NULL",
    "ALTER TABLE orders ADD COLUMN fresh integer GENERATED ALWAYS AS (n + 1) VIRTUAL",
    "ALTER TABLE orders ADD CONSTRAINT u UNIQUE USING INDEX i",
    "ALTER TABLE orders VALIDATE CONSTRAINT c; ALTER TABLE orders DROP CONSTRAINT c; ALTER TABLE orders RENAME CONSTRAINT a TO b",
    "ALTER TABLE orders ALTER v TYPE varchar(40), ALTER COLUMN v SET DEFAULT 'x', ALTER n DROP NOT NULL, ALTER id SET NOT NULL",
    "CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON orders USING gin (v gin_trgm_ops) WHERE n > 1",
    "DROP INDEX CONCURRENTLY i; REINDEX INDEX CONCURRENTLY i; SET CONSTRAINTS ALL IMMEDIATE; ANALYZE orders",
    "CREATE TABLE fresh (id bigint PRIMARY KEY, n integer NOT NULL); CREATE INDEX i ON fresh (n); ALTER TABLE fresh DROP n; DROP TABLE fresh",
    "/* DROP TABLE orders; */ SELECT 'a;b', $x$ ; DROP TABLE orders $x$",
]
NOTED = [
    ("CREATE INDEX i ON kinds (v)", "kinds (1 MB): writes wait"),
    ("CLUSTER kinds USING orders", "kinds (1 MB): all wait for CLUSTER"),
    ("ALTER TABLE orders ADD k bigint NULL REFERENCES kinds (id)", "writes to kinds wait"),
    ("CREATE TABLE fresh (k bigint REFERENCES kinds (id))", "writes to kinds wait"),
    ("DO $$ BEGIN EXECUTE 'DROP TABLE orders'; END $$", "nobody but its author"),
    ("CALL tidy()", "nobody but its author"),
    ("CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "nobody but its author"),
    ("ALTER TABLE orders ENABLE ROW LEVEL SECURITY", "nobody but its author"),
    ("WITH x AS (SELECT 1) DELETE FROM orders", "changes rows"),
    ("LOCK TABLE orders IN SHARE MODE", "orders is locked"),
    ("CREATE TABLE IF NOT EXISTS kinds (id bigint); CREATE INDEX i ON kinds (id)", "kinds (1 MB): writes wait"),
]


@pytest.mark.parametrize(("sql", "part"), UNSAFE)
def test_unsafe(judge, sql, part):
    unsafe, _ = judge.judge(sql)
    unsafe += judge.end()
    assert any(part in line for line in unsafe), unsafe


@pytest.mark.parametrize("sql", SAFE)
def test_safe(judge, sql):
    assert judge.judge(sql) == ([], []) and judge.end() == []


@pytest.mark.parametrize(("sql", "part"), NOTED)
def test_noted(judge, sql, part):
    unsafe, notes = judge.judge(sql)
    assert not unsafe and any(part in line for line in notes), (unsafe, notes)


def test_a_default_counts_at_the_end_of_a_migration(judge):
    assert judge.judge("ALTER TABLE kinds ADD a integer DEFAULT 1 NOT NULL, ADD b integer DEFAULT 1 NOT NULL; ALTER TABLE kinds ALTER a DROP DEFAULT") == (
        [],
        [],
    )
    assert [line.split()[0] for line in judge.end()] == ["kinds.a"]
    assert judge.end() == [], "a second migration does not answer for the first"


def test_a_table_that_is_renamed_within_the_release_stays_new(judge):
    judge.judge("CREATE TABLE one (id bigint); ALTER TABLE one RENAME TO two")
    assert judge.judge("ALTER TABLE two DROP id; CREATE INDEX i ON two (id); DROP TABLE two") == ([], [])
