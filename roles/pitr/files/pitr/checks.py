"""What a restored database is asked before anybody relies on it."""

from __future__ import annotations

import datetime
import os

from pitr.jobs import PitrError
from pitr.postgresql import amcheck, contents
from pitr.recovery import Server

# A sequence behind its column would hand out keys that are there already. Of tables alone: to read a view runs whatever its owner has put there
SEQUENCES = """
select format('%I.%I', n.nspname, s.relname) || ' stands at ' || last || ', and ' || format('%I.%I', t.relname, a.attname) || ' holds ' || top
from pg_class s join pg_namespace n on n.oid = s.relnamespace join pg_sequence q on q.seqrelid = s.oid
join pg_depend d on d.objid = s.oid and d.deptype in ('a', 'i') and d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass
join pg_class t on t.oid = d.refobjid and t.relkind in ('r', 'p') join pg_namespace tn on tn.oid = t.relnamespace
join pg_attribute a on a.attrelid = t.oid and a.attnum = d.refobjsubid
cross join lateral (select coalesce(pg_sequence_last_value(s.oid), 0) as last) as at
cross join lateral (select coalesce((xpath('/row/n/text()',
  query_to_xml(format('select max(%I) as n from %I.%I', a.attname, tn.nspname, t.relname), false, true, '')))[1]::text::bigint, 0) as top) as held
where s.relkind = 'S' and q.seqincrement > 0 and not q.seqcycle and a.atttypid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) and top > last
"""
MIGRATIONS = "select case when to_regclass('django_migrations') is null then 0 else 1 end"


def verify(server: Server, tables: list[str] | None = None, deep: bool = True) -> dict:
    """Row counts, sequences, extensions, migrations, and the structure of every table and index; a PitrError when something is wrong."""
    found: dict = {"databases": databases(server)}
    found["rows"] = {name: int(count) for _, name, count in server.rows(contents.COUNTS)}
    behind = server.sql(SEQUENCES)
    if behind:
        raise PitrError(f"a sequence is behind its column: {'; '.join(behind)}")
    found["extensions"] = server.sql("select extname || ' ' || extversion from pg_extension order by 1")
    owner = server.settings.owner
    if server.sql(MIGRATIONS, role=owner) == ["1"]:
        found["migrations"] = int(server.sql("select count(*) from django_migrations", role=owner)[0])
        if not found["migrations"]:
            raise PitrError("django_migrations is empty: this is no database of the application")
    if deep:
        if wrong := amcheck.check(server, databases(server), server.settings.superuser, os.cpu_count() or 1):
            raise PitrError(wrong)
        found["amcheck"] = "ok"
    newest = [stamp for table in tables or [] if (stamp := newest_row(server, table))]
    if newest:
        found["newest_row"] = max(newest)
    return found


def databases(server: Server) -> list[str]:
    """Databases that hold something of the users'."""
    return server.sql("select datname from pg_database where datallowconn and not datistemplate order by 1", "postgres")


def newest_row(server: Server, column: str) -> str | None:
    """The newest time in a column TABLE.COLUMN, in UTC; nothing where there is no such table, no row, or a time that is none (infinity)."""
    table, _, name = column.rpartition(".")
    quoted = table.replace("'", "''")
    if server.sql(f"select to_regclass('{quoted}') is null", role=server.settings.owner) == ["t"]:
        return None
    # Seconds: how a time is written is a setting of the role's
    rows = server.sql(f"select extract(epoch from max({name}) at time zone 'UTC') from {table}", role=server.settings.owner)
    try:
        return datetime.datetime.fromtimestamp(float(rows[0]), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    except (ValueError, OverflowError, OSError):
        return None
