"""What a dump of one database leaves out, and a server that has never seen it lacks: roles, and what is the database's own and not in it."""

from __future__ import annotations

import json
import re

from senex_backup.common import Settings, rows, say, sql
from senex_backup.postgresql import psql

CLUSTER = "postgres"  # the database that psql is in
# Values that are lists of names lie in the catalogue in the words of whoever set them (SET ... FROM CURRENT), which may be more than names to SQL
SETTING = r"""format('%I ', split_part(c, '=', 1)) || '= ' || case
  when split_part(c, '=', 1) in ('search_path', 'temp_tablespaces', 'local_preload_libraries', 'session_preload_libraries')
  then coalesce((select string_agg(quote_literal(case when m[1] like '"%' then replace(substr(m[1], 2, length(m[1]) - 2), '""', '"') else m[1] end), ', ')
    from regexp_matches(substr(c, strpos(c, '=') + 1), '\s*("(?:[^"]|"")*"|[^",][^,]*?)\s*(?:,|$)', 'g') m), quote_literal(''))
  else quote_literal(substr(c, strpos(c, '=') + 1)) end"""
# Statements that psql runs with the database's name in :"db", whatever it is called then
SETTINGS = f"""select format('alter %s set ', case s.setrole when 0 then 'database :"db"' else format('role %I in database :"db"', r.rolname) end)
  || {SETTING} || ';' from pg_db_role_setting s left join pg_roles r on r.oid = s.setrole
  cross join unnest(s.setconfig) c where s.setdatabase = d.oid order by 1"""
GRANTS = """select format('grant %s on database :"db" to %s%s;', lower(a.privilege_type), case a.grantee when 0 then 'public' else quote_ident(r.rolname) end,
  case when a.is_grantable then ' with grant option' else '' end)
  from aclexplode(d.datacl) a left join pg_roles r on r.oid = a.grantee where a.grantee <> d.datdba order by 1"""
# Without passwords, and without what lets a role past everything: those are given by a person who knows what for
ROLES = f"""
select 'R', r.rolname, json_build_object(
  'options', concat_ws(' ', case when rolcanlogin then 'login' else 'nologin' end, case when rolinherit then 'inherit' else 'noinherit' end,
    case when rolcreatedb then 'createdb' end, case when rolcreaterole then 'createrole' end, format('connection limit %s', rolconnlimit)),
  'member of', (select coalesce(json_agg(g.rolname order by g.rolname), '[]') from pg_auth_members m
    join pg_roles g on g.oid = m.roleid where m.member = r.oid),
  'settings', (select coalesce(json_agg(format('alter role %I set ', r.rolname) || {SETTING} || ';'), '[]') from pg_db_role_setting s
    cross join unnest(s.setconfig) c where s.setrole = r.oid and s.setdatabase = 0))
from pg_roles r where r.rolname !~ '^pg_' order by 2;
"""
DATABASE = f"""
select 'D', d.datname, json_build_object('encoding', pg_encoding_to_char(d.encoding), 'collate', d.datcollate, 'ctype', d.datctype,
  'provider', d.datlocprovider, 'locale', coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale'), 'rules', to_jsonb(d) ->> 'daticurules',
  'connections', d.datconnlimit, 'comment', shobj_description(d.oid, 'pg_database'),
  'grants', array({GRANTS}), 'own grants', d.datacl is not null, 'settings', array({SETTINGS}))
from pg_database d where d.datname = current_database();
"""
# Kinds of objects that a dump holds and a count of rows does not see. Grants by who has any on what: a later version knows more kinds of them
OWN = """n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
  and not exists (select from pg_depend x where x.classid = '{0}'::regclass and x.objid = {1} and x.deptype = 'e')"""
TABLES, ROUTINES = OWN.format("pg_class", "c.oid"), OWN.format("pg_proc", "p.oid")
OBJECTS = f"""
select 'O', 'large objects', count(*) from pg_largeobject_metadata;
select 'O', 'bytes in large objects', coalesce(sum(length(data)), 0) from pg_largeobject;
select 'O', 'functions', count(*) from pg_proc p join pg_namespace n on n.oid = p.pronamespace where {ROUTINES};
select 'O', 'triggers', count(*) from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
  where not t.tgisinternal and {TABLES};
select 'O', 'constraints', count(*) from pg_constraint k join pg_class c on c.oid = k.conrelid join pg_namespace n on n.oid = c.relnamespace
  where k.contype in ('c', 'f', 'p', 'u', 'x') and {TABLES};
select 'O', 'indexes', count(*) from pg_index i join pg_class c on c.oid = i.indrelid join pg_namespace n on n.oid = c.relnamespace where {TABLES};
select 'O', 'views', count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('v', 'm') and {TABLES};
select 'O', 'grants on tables', count(distinct (c.oid, a.grantee)) from pg_class c join pg_namespace n on n.oid = c.relnamespace
  cross join aclexplode(c.relacl) a where a.grantee <> c.relowner and {TABLES};
select 'O', 'owners of tables', count(distinct c.relowner) from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind = 'r' and {TABLES};
"""


