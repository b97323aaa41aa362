"""What a cluster holds, so that two can be compared: rows, sequences, extensions, objects, large objects, roles, encodings."""

from __future__ import annotations

from ansible_collections.senex.trader.plugins.module_utils.postgresql import amcheck as looked_through
from ansible_collections.senex.trader.plugins.module_utils.postgresql import contents
from ansible_collections.senex.trader.plugins.module_utils.postgresql.server import Server

# A password is compared as what it is kept as, and shown nowhere
GLOBALS = """
select 'R', rolname, md5(concat_ws(',', rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls, rolconnlimit,
  rolvaliduntil, rolpassword)) from pg_authid where rolname !~ '^pg_';
select 'M', format('%I in %I', m.rolname, r.rolname), a.admin_option from pg_auth_members a join pg_roles m on m.oid = a.member
join pg_roles r on r.oid = a.roleid where m.rolname !~ '^pg_';
select 'D', datname, concat_ws(' ', pg_encoding_to_char(encoding), datcollate, datctype, datlocprovider, pg_get_userbyid(datdba), datconnlimit)
from pg_database;
select 'G', format('%s of %s', coalesce(d.datname, 'all databases'), coalesce(r.rolname, 'all roles')), array_to_string(s.setconfig, ' ')
from pg_db_role_setting s left join pg_database d on d.oid = s.setdatabase left join pg_roles r on r.oid = s.setrole;
select 'P', 'data_checksums', current_setting('data_checksums');
select 'P', 'wal_segment_size', current_setting('wal_segment_size');
"""
# What belongs to an extension may be another in another version of it
OBJECTS = """
create temp view own as select c.oid, c.relkind, n.nspname from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e');
select 'O', 'relations of kind ' || relkind::text, count(*) from own where relkind not in ('i', 'I') group by relkind;
select 'O', 'indexes', count(*) from pg_index i join own on own.oid = i.indrelid;
select 'O', 'constraints of kind ' || contype::text, count(*) from pg_constraint c join own on own.oid = c.conrelid where contype <> 'n' group by contype;
select 'O', 'triggers', count(*) from pg_trigger t join own on own.oid = t.tgrelid where not t.tgisinternal;
select 'O', 'functions', count(*) from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname !~ '^pg_'
and n.nspname <> 'information_schema' and not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e');
"""
# A dump writes holes of an object as zeros, so pages are not counted, and those of zeros are as none. Of content at most about 1 GB is looked at, spread
# over all objects, by pages that are the same in both clusters: their index finds them. Sums of digests, for a list of millions has no end
LARGE_SAMPLE = 1 << 30
LARGE = rf"""
create temp view large as select m.oid::bigint, pg_get_userbyid(m.lomowner) as owner, coalesce(s.size, 0) as size,
  current_setting('block_size')::bigint / 4 as page from pg_largeobject_metadata m left join lateral (
  select l.pageno::bigint * (current_setting('block_size')::bigint / 4) + length(l.data) as size from pg_largeobject l where l.loid = m.oid
  order by l.pageno desc limit 1) s on true;
select 'L', 'count', count(*) from large;
select 'L', 'bytes', coalesce(sum(size), 0) from large;
select 'L', 'owners and sizes', coalesce(sum(('x' || left(md5(concat_ws(' ', oid, owner, size)), 15))::bit(60)::bigint), 0) from large;
select 'L', 'content', coalesce(sum(('x' || left(md5(concat_ws(' ', l.loid, l.pageno, md5(rtrim(l.data, '\x00'::bytea)))), 15))::bit(60)::bigint), 0)
from (select greatest(1, coalesce(sum(size), 0) / {LARGE_SAMPLE})::bigint as step from large) t, large o,
  generate_series(o.oid % t.step, o.size / o.page, t.step) p, pg_largeobject l
where l.loid = o.oid::oid and l.pageno = p::int and length(rtrim(l.data, '\x00'::bytea)) > 0;
"""
# How often tables were written to, and what no such counter sees: sequences, large objects, TRUNCATE and every other statement that gives a table a new
# file or the database a table, a column or a function. Another answer is a write between two looks
WRITES = """
select concat_ws(' ', (select coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0) from pg_stat_user_tables),
  (select coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0) from pg_stat_sys_tables where relname in ('pg_largeobject', 'pg_largeobject_metadata')),
  (select md5(string_agg(schemaname || '.' || sequencename || '=' || coalesce(last_value, 0), ',' order by schemaname, sequencename)) from pg_sequences),
  (select md5(string_agg(c.oid || ':' || c.relfilenode || ':' || c.relnatts || ':' || c.relname, ',' order by c.oid)) from pg_class c
    join pg_namespace n on n.oid = c.relnamespace where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'),
  (select md5(string_agg(p.oid || ':' || p.xmin, ',' order by p.oid)) from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'))
"""
GAINED = ("P", "data_checksums", "on")  # which a new cluster may have where the old one had none
KINDS = {"R": "role", "M": "membership", "D": "database", "G": "setting", "P": "property", "T": "table", "S": "sequence", "E": "extension",
         "O": "count of", "L": "large objects:"}  # fmt: skip
