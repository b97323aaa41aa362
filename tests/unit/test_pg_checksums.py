"""Data checksums: new clusters have them, and those without are told how long it takes and are whole whenever it is cut short."""

import contextlib
import fcntl
import os
import subprocess
from types import SimpleNamespace

import pytest
import yaml
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import CommandError
from ansible_collections.senex.trader.plugins.module_utils.postgresql import checksums as pg_checksums
from ansible_collections.senex.trader.plugins.module_utils.postgresql import server
from ansible_collections.senex.trader.plugins.module_utils.postgresql.checksums import Checksums
from rendered import ROLES, component, value
from test_postgresql_start import Container
from test_rendered_units import BASE

ROOT = ROLES.parent


def initdb_arguments(**inputs):
    text = component("postgresql", **BASE, **inputs)[0]["postgres.container"][0]
    (line,) = [line for line in text.splitlines() if "POSTGRES_INITDB_ARGS" in line]
    return line.partition("POSTGRES_INITDB_ARGS=")[2].strip('"').split()


@pytest.mark.parametrize(
    ("inputs", "option"),
    [
        ({}, "--data-checksums"), ({"postgresql_version": 18}, "--data-checksums"), ({"postgresql_initdb_args": "--locale=de_DE.utf8"}, "--data-checksums"),
        ({"postgresql_data_checksums": "false"}, None), ({"postgresql_data_checksums": False, "postgresql_version": 18}, "--no-data-checksums"),
    ],
)  # fmt: skip
def test_new_clusters_have_them_whatever_else_initdb_is_told(inputs, option):
    words = initdb_arguments(**inputs)
    assert [word for word in words if "checksums" in word] == ([option] if option else [])
    assert "--locale=C" in words or "postgresql_initdb_args" in inputs


class User:
    """A service user whose containers and units are a few words."""

    def __init__(self, home):
        self.name, self.uid, self.gid, self.home, self.log = "me", os.geteuid(), os.getegid(), str(home), []
        self.version, self.runs, self.fails = 0, True, ""

    def podman(self, *words, check=True, **_):
        answer = ""
        if "--entrypoint=pg_controldata" in words:
            answer = (
                f"Database system identifier:           7300\nDatabase cluster state:               in production\nData page checksum version: {self.version}\n"
            )
        elif "--entrypoint=sh" in words:
            self.log.append(words[-1])
            assert not self.runs, "never beside a server"
            if self.fails:
                raise CommandError(["podman", *words], subprocess.CompletedProcess([], 1, "", f"pg_checksums: error: {self.fails}"))
            self.version, answer = 1, "Checksum operation completed\nFiles scanned:   3\nBlocks scanned:  70\nBlocks written:  70\n"
        elif words[:2] == ("unshare", "du"):
            answer = f"{3 << 20}\t{self.home}\n"  # 3 GB
        elif words[0] == "exec" and "psql" in words:
            answer = "on\n" if self.version and self.runs else "off\n"
        return subprocess.CompletedProcess(words, 0, answer, "")

    def systemctl(self, verb, unit, check=True):
        self.log.append(f"{verb} {unit}")
        self.runs = {"stop": False, "start": True}.get(verb, self.runs)

    def image_ids(self, references):
        return dict.fromkeys(references, "id")


@pytest.fixture
def work(tmp_path, monkeypatch):
    data = tmp_path / "home/data/postgres"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("15\n")
    given = {"version": "15", "image": "postgres:15", "uid": "70", "superuser": "postgres", "owner": "senex", "database": "senex", "shared_memory": "64",
             "checksums": "true", "data": "data/postgres", "sockets": "run", "configuration": "config/postgresql", "unit": "postgres.service",
             "container": "postgres"}  # fmt: skip
    monkeypatch.setattr(pg_checksums, "leased", lambda *_: contextlib.nullcontext())
    return Checksums(User(tmp_path / "home"), server.wanted_of(given, str(tmp_path / "home")), "one", str(tmp_path / "state"))


def test_the_plan_says_how_long_and_changes_nothing(work):
    plan = work.plan()
    assert plan["goes"] and not plan["on"] and not plan["resumed"] and plan["cluster"] == "7300"
    assert plan["bytes"] == 3 << 30 and plan["seconds"] == 45 + (3 << 30) // (50 << 20)
    assert work.user.log == [] and not os.path.exists(work.begun)


