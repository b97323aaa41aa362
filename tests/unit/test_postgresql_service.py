"""The interface to PostgreSQL's life cycle: what the one server does of it, and that another kind of server fits."""

import inspect
from types import SimpleNamespace

import pytest
from ansible_collections.senex.trader.plugins.module_utils.postgresql import amcheck
from ansible_collections.senex.trader.plugins.module_utils.postgresql.container import Container
from ansible_collections.senex.trader.plugins.module_utils.postgresql.service import Address, Names, Service, SingleServer


class Here:
    """A host that remembers what it was told, and says what a test wants."""

    def __init__(self, **says):
        self.told, self.says, self.codes = [], says, {}

    def podman(self, *words, check=True, stdin=None, timeout=None):
        self.told.append(words)
        name = next((name for name in self.says if name in words or name in (stdin or "")), "")
        return SimpleNamespace(returncode=self.codes.get(name, 0), stdout=self.says.get(name, ""), stderr="")

    def systemctl(self, *words, check=True):
        self.told.append((*words, check))

    def rename(self, source, name):
        self.told.append(("rename", source, name))


def single(host):
    return SingleServer(host, Names("pg.service", "pg"), "boss", "/run/sockets")


def test_a_swap_stops_first_and_stays_stopped():
    host = Here()
    single(host).swap_data("/d", "/d.new", "/d.old")
    assert host.told == [("stop", "pg.service", True), ("rename", "/d", "/d.old"), ("rename", "/d.new", "/d")]
    host = Here()
    single(host).swap_data("/d", "/d.new", "", check=False)
    assert host.told == [("stop", "pg.service", False), ("rename", "/d.new", "/d")], "there was none"


def test_a_start_after_a_failure_tries_what_systemd_gave_up():
    host = Here()
    single(host).start(after_failure=True)
    single(host).start()
    assert host.told == [("reset-failed", "pg.service", False), ("start", "pg.service", True), ("start", "pg.service", True)]


def test_the_only_server_is_the_primary():
    assert single(Here()).primary() == Address("/run/sockets") and single(Here()).primary().conninfo == "host=/run/sockets"
    assert Address("db1.example.com", 5432).conninfo == "host=db1.example.com port=5432"


def test_a_slot_is_dropped_where_it_is_there_and_no_name_leads_elsewhere():
    host = Here(psql="1\n")
    assert single(host).has_slot("barman") and not single(Here()).has_slot("barman")
    single(host).drop_slot("barman")
    words = host.told[-1]
    assert words[:3] == ("exec", "--interactive", "pg") and "--username=boss" in words
    for name in ("", "x'; drop table y; --", "Barman", "a" * 64):
        with pytest.raises(ValueError, match="is no name of a replication slot"):
            single(host).drop_slot(name)


def test_whether_it_runs_and_is_ready():
    host = Here(inspect="true\n")
    assert single(host).is_running() and single(host).is_ready() and not single(Here(inspect="false\n")).is_running()
    busy = Here(pg_isready="")
    busy.codes["pg_isready"] = 1
    assert not single(busy).is_ready() and busy.told[-1][-1] == "--host=127.0.0.1"
    Container(busy, "c", 70).is_ready("boss")
    assert busy.told[-1] == ("exec", "--interactive", "--user=70", "c", "pg_isready", "-q", "--username=boss")


def test_the_single_server_is_all_that_the_interface_asks_for():
    wanted = {name: method for name, method in vars(Service).items() if inspect.isfunction(method) and not name.startswith("_")}
    assert {"start", "stop", "is_ready", "primary", "switchover", "swap_data", "has_slot", "drop_slot", "psql"} <= set(wanted)
    for name, method in wanted.items():
        assert inspect.signature(getattr(SingleServer, name)) == inspect.signature(method), name


def test_another_kind_of_server_takes_its_place():
    """As one under Patroni would: paused while it is stopped, and the primary asked of somebody else."""

    class Cluster(SingleServer):
        def __init__(self, host, names, superuser, sockets, ask):
            super().__init__(host, names, superuser, sockets)
            self.ask, self.calls = ask, []

        def stop(self, check=True):
            self.calls.append("pause")
            super().stop(check)

        def start(self, after_failure=False):
            super().start(after_failure)
            self.calls.append("resume")

        def primary(self):
            leader = next(member for member in self.ask("/cluster")["members"] if member["role"] == "leader")
            return Address(leader["host"], leader["port"])

    members = {"members": [{"role": "replica", "host": "db1", "port": 5432}, {"role": "leader", "host": "db2", "port": 5432}]}
    cluster = Cluster(Here(), Names("pg.service", "pg"), "boss", "", lambda _path: members)
    cluster.swap_data("/d", "/n", "/o")
    cluster.start()
    assert cluster.calls == ["pause", "resume"] and cluster.primary().conninfo == "host=db2 port=5432"


@pytest.mark.parametrize("damaged", [False, True])
def test_an_extension_that_was_not_there_is_none_afterwards(damaged):
    host = Here(pg_amcheck="heap table broken\n" if damaged else "")
    host.codes["pg_amcheck"] = 2 if damaged else 0
    said = amcheck.check(Container(host, "c", 70, "/s"), ["a", 'b"c'], "boss", 3)
    assert said == ("amcheck found damage: heap table broken" if damaged else "")
    looked = next(words for words in host.told if "pg_amcheck" in words)
    assert {"--host=/s", "--username=boss", "--jobs=3", '--database="a"', '--database="b""c"'} <= set(looked)
    assert "psql" in host.told[-1] and host.told.index(looked) < len(host.told) - 1, "dropped"
