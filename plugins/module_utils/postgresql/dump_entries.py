"""As whom each entry of a dump fills a new database: nothing that the application has written runs in a superuser's session.

While rows are put in and constraints are checked, functions of the application's run (CHECK, generated columns, domains, casts), as whoever fills. No
statement takes a superuser's rights from such a function: RESET ROLE gives them back. So the session itself is the application's role's.

Standard library alone: role backup installs this file on the host beside its command.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator

APPLICATION, SUPERUSER = "application", "superuser"
# What these make calls nothing when it is made, and much of it takes a superuser, whoever owns it then
MADE_BY_SUPERUSER = frozenset((
    "ACCESS METHOD", "BLOB", "BLOB METADATA", "BLOBS", "CAST", "DATABASE", "DATABASE PROPERTIES", "EVENT TRIGGER", "EXTENSION", "FOREIGN DATA WRAPPER",
    "FOREIGN TABLE", "FUNCTION", "INDEX ATTACH", "OPERATOR", "OPERATOR CLASS", "OPERATOR FAMILY", "PROCEDURAL LANGUAGE", "PROCEDURE", "PUBLICATION",
    "PUBLICATION TABLE", "PUBLICATION TABLES IN SCHEMA", "SCHEMA", "SERVER", "SHELL TYPE", "SUBSCRIPTION", "SUBSCRIPTION TABLE", "TEXT SEARCH PARSER",
    "TEXT SEARCH TEMPLATE", "TRANSFORM", "TYPE", "USER MAPPING",
))  # fmt: skip
RIGHTS = frozenset(("ACL", "DEFAULT ACL"))  # pg_restore gives them when all else is there
SAID = frozenset(("COMMENT", "SECURITY LABEL"))  # of whatever is before them
LAST = ("EVENT TRIGGER", "MATERIALIZED VIEW DATA")  # after the rights
OTHERS = frozenset((
    "AGGREGATE", "CHECK CONSTRAINT", "COLLATION", "CONSTRAINT", "CONVERSION", "DEFAULT", "DOMAIN", "FK CONSTRAINT", "INDEX", "MATERIALIZED VIEW",
    "POLICY", "ROW SECURITY", "RULE", "SEQUENCE", "SEQUENCE OWNED BY", "SEQUENCE SET", "STATISTICS", "STATISTICS DATA", "TABLE", "TABLE ATTACH",
    "TABLE DATA", "TEXT SEARCH CONFIGURATION", "TEXT SEARCH DICTIONARY", "TRIGGER", "VIEW",
))  # fmt: skip
KINDS = sorted({*MADE_BY_SUPERUSER, *RIGHTS, *SAID, *LAST, *OTHERS}, key=len, reverse=True)

# Grants come last, so until then the role may make its objects in every schema, put rows in every table and refer to it
_NAMES = "n.nspname !~ '^pg_' and n.nspname <> 'information_schema'"
GIVE = f"""
select format('grant usage, create on schema %I to %I', n.nspname, r.rolname) from pg_namespace n, pg_roles r where {_NAMES}
  and r.rolname = :'fills' and not (has_schema_privilege(r.oid, n.oid, 'usage') and has_schema_privilege(r.oid, n.oid, 'create')) \\gexec
select format('grant insert, references on table %I.%I to %I', n.nspname, c.relname, r.rolname) from pg_class c join pg_namespace n on n.oid = c.relnamespace,
  pg_roles r where {_NAMES} and c.relkind in ('r', 'p') and c.relpersistence <> 't' and c.relowner <> r.oid
  and r.rolname = :'fills' and not (has_table_privilege(r.oid, c.oid, 'insert') and has_table_privilege(r.oid, c.oid, 'references')) \\gexec
"""
TAKE = f"""
select format('revoke all on schema %I from %I', n.nspname, r.rolname) from pg_namespace n, pg_roles r where {_NAMES} and r.rolname = :'fills'
  and n.nspowner <> r.oid and exists (select from aclexplode(n.nspacl) a where a.grantee = r.oid) \\gexec