def test_what_the_image_says_of_the_cluster_is_printable(work, monkeypatch):
    monkeypatch.setattr(work, "control", lambda: {"Database system identifier": "7300\x1b[2J\x9b"})
    assert work.plan()["cluster"] == "7300?[2J?"


def test_they_are_enabled_while_nothing_runs(work):
    assert work.enable() == {"blocks": 70} and work.user.runs and work.on()
    assert work.user.log == ["stop postgres.service", pg_checksums.ENABLE, "reset-failed postgres.service", "start postgres.service"]
    assert work.plan()["resumed"] and work.plan()["goes"], "until all serves again"
    work.end()
    assert not work.plan()["goes"]


@pytest.mark.parametrize("reason", ["cluster must be shut down", "could not open file"])
def test_what_fails_leaves_the_database_serving_as_before(work, reason):
    work.user.fails = reason
    with pytest.raises(OSError, match=f"{reason}. The cluster has no checksums, as before"):
        work.enable()
    assert work.user.runs and not work.on() and work.plan()["goes"]


@pytest.mark.parametrize("when", ["stopped", "written"])
def test_a_run_that_was_killed_is_begun_again(work, when):
    """Before the first page: the database stands still. After the last one: it has them, and nothing serves."""
    work.enable()
    work.user.log.clear()
    work.user.runs, work.user.version = False, int(when == "written")
    assert work.plan()["goes"] and work.plan()["resumed"]
    work.enable()
    assert work.user.runs and work.on() and (pg_checksums.ENABLE in work.user.log) == (when == "stopped")


def test_an_upgrade_that_was_cut_short_comes_first(work):
    os.makedirs(os.path.dirname(work.begun))
    with open(os.path.join(os.path.dirname(work.begun), "postgresql-upgrade.state"), "w") as handle:
        handle.write('{"phase": "exchanging"}')
    with pytest.raises(OSError, match=r"upgrade_postgresql.yml ends it first"):
        work.plan()


def test_another_major_is_refused(work):
    with open(os.path.join(work.wanted.data, "PG_VERSION"), "w") as handle:
        handle.write("14\n")
    with pytest.raises(OSError, match="the data is of PostgreSQL 14"):
        work.plan()


def test_no_server_starts_while_pages_are_written(tmp_path):
    """The run that began it may be gone; pg_checksums is not. A server would read pages that are half of the one, half of the other."""
    container = Container(tmp_path)
    (container.data / "PG_VERSION").write_text("15\n")
    (container.bin / "sleep").write_text("#!/bin/sh\n")
    (container.bin / "sleep").chmod(0o755)
    with open(container.data / "PG_VERSION") as working:
        fcntl.flock(working, fcntl.LOCK_EX)
        done = container.start()
        assert done.returncode == 1 and "serves" not in done.stdout and "another program works on the files" in done.stderr
    (container.bin / "docker-entrypoint.sh").write_text('#!/bin/sh\nflock -n "$PGDATA/PG_VERSION" true || echo "held: $*"\n')
    assert container.start().stdout == "held: postgres -c x=y\n", "the server has it as long as it lives"


def test_every_program_that_runs_on_a_stopped_cluster_takes_the_lock():
    assert f"flock -n {server.DATA}/PG_VERSION pg_checksums" in pg_checksums.ENABLE


def test_the_playbook_rests_the_application_and_starts_it_however_it_went():
    plays = yaml.safe_load((ROOT / "playbooks/checksums.yml").read_text())
    names = [play["name"] for play in plays]
    assert (
        names.index("Stop the application (downtime starts)")
        < names.index("Enable data checksums in PostgreSQL (stopped meanwhile)")
        < names.index("Start the application (downtime ends)")
    )
    enabling = next(play for play in plays if play["name"] == "Enable data checksums in PostgreSQL (stopped meanwhile)")["tasks"][0]
    assert "rescue" in enabling
    assert value("postgresql", "__postgresql_cluster", **BASE)["checksums"] in (True, "True")
    assert SimpleNamespace(**value("postgresql", "__postgresql_cluster", **BASE)).configuration == "config/postgresql"
