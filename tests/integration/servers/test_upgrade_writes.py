"""What is written to the old server while it is copied is seen, whatever kind of statement it was; what only reads is not taken for it."""

import pytest
from ansible_collections.senex.trader.plugins.module_utils.postgresql import cluster_swap, contents, facts
from test_postgresql_roles import pytestmark, serving  # noqa: F401  (the mark)

CONTENT = """
create table orders (id serial primary key, word text); insert into orders (word) select 'word' from generate_series(1, 50);
create table ledger (id int); create sequence free; create function twice(int) returns int language sql as 'select $1 * 2'; select lo_create(4711);
"""


@pytest.fixture(scope="module")
def server():
    with serving("postgres") as found:
        found.sql(CONTENT)
        yield found


def writes(server):
    server.sql("select pg_stat_force_next_flush()")
    return server.sql(facts.WRITES)


@pytest.mark.parametrize(
    "statement",
    ["insert into ledger values (1)", "update orders set word = 'other' where id = 1", "delete from orders where id = 2", "truncate ledger",
     "select nextval('free')", "select setval('orders_id_seq', 900)", "select lo_create(4712)", "select lo_put(4711, 0, 'a picture')", "select lo_unlink(4712)",
     "alter table ledger add column word text", "create table later (id int)", "drop table later", "create index on orders (word)",
     "create or replace function twice(int) returns int language sql as 'select $1 * 3'"],
)  # fmt: skip
def test_a_write_is_seen(server, statement):
    before = writes(server)
    server.sql(f"{statement}; select pg_stat_force_next_flush()")
    assert writes(server) != before


def test_what_reads_is_no_write(server):
    before = writes(server)
    for script in (f"{contents.COUNTS}\n{contents.SEQUENCES}\n{contents.EXTENSIONS}\n{facts.OBJECTS}", facts.GLOBALS, "vacuum analyze", "checkpoint"):
        server.sql(script)
    server.run(["pg_dump", "--dbname=postgres"], user="postgres")
    assert writes(server) == before


def test_the_last_look_is_when_the_archive_is_aside_and_the_server_still_runs(monkeypatch):
    """Sync and the archive take seconds after the look before, in which whoever is inside the container may write."""
    done = []
    state = type("State", (), {"put": lambda _self, **fields: done.append(fields["phase"])})()
    user = type("User", (), {"systemctl": lambda _self, verb, _unit, **_: done.append(verb)})()
    names = {"unit": "postgres.service", "container": "postgres", "superuser": "postgres", "sockets": "/nowhere"}
    wanted = type("Wanted", (), {"data": "/data", "configuration": "/nowhere", **names})
    monkeypatch.setattr(cluster_swap.ClusterSwap, "_control", lambda *_: "")
    exchange = cluster_swap.ClusterSwap(user, wanted, state)
    monkeypatch.setattr(exchange, "_pitr", lambda verb, *_: done.append(verb))
    monkeypatch.setattr(exchange.service.host, "rename", lambda *_: done.append("rename"))

    def written():
        raise OSError("somebody wrote to the old server")

    with pytest.raises(OSError, match="somebody wrote"):
        exchange.swap_in({"archive": "15-x", "image": "i", "data": "/data.15"}, "/data.new", still=written)
    assert done == ["exchanging", "set-aside"]
    exchange.swap_in({"archive": "15-x", "image": "i", "data": "/data.15"}, "/data.new")
    assert done[2:] == ["exchanging", "set-aside", "stop", "rename", "rename"]