select format('revoke all on table %I.%I from %I', n.nspname, c.relname, r.rolname) from pg_class c join pg_namespace n on n.oid = c.relnamespace, pg_roles r
  where {_NAMES} and c.relkind in ('r', 'p') and r.rolname = :'fills' and c.relowner <> r.oid
  and exists (select from aclexplode(c.relacl) a where a.grantee = r.oid) \\gexec
"""


def script(text: str, fills: str) -> str:
    """GIVE or TAKE for a role (psql.argument)."""
    return f"\\set fills {fills}\n{text}"


def by_whom(kind: str | None, owner: str | None, role: str, now: str) -> str:
    """Who makes an entry, where the one before it is made by `now`. Of what is not understood: who has the fewest rights."""
    if kind in SAID and (now == SUPERUSER or owner == role):
        return now
    if kind is None or kind == "TABLE DATA":
        return APPLICATION
    return APPLICATION if owner == role and kind not in MADE_BY_SUPERUSER and kind not in RIGHTS else SUPERUSER


# pg_restore's list of an archive


def _listed(line: str, role: str) -> tuple[str, str, str | None]:
    """Kind, what is said of it, and the owner where that is `role`. Names may hold spaces: a kind comes first, an owner last."""
    _, catalogue, _, rest = line.split(" ", 3)
    kind = next((kind for kind in KINDS if rest.startswith(f"{kind} ") and (kind != "TABLE DATA" or catalogue == "0")), "")
    return kind, rest[len(kind) + 1 :], role if rest.endswith(f" {role}") else None


def steps(listing: str, role: str) -> list[tuple[str, str, list[str]]]:
    """Who does which entries of the list, in their order: ("database" | "main" | "rights" | "last", who, what pg_restore knows them by)."""
    stages: dict[str, list[tuple[str, str]]] = {"database": [], "main": [], "rights": [], "last": []}
    now = SUPERUSER
    for line in listing.split("\n"):  # splitlines knows ends of lines that a name may hold
        if not line or line.startswith(";"):
            continue
        kind, about, owner = _listed(line, role)
        line = f"{line.partition(';')[0]};"
        if kind in ("DATABASE", "DATABASE PROPERTIES") or (kind in (*SAID, *RIGHTS) and about.startswith("- DATABASE ")):
            stages["database"].append((SUPERUSER, line))
        elif kind in RIGHTS:
            stages["rights"].append((SUPERUSER, line))
        elif kind in LAST or (kind in SAID and about.startswith("- EVENT TRIGGER ")):
            stages["last"].append((by_whom(kind, owner, role, SUPERUSER), line))
        else:
            now = by_whom(kind, owner, role, now)
            stages["main"].append((now, line))
    return [(stage, who, [line for _, line in group]) for stage, lines in stages.items() for who, group in itertools.groupby(lines, key=lambda entry: entry[0])]


# A plain dump

TOKEN = re.compile(rb"[eE]'|[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*|\$[0-9]+|\$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*)?\$|'|\"|--|/\*|\\|;|[^\s]")
ESCAPED = re.compile(rb"\\.|''|'", re.DOTALL)
HEADER = re.compile(rb"-- (?:Data for )?Name: (.*); Type: (.*); Schema: (.*); Owner: (.*)\n")
META = re.compile(rb"\\(un)?restrict [A-Za-z0-9]+\n")
END = (b"\\.\n", b"\\.\r\n")  # of rows
HELD = re.compile(rb"SET (default_tablespace|default_table_access_method) = .*;\n")
# Encodings of clients in which a byte of a letter may be a quote or a backslash
UNSAFE = re.compile(rb"SET client_encoding = '(?:BIG5|GB18030|GBK|JOHAB|SHIFT_JIS_2004|SJIS|UHC)';\n", re.IGNORECASE)
# A function that ran may have changed how psql reads what follows; both are read alike whatever it has set
AS_BEFORE = b"SET standard_conforming_strings = on;\nSET client_encoding = %s;\n"


class Reader:
    """Where in a plain dump a line is: between statements, in one, in a string, or followed by rows."""

    def __init__(self):
        self.inside = b""  # what has to come for a string, a name or a comment to end
        self.verb = b""  # the first word of the statement under way
        self.rows = False

    def read(self, line: bytes) -> None:
        """Take one more line."""
        at, copies = 0, False
        while at < len(line):
            if self.inside:
                at = self._ends(line, at)
                continue
            token = TOKEN.search(line, at)
            if not token:
                break
            at, word = token.end(), token[0]
            copies = False
            if word == b"--":
                break
            if word == b"\\":
                raise ValueError("a backslash between statements, which pg_dump does not write")
            if word == b";":
                self.verb, copies = b"", self.verb.upper() == b"COPY"
                continue
            self.verb = self.verb or word
            if word in (b"e'", b"E'"):
                self.inside = b"e"
            elif word in (b"'", b'"', b"/*") or (word[:1] == b"$" and word[-1:] == b"$"):
                self.inside = b"*/" if word == b"/*" else word
        self.rows = copies

    def _ends(self, line: bytes, at: int) -> int:
        """Where a string goes on, or has ended."""
        if self.inside == b"e":
            found = ESCAPED.search(line, at)
            while found and found[0] != b"'":
                found = ESCAPED.search(line, found.end())
            end = found.end() if found else -1
        else:
            place = line.find(self.inside, at)
            end = place + len(self.inside) if place >= 0 else -1
        if end < 0:
            return len(line)
        self.inside = b""
        return end

    @property
    def between(self) -> bool:
        return not (self.inside or self.verb or self.rows)


def described(line: bytes) -> tuple[str, str] | None:
    """Kind and owner in the comment before an entry; none where a name in it makes them uncertain."""
    found = HEADER.fullmatch(line)
    if not found or any(line.count(word) != 1 for word in (b"; Type: ", b"; Schema: ", b"; Owner: ")):
        return None
    owner = found[4].decode(errors="replace").partition("; Tablespace: ")[0]
    return found[2].decode(errors="replace"), owner


def parts(lines: Iterable[bytes], role: str) -> Iterator[tuple[str, str, bytes]]:
    """Each line of a plain dump, as ("main" | "rights", who, text). Whoever begins has the settings of the dump first."""
    reader, settings, held, encoding = Reader(), [], {}, b"UTF8"
    who, stage, begun, ended = SUPERUSER, "main", False, b""
    for line in lines:
        if reader.rows:  # most of a dump
            reader.rows = line not in END
            yield stage, who, line
            continue
        if reader.between:
            if META.fullmatch(line):
                if not begun:
                    settings.append(line)
                continue
            if line.startswith((b"-- Name: ", b"-- Data for Name: ")) and ended == b"--\n":
                kind, owner = described(line) or (None, None)
                begins = by_whom(kind, owner, role, who)
                if kind in RIGHTS:
                    stage = "rights"
                if begins != who or not begun:
                    who = begins
                    for text in (*settings, *held.values()):
                        yield stage, who, text
                begun = True
                yield stage, who, AS_BEFORE % encoding
            elif held_now := HELD.fullmatch(line):
                held[held_now[1]] = line
        ended = line
        reader.read(line)
        if begun:
            yield stage, who, line
        else:
            if UNSAFE.fullmatch(line) or line == b"SET standard_conforming_strings = off;\n":
                raise ValueError(f"{line.decode().strip()}: what is a string in it cannot be told")
            if said := re.fullmatch(rb"SET client_encoding = '([A-Za-z0-9_]+)';\n", line):
                encoding = said[1]
            settings.append(line)
