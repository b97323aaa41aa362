"""Large objects in the comparison of two clusters, on a real server: what pg_dump brings over is the same, and nothing else is."""

import subprocess
import types

import pytest
from ansible_collections.senex.trader.plugins.module_utils.postgresql import contents
from ansible_collections.senex.trader.plugins.module_utils.postgresql import facts as pg_facts
from test_postgresql_roles import PROGRAMS, pytestmark, serving  # noqa: F401  (the mark)

# One with a hole, one of zeros at its end, one of several pages, one empty
CONTENT = """
create role painter;
select lo_from_bytea(4711, 'a picture'), lo_create(4714), lo_from_bytea(4712, decode(repeat('ab', 9000), 'hex') || decode(repeat('00', 5000), 'hex'));
select lo_create(4713);
do $$ declare fd int; begin fd := lo_open(4713, 131072); perform lo_lseek64(fd, 100000, 0); perform lowrite(fd, 'end'); perform lo_close(fd); end $$;
alter large object 4712 owner to painter;
"""


@pytest.fixture(scope="module")
def server():
    with serving("postgres") as found:
        found.sql("create database before")
        found.sql(CONTENT, database="before")
        yield found


def held(server, database):
    rows = [line.split("|") for line in server.sql(pg_facts.LARGE, database=database).splitlines() if line.startswith("L|")]
    return {"": {}, "senex": contents.by_kind(rows)}


@pytest.fixture
def copied(server):
    """By the programs that an upgrade uses."""
    words = [*server.command(["env"]), *(f"{name}={value}" for name, value in server.environment("postgres").items())]
    dump = subprocess.run([*words, "pg_dump", "-Fc", "before"], capture_output=True, check=True, cwd="/").stdout
    server.sql("create database after template template0")
    subprocess.run([*words, "pg_restore", "-d", "after"], input=dump, check=True, cwd="/")
    yield server
    server.sql("drop database after with (force)")


def test_what_a_dump_brings_over_is_the_same(copied):
    before = held(copied, "before")
    assert before["senex"]["L"]["count"] == "4" and int(before["senex"]["L"]["content"]) > 0
    assert pg_facts.differences(before, held(copied, "after")) == []


@pytest.mark.parametrize(("change", "said"), [
    ("select lo_unlink(4711)", "large objects: count: 4 before, 3 now (database senex)"),
    ("select lo_put(4711, 2, 'P')", "large objects: content: "),
    ("select lo_put(4713, 100001, 'X')", "large objects: content: "),
    ("select lo_put(4714, 0, 'x')", "large objects: bytes: "),
    ("alter large object 4712 owner to postgres", "large objects: owners and sizes: "),
])  # fmt: skip
def test_what_is_not_the_same_is_said(copied, change, said):
    copied.sql(change, database="after")
    found = pg_facts.differences(held(copied, "before"), held(copied, "after"))
    assert any(line.startswith(said) for line in found), found


def test_of_much_a_part_is_looked_at(copied, monkeypatch):
    """The same in both, some of every object that has so many pages."""
    sampled = pg_facts.LARGE.replace(str(pg_facts.LARGE_SAMPLE), "20000")
    assert sampled != pg_facts.LARGE
    whole = held(copied, "before")
    monkeypatch.setattr(pg_facts, "LARGE", sampled)
    part = held(copied, "before")
    assert 0 < int(part["senex"]["L"]["content"]) < int(whole["senex"]["L"]["content"]) and pg_facts.differences(part, held(copied, "after")) == []


def test_a_cluster_that_was_kept_before_they_were_compared_has_its_way_back():
    now = {"senex": {"T": {"public.row": "3"}, "L": {"count": "0"}}}
    assert pg_facts.differences({"senex": {"T": {"public.row": "3"}}}, now) == []


def test_an_upgrade_asks_for_them():
    asked = []
    server = types.SimpleNamespace(databases=lambda: ["senex"], rows=lambda text, *_: asked.append(text) or [])
    pg_facts.facts(server)
    assert pg_facts.LARGE in asked[-1]
