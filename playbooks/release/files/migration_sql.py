# What the SQL of a migration does to the version that still serves beside it. Knows PostgreSQL's SQL and no Django; plan.py asks it.
# Sources of the rules: PostgreSQL's "Explicit Locking" and "ALTER TABLE", and the checks of django-migration-linter and strong_migrations
import re

TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*|/\*.*?\*/)
    |(?P<name>"(?:[^"]|"")*")
    |(?P<text>[eE]'(?:[^'\\]|''|\\.)*'|[bBxXnN]?'(?:[^']|'')*'|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
    |(?P<word>[A-Za-z_][\w$]*)
    |(?P<sign>\d[\w.]*|::|.)""",
    re.VERBOSE | re.DOTALL,
)
CONSTRAINTS = ("constraint", "primary", "unique", "check", "foreign", "exclude")
# What may follow the default of a column
BEHIND_DEFAULT = {"not", "null", "collate", "references", "generated", "deferrable", "initially", *CONSTRAINTS}
OBJECTS = ("table", "view", "materialized view", "foreign table", "schema", "sequence", "type", "domain", "function", "procedure", "extension")
HARMLESS = (
    "set", "reset", "select", "comment", "analyze", "grant", "begin", "commit", "start", "savepoint", "release", "drop index", "drop trigger",
    "create extension", "create schema", "create sequence", "create type", "create domain", "create view", "create materialized", "create function",
    "create collation", "create statistics", "alter index", "alter sequence",
)  # fmt: skip
# Between REINDEX, REFRESH, CLUSTER or VACUUM and what they are for
BEFORE_NAME = {"table", "index", "schema", "database", "system", "materialized", "view", "concurrently", "full", "freeze", "verbose", "analyze"}
ROWS = ("insert", "update", "delete", "merge", "with", "copy")
UNKNOWN = "nobody but its author can judge it"
FORBIDS = "the version that still serves may write what it forbids"


class Token(str):
    """A word in lower case, a name without its quotes, or a sign; `word` is set where it may be a keyword."""

    word = False
    name = False


def statements(sql):
    """The tokens of each statement."""
    found = [[]]
    for match in TOKEN.finditer(sql):
        kind, text = match.lastgroup if match.lastgroup != "tag" else "text", match[0]
        if kind == "space":
            continue
        if text == ";":
            found.append([])
            continue
        token = Token(text.lower() if kind == "word" else text[1:-1].replace('""', '"') if kind == "name" else text)
        token.word, token.name = kind == "word", kind in ("word", "name")
        found[-1].append(token)
    return [tokens for tokens in found if tokens]


def starts(tokens, phrase):
    """Whether the keywords of the phrase come first."""
    words = phrase.split()
    return len(tokens) >= len(words) and all(token.word and token == word for token, word in zip(tokens, words, strict=False))


def without(tokens, *phrases):
    """The tokens behind those of the phrases that come first, in their order."""
    for phrase in phrases:
        if starts(tokens, phrase):
            tokens = tokens[len(phrase.split()) :]
    return tokens


def deeper(token):
    """What a token adds to the depth of parentheses; the elements of an array are in brackets."""
    return (token in ("(", "[")) - (token in (")", "]"))


def holds(tokens, phrase):
    """Where the phrase begins outside of all parentheses; -1 when nowhere."""
    depth = 0
    for at, token in enumerate(tokens):
        depth += deeper(token)
        if depth == 0 and starts(tokens[at:], phrase):
            return at
    return -1


def named(tokens):
    """A name, with its schema where that is not the usual one, and what follows."""
    end = 1
    while end + 1 < len(tokens) and tokens[end] == "." and tokens[end + 1].name:
        end += 2
    parts = [part for part in tokens[:end] if part != "."]
    return ".".join(parts[1:] if len(parts) > 1 and parts[0] == "public" else parts), tokens[end:]


def separated(tokens):
    """Parts between the commas that are in no parentheses."""
    depth, found = 0, [[]]
    for token in tokens:
        depth += deeper(token)
        if token == "," and depth == 0:
            found.append([])
        else:
            found[-1].append(token)
    return [part for part in found if part]


def inside(tokens):
    """What the first parentheses hold."""
    depth, found = 0, []
    for token in tokens:
        depth -= token == ")"
        if depth == 0 and token == ")":
            break
        if depth:
            found.append(token)
        depth += token == "("
    return found


def written_anew(tokens):
    """What a REINDEX, REFRESH, CLUSTER or VACUUM names; the index of CLUSTER and the columns of VACUUM come behind it."""
    rest = tokens[1:]
    while rest and (rest[0] == "(" or rest[0].word and rest[0] in BEFORE_NAME):
        rest = rest[len(inside(rest)) + 2 :] if rest[0] == "(" else rest[1:]
    return [named(part)[0] for part in separated(rest)]


def size_text(size):
    return f"{size / 2**30:.1f} GB" if size >= 2**30 else f"{size / 2**20:.0f} MB"


class Judge:
    """Goes through the statements of all pending migrations in their order. `facts` knows the database as it is:
    size(table), bytes or None for none; columns(table), {name: {type, not_null, default}}; volatile(names), those of functions that are."""

    def __init__(self, facts, small):
        self.facts, self.small = facts, small
        self.tables = set()  # made by a pending migration: the version in service does not know them
        self.columns = {}  # the same: (table, column): whether it may be empty, and has a default
        self.unsafe, self.notes = [], []

    def judge(self, sql):
        """What is unsafe, and what else is worth to be known, of some statements."""
        self.unsafe, self.notes = [], []
        for tokens in statements(sql):
            self._statement(tokens)
        return list(dict.fromkeys(self.unsafe)), list(dict.fromkeys(self.notes))

    def end(self):
        """What is unsafe when a migration is over: a column may get its default in one statement and lose it in the next."""
        found = [
            f"{table}.{column} may not be empty and has no default in the database (db_default)"
            for (table, column), known in self.columns.items()
            if not known["null"] and not known["default"] and not known.get("told")
        ]
        for known in self.columns.values():
            known["told"] = True
        return found

    def _statement(self, tokens):
        if starts(tokens, "create"):
            self._create(tokens)
        elif starts(tokens, "alter table") or starts(tokens, "alter foreign table"):
            self._alter_table(without(tokens, "alter", "foreign", "table", "if exists", "only"))
        elif starts(tokens, "drop") and (kind := next((kind for kind in OBJECTS if starts(tokens[1:], kind)), "")):
            self._drop(kind, tokens[1 + len(kind.split()) :])
        elif starts(tokens, "truncate"):
            for part in separated(without(tokens, "truncate", "table", "only")):
                if (table := named(part)[0]) not in self.tables:
                    self.unsafe.append(f"the rows of {table} go")
        elif starts(tokens, "reindex") or starts(tokens, "refresh materialized view") or starts(tokens, "cluster") or starts(tokens, "vacuum"):
            if "concurrently" not in tokens and (tokens[0] != "vacuum" or "full" in tokens):
                for table in (found := written_anew(tokens)):
                    self._waits(table, f"all wait for {tokens[0].upper()}")
                self.unsafe += [] if found else [f"all tables: all wait for {tokens[0].upper()}"]
        elif starts(tokens, "lock"):
            self.notes.append(f"{named(without(tokens, 'lock', 'table', 'only'))[0]} is locked until the migration ends")
        elif tokens[0].word and tokens[0] in ROWS:
            self.notes.append(f"changes rows ({tokens[0].upper()}), which others cannot change until the migration ends")
        elif not any(starts(tokens, phrase) for phrase in HARMLESS):
            self.notes.append(f"{' '.join(tokens[:3]).upper()}: {UNKNOWN}")

    def _drop(self, kind, tokens):
        for part in separated(without(tokens, "concurrently", "if exists")):
            name = named(part)[0]
            if name not in self.tables:
                self.unsafe.append(f"the {kind} {name} goes")
            self.tables.discard(name)

    def _create(self, tokens):
        rest = without(tokens, "create", "unlogged", "global", "local", "temporary", "temp")
        if starts(rest, "table"):
            table, rest = named(without(rest, "table", "if not exists"))
            if self.facts.size(table) is None:
                self.tables.add(table)
            self._references(rest)
        elif starts(rest, "unique index") or starts(rest, "index"):
            self._index(rest)
        elif not any(starts(tokens, phrase) for phrase in HARMLESS):
            self.notes.append(f"{' '.join(tokens[:3]).upper()}: {UNKNOWN}")

    def _index(self, tokens):
        rest = without(tokens, "unique", "index")
        concurrently, rest = starts(rest, "concurrently"), without(rest, "concurrently", "if not exists")
        at = holds(rest, "on")
        table, definition = named(without(rest[at + 1 :], "only"))
        if starts(tokens, "unique"):
            self._unique(table, inside(definition), "the unique index")
        if not concurrently:
            self._waits(table, "writes wait while the index is built (AddIndexConcurrently lets them go on)")

    def _alter_table(self, tokens):
        table, rest = named(tokens)
        rest = without(rest, "*")
        if starts(rest, "rename constraint"):
            return
        if starts(rest, "rename to"):
            if table not in self.tables:
                self.unsafe.append(f"the table {table} is renamed")
            self._moved(table, named(rest[2:])[0])
        elif starts(rest, "rename"):
            self._rename_column(table, without(rest, "rename", "column"))
        elif starts(rest, "set schema"):
            self.unsafe.append(f"the table {table} goes to another schema")
        else:
            for action in separated(rest):
                self._action(table, action)

    def _moved(self, table, name):
        if table in self.tables:
            self.tables.discard(table)
            self.tables.add(name)
        self.columns = {((name if at == table else at), column): known for (at, column), known in self.columns.items()}

    def _rename_column(self, table, tokens):
        old, new = tokens[0], tokens[2]
        if not self._is_new(table, old):
            self.unsafe.append(f"the column {table}.{old} is renamed")
        elif known := self.columns.pop((table, old), None):
            self.columns[table, new] = known

    def _is_new(self, table, column):
        return table in self.tables or (table, column) in self.columns

    def _action(self, table, tokens):
        if starts(tokens, "add"):
            rest = tokens[1:]
            if rest[0].word and rest[0] in CONSTRAINTS:
                self._constraint(table, rest)
            else:
                self._add_column(table, without(rest, "column", "if not exists"))
        elif starts(tokens, "alter") and not starts(tokens, "alter constraint"):
            self._alter_column(table, without(tokens, "alter", "column"))
        elif starts(tokens, "drop constraint") or starts(tokens, "validate constraint") or starts(tokens, "owner to"):
            pass
        elif starts(tokens, "drop"):
            column = without(tokens, "drop", "column", "if exists")[0]
            if not self._is_new(table, column):
                self.unsafe.append(f"the column {table}.{column} goes")
            self.columns.pop((table, column), None)
        elif any(starts(tokens, phrase) for phrase in ("set unlogged", "set logged", "set tablespace", "set access", "attach partition")):
            self._waits(table, "all wait while the table is written anew or read through")
        elif table not in self.tables and not starts(tokens, "set ("):
            self.notes.append(f"{table}, {' '.join(tokens[:3]).upper()}: {UNKNOWN}")

    def _add_column(self, table, tokens):
        if table in self.tables:
            return
        column, rest = tokens[0], tokens[1:]
        at = holds(rest, "default")
        default = []
        for token in rest[at + 1 :] if at >= 0 else []:
            if token.word and token in BEHIND_DEFAULT and default:
                break
            default.append(token)
        empty = [token for token in default if token.word] == ["null"]
        serial = any(token.word and token in ("serial", "bigserial", "smallserial") for token in rest[:1])
        identity, computed = holds(rest, "generated") >= 0 and "identity" in rest, holds(rest, "generated") >= 0 and "identity" not in rest
        given = bool(default) and not empty or serial or identity or computed
        known = self.columns[table, column] = {
            "null": holds(rest, "not null") < 0 and holds(rest, "primary key") < 0, "default": given,
        }  # fmt: skip
        called = {token for token, after in zip(default, default[1:], strict=False) if token.name and after == "("}
        if serial or identity or computed and "virtual" not in rest or self.facts.volatile(called):
            self._waits(table, f"all wait while the table is written anew, for each row of {column} gets a value of its own")
        elif holds(rest, "check") >= 0:
            self._waits(table, f"all wait while the table is read through, for {column} has a CHECK")
        if holds(rest, "unique") >= 0 or holds(rest, "primary key") >= 0:
            self._unique(table, [column], "UNIQUE")
            self._waits(table, f"all wait while the index of {column} is built")
        if holds(rest, "references") >= 0:
            self._references(rest)
            if given and not known["null"]:
                self._waits(table, f"writes wait while {column} is compared with what it refers to")

    def _references(self, tokens):
        for at, token in enumerate(tokens):
            if token.word and token == "references" and (other := named(tokens[at + 1 :])[0]) not in self.tables and self.facts.size(other) is not None:
                self.notes.append(f"writes to {other} wait until the migration ends, for the foreign key locks it")

    def _constraint(self, table, tokens):
        if starts(tokens, "constraint"):
            tokens = named(tokens[1:])[1]
        kind = tokens[0].upper()
        if table in self.tables:
            return self._references(tokens)
        if holds(tokens, "using index") >= 0:
            return None
        columns = inside(tokens)
        if kind in ("UNIQUE", "PRIMARY"):
            self._unique(table, columns, "UNIQUE" if kind == "UNIQUE" else "PRIMARY KEY")
        else:
            known = self.facts.columns(table)
            old = [token for token in columns if token.name and token in known and (table, token) not in self.columns]
            new = [token for token in columns if token.name and (table, token) in self.columns]
            if old and not new:
                self.unsafe.append(f"a constraint ({kind}) for {', '.join(dict.fromkeys(old))} of {table}: {FORBIDS}")
            elif old:
                self.notes.append(f"a constraint ({kind}) for new and old columns of {table}: whether {FORBIDS}, nobody but its author can judge")
        self._references(tokens)
        if holds(tokens, "not valid") < 0:
            self._waits(table, f"writes wait while the rows are checked for the constraint ({kind}); NOT VALID and a later validation let them go on")
        return None

    def _unique(self, table, columns, what):
        """Rows of the version in service cannot collide where a column is empty that it does not know."""
        if table in self.tables:
            return
        free = [self.columns[table, token] for token in columns if (table, token) in self.columns]
        if not any(known["null"] and not known["default"] for known in free):
            self.unsafe.append(f"{what} for {', '.join(token for token in columns if token != ',')} of {table}: {FORBIDS}")

    def _alter_column(self, table, tokens):
        if table in self.tables:
            return
        column, rest = tokens[0], tokens[1:]
        new, old = self.columns.get((table, column)), self.facts.columns(table).get(column, {})
        if starts(rest, "set not null"):
            if new:
                new.update(null=False, told=False)
            elif not old.get("not_null"):
                self.unsafe.append(f"{table}.{column} may not be empty any more")
            if new or not old.get("not_null"):
                self._waits(table, f"all wait while the table is read through, for {column} may not be empty")
        elif starts(rest, "drop not null"):
            if new:
                new["null"] = True
        elif starts(rest, "set default") or starts(rest, "add generated"):
            if new:
                new["default"] = True
        elif starts(rest, "drop default") or starts(rest, "drop identity"):
            if new:
                new["default"] = False
            elif old.get("not_null") and old.get("default"):
                self.unsafe.append(f"{table}.{column} loses its default, which the version that still serves may rely on")
        elif starts(rest, "type") or starts(rest, "set data type"):
            self._type(table, column, "" if new else old.get("type", "unknown"), without(rest, "set", "data", "type"))

    def _type(self, table, column, old, tokens):
        end = min([at for at in (holds(tokens, "using"), holds(tokens, "collate")) if at >= 0], default=len(tokens))
        new = "".join(tokens[:end])
        if old and not wider(old, new):
            self.unsafe.append(f"the type of {table}.{column} changes from {old} to {new}")
        if not wider(old, new):
            self._waits(table, f"all wait while the table is written anew for the type of {column}")

    def _waits(self, table, text):
        """A lock for as long as the table is long. Of a small one nobody notices it."""
        if table in self.tables:
            return
        size = self.facts.size(table)
        what = self.unsafe if size is None or size > self.small else self.notes
        what.append(f"{table} ({'of unknown size' if size is None else size_text(size)}): {text}")


def wider(old, new):
    """Whether PostgreSQL changes nothing on the disk, and the application that knows the old type can read and write the new one."""
    old, new = (text.lower().replace(" ", "").replace("charactervarying", "varchar") for text in (old, new))
    if old == new:
        return True
    one, two = (re.fullmatch(r"varchar(?:\((\d+)\))?", text) for text in (old, new))
    if one and (new == "text" or two and (two[1] is None or one[1] and int(two[1]) >= int(one[1]))):
        return True
    one, two = (re.fullmatch(r"numeric\((\d+),(\d+)\)", text) for text in (old, new))
    return bool(one and two and one[2] == two[2] and int(two[1]) >= int(one[1]))
