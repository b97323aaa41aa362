"""A standby that playbooks/move.yml makes of a real server, and its takeover: what the script in the container does, and what each is asked."""

import os
import shutil
import socket
from types import SimpleNamespace

import pytest
from ansible_collections.senex.trader.plugins.module_utils.postgresql import move, move_state, psql
from test_postgresql_roles import PROGRAMS, pytestmark, serving  # noqa: F401  (the mark)


class Side(move.Move):
    """One of the two hosts, without containers."""

    def __init__(self, first, base, data, port, notes):
        self.first, self.base, self.port = first, base, port
        self.wanted, self.identity, self.state = SimpleNamespace(data=str(data), unit="postgres.service"), "run-1", move_state.State(str(notes))
        self.server = SimpleNamespace(rows=self.rows)
        self.service = SimpleNamespace(is_ready=lambda: True, is_running=lambda: True, stop=self.ends)

    def rows(self, text, database="postgres"):
        return psql.rows(
            self.first.run(["psql", *psql.ROWS, "-d", database], stdin=text, PGHOST=str(self.base), PGPORT=str(self.port), PGUSER="postgres").stdout
        )

    def control(self, *words):
        self.first.run([PROGRAMS / "pg_ctl", "-D", self.wanted.data, "-w", *words])

    def ends(self, check=True):
        self.control("-m", "fast", "stop")

    def _fence(self, whether):
        """There is no systemd."""

    def _let_in(self, whether):
        with open(f"{self.wanted.data}/pg_hba.conf", "a", encoding="utf-8") as file:
            file.write(move.LETS_IN.replace("hostssl", "host") + "\n")
        self.rows("select pg_reload_conf()")


@pytest.fixture
def sides(tmp_path):
    with serving("postgres") as server:
        one = Side(server, server.base, server.base / "data", server.port, tmp_path / "one")
        place = server.base / "two"
        place.mkdir()
        if os.geteuid() == 0:
            shutil.chown(place, "postgres", "postgres")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        two = Side(server, place, place / "data", port, tmp_path / "two")
        yield one, two
        server.run([PROGRAMS / "pg_ctl", "-D", two.wanted.data, "-m", "immediate", "stop"], check=False)


def test_a_standby_takes_over(sides):
    one, two = sides
    (found,) = one.rows(move.FOUND)
    assert found[0] == found[0].strip() and found[1:2] == ["f"] and found[3] == "" and found[5:7] == ["t", "t"]
    secret = one.admit("two")["secret"]
    assert one.admit("two")["secret"] == secret, "a standby that is there knows it"
    source = f"host=127.0.0.1 port={one.port} user={move.ROLE} application_name={move.STANDBY}"
    lines = [f"*:*:*:*:{secret}", source, f"{source} password={secret}", "a certificate", ""]
    script = move.JOIN.replace("/tmp/", f"{two.base}/")
    one.first.run(["sh", "-c", script, "sh", move.SLOT], stdin="\n".join(lines), PGDATA=two.wanted.data)
    assert (two.base / "pgpass").stat().st_mode & 0o777 == 0o600
    options = f"-c listen_addresses= -p {two.port} -c unix_socket_directories={two.base} -c fsync=off"
    two.control("-l", str(two.base / "log"), "-o", options, "start")
    two.state.begin(role="to", phase="joining", other="one", joined=True)
    one.rows("create table written as select generate_series(1, 1000) as number")
    for _ in range(100):
        behind = one.behind()
        if behind["caught_up"]:
            break
    assert behind["caught_up"], behind
    one.rows("insert into written values (1001)")
    stopped = one.stop()
    two.promote(stopped["cluster"], stopped["checkpoint"])
    assert two.rows("select count(*) from written; select pg_is_in_recovery()") == [["1001"], ["f"]]
    two.settle()
    assert two.rows(f"select count(*) from pg_roles where rolname = '{move.ROLE}'; show primary_conninfo; show primary_slot_name") == [["0"], [""], [""]]
    assert two.rows("insert into written values (1002) returning number") == [["1002"]]
