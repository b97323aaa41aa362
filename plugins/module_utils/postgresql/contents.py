"""What a database holds, to be compared with what a dump, a base backup or an upgrade makes of it. Names in full: what regclass prints goes by the search path.

Standard library alone, and no import from __future__: roles backup and pitr install this file beside their programs.
"""

COUNTS = r"""
select format('select ''T'', %L, count(*) from only %s;', format('%I.%I', n.nspname, c.relname), format('%I.%I', n.nspname, c.relname))
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and c.relpersistence = 'p' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e') order by 1 \gexec
"""
SEQUENCES = """
select 'S', format('%I.%I', schemaname, sequencename), coalesce(last_value, 0) from pg_sequences order by 2;
"""
EXTENSIONS = """
select 'E', extname, extversion from pg_extension order by 2;
"""


def by_kind(rows: list) -> dict:
    """{kind: {name: value}} of what such questions answer."""
    found: dict = {}
    for kind, name, value in rows:
        found.setdefault(kind, {})[name] = value
    return found