SHOWN = {"T": "{} rows", "S": "at {}", "O": "{}", "D": "{}", "G": "{}", "P": "{}", "L": "{}"}


def facts(server: Server) -> dict:
    """Everything of a cluster that nobody writes to."""
    script = f"{contents.COUNTS}\n{contents.SEQUENCES}\n{contents.EXTENSIONS}\n{OBJECTS}\n{LARGE}"
    return {"": contents.by_kind(server.rows(GLOBALS)), **{name: contents.by_kind(server.rows(script, name)) for name in server.databases()}}


def writes(server: Server) -> dict[str, str]:
    """How often each database's tables were written to."""
    return {name: server.rows(WRITES, name)[0][0] for name in server.databases()}


def differences(before: dict, after: dict) -> list[str]:
    """What one cluster has and the other has not, a sentence each. An extension may be of another version."""
    wrong = []
    for database in sorted({*before, *after}):
        old, new = before.get(database, {}), after.get(database, {})
        for kind in sorted({*old, *new}):
            if kind == "L" and kind not in old:
                continue  # of a cluster that was kept before they were compared
            was, now = old.get(kind, {}), new.get(kind, {})
            for name in sorted({*was, *now}):
                if name not in now or name not in was or (kind != "E" and was[name] != now[name] and (kind, name, now[name]) != GAINED):
                    wrong.append(_sentence(kind, name, was.get(name), now.get(name)) + (f" (database {database})" if database else ""))
    return wrong


def _sentence(kind: str, name: str, was: str | None, now: str | None) -> str:
    shown = SHOWN.get(kind, "another")
    if was is None or now is None:
        return f"{KINDS[kind]} {name} {'is missing' if now is None else 'was not there'}"
    return f"{KINDS[kind]} {name}: {shown.format(was)} before, {shown.format(now)} now" if "{}" in shown else f"{KINDS[kind]} {name} is not what it was"


def summary(found: dict) -> str:
    """How much was compared."""
    each = [value for name, value in found.items() if name]
    tables = [int(rows) for one in each for rows in one.get("T", {}).values()]
    return (
        f"{len(each)} databases, {sum(tables)} rows in {len(tables)} tables, {sum(len(one.get('S', {})) for one in each)} sequences, "
        f"{sum(len(one.get('E', {})) for one in each)} extensions, {len(found['']['R'])} roles"
    )


def amcheck(server: Server, jobs: int) -> None:
    """Every table and B-tree index; the extension is there for that long where it was not there before."""
    names = server.databases()
    if looked_through.available(server, names[0], server.role) and (wrong := looked_through.check(server, names, server.role, jobs)):
        raise OSError(wrong)