NAME, TEXT = r'(?:"(?:[^"]|"")*"|[\w$]+)', r"(?:'(?:[^'\\]|'')*'|E'(?:[^'\\]|''|\\\\)*')"
SOUND = re.compile(rf'alter (?:role {NAME}(?: in database :"db")?|database :"db") set {NAME} = (?:{NAME}|{TEXT})(?:, *(?:{NAME}|{TEXT}))*;')


def described(found: list[list[str]]) -> dict:
    """For the file beside a dump, of what ROLES, DATABASE and OBJECTS have answered."""
    return {
        "roles": {name: json.loads(value) for kind, name, value in found if kind == "R"},
        "properties": next((json.loads(value) for kind, _, value in found if kind == "D"), None),
        "objects": {name: int(value) for kind, name, value in found if kind == "O"},
    }


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def sound(statements: list[str]) -> list[str]:
    """What is a setting and nothing else: in dumps of before there may be more in one."""
    for one in statements:
        if not SOUND.fullmatch(one):
            say(f"<4>{one} is no setting, and is left out")
    return [one for one in statements if SOUND.fullmatch(one)]


def called(name: str) -> str:
    """The database whose name :"db" stands for."""
    return f"\\set db {psql.argument(name)}"


def missing(settings: Settings, facts: dict) -> list[str]:
    """Roles that the dump's objects may belong or be granted to, and that this cluster has not."""
    named = facts.get("roles") or {}
    there = [name for (name,) in rows(settings, "select rolname from pg_roles;", CLUSTER)] if named else []
    return [name for name in named if name not in there]


def others(settings: Settings) -> list[str]:
    """Databases of this cluster that no dump holds; those that restores kept or made are no such."""
    own = settings["database"]["name"]
    there = [name for (name,) in rows(settings, "select datname from pg_database where datallowconn and not datistemplate order by 1;", CLUSTER)]
    return [name for name in there if name not in (own, CLUSTER) and not name.startswith((f"{own}_restore_", f"{own}_before_restore_"))]


def make_roles(settings: Settings, facts: dict, names: list[str]) -> None:
    """Roles as they were, but for passwords and a superuser's rights; all of them or none."""
    script = "".join(f"create role {quoted(name)} {facts['roles'][name]['options']};\n" for name in names)
    groups = [(group, name) for name in names for group in facts["roles"][name]["member of"] if not group.startswith("pg_")]
    script += "".join(f"grant {quoted(group)} to {quoted(name)};\n" for group, name in groups)
    script += "".join("\n".join(sound(facts["roles"][name]["settings"])) + "\n" for name in names)
    if names:
        sql(settings, f"begin;\n{script}commit;", CLUSTER)


def create(settings: Settings, name: str, facts: dict) -> None:
    """An empty database with the encoding and the collation that the dumped one had; as the cluster has them, where the dump is too old to say."""
    was, words = facts.get("properties"), ""
    if was:
        words = f" encoding {literal(was['encoding'])} lc_collate {literal(was['collate'])} lc_ctype {literal(was['ctype'])}"
        if was["provider"] in ("i", "b"):
            kind = {"i": "icu", "b": "builtin"}[was["provider"]]
            words += f" locale_provider {kind} {kind}_locale {literal(was['locale'])}" + (f" icu_rules {literal(was['rules'])}" if was["rules"] else "")
        elif was["provider"] == "c":
            words += " locale_provider libc"
    sql(settings, f"create database {quoted(name)} owner {quoted(settings['database']['owner'])} template template0{words};", CLUSTER)


def dress(settings: Settings, name: str, facts: dict) -> None:
    """What was said of the database itself: who may connect and how often, comment, settings of its own and of roles in it."""
    if not (was := facts.get("properties")):
        return
    lines = [called(name), "begin;", f'alter database :"db" connection limit {int(was["connections"])};']
    if was["comment"]:
        lines.append(f'comment on database :"db" is {literal(was["comment"])};')
    if was["own grants"]:
        lines.append('revoke all on database :"db" from public;')
    sql(settings, "\n".join([*lines, *was["grants"], *sound(was["settings"]), "commit;"]), CLUSTER)


def carry_over(settings: Settings, source: str, target: str) -> None:
    """What is set for one database now (ALTER DATABASE ... SET, ALTER ROLE ... IN DATABASE) is set for another: it is newer than any dump."""
    script = sql(settings, f"select unnest(array({SETTINGS})) from pg_database d where d.datname = {literal(source)};", CLUSTER)
    if script:
        sql(settings, f"{called(target)}\n{script}", CLUSTER)
