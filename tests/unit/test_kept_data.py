"""Data that a host had and that is not there: a disk that is not mounted, a path that was mistyped. Neither becomes an empty site."""

import json
import os
import re
import struct
import subprocess
import types

import pytest
from ansible_collections.senex.trader.plugins.action.quadlet import directory_of
from ansible_collections.senex.trader.plugins.module_utils.engine import quadlet_check, quadlet_plan
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_work import ApplyError
from ansible_collections.senex.trader.plugins.module_utils.host import kept_data
from ansible_collections.senex.trader.plugins.module_utils.postgresql import cluster_swap
from ansible_collections.senex.trader.plugins.module_utils.postgresql.upgrade_state import State
from ansible_collections.senex.trader.plugins.plugin_utils.components import registry
from rendered import ROLES, component
from test_engine_transaction import Live
from test_rendered_units import BASE

CLUSTER, OTHER = 7300000000000000001, 7300000000000000002


def cluster(path, identifier=CLUSTER):
    """As far as anybody looks at one."""
    os.makedirs(os.path.join(path, "global"), exist_ok=True)
    with open(os.path.join(path, "PG_VERSION"), "w") as handle:
        handle.write("15\n")
    with open(os.path.join(path, "global/pg_control"), "wb") as handle:
        handle.write(struct.pack("=Q", identifier) + bytes(8184))


def empty(path):
    for place, directories, names in os.walk(path, topdown=False):
        for name in names:
            os.unlink(os.path.join(place, name))
        for name in directories:
            os.rmdir(os.path.join(place, name))


class Component(Live):
    """A part with one directory of data."""

    def __init__(self, base, kind, what):
        (base / "home/config/data").mkdir(parents=True)
        super().__init__(base / "home", base / "state")
        self.kind, self.what = kind, what
        self.data, self.witness = os.path.join(self.host.home, "data"), os.path.join(self.host.home, "config/data/had")
        self.at(self.data)

    def at(self, path, new=False):
        about = {"kind": self.kind, "witness": "config/data/had", "input": "the_path", "begin": "begin_anew", "new": new}
        self.data = path
        self.directories = [directory_of({"path": path, "mode": "0700", "data": about}, self.host.home)]

    def fill(self):
        cluster(self.data, self.what) if self.kind == "cluster" else open(os.path.join(self.data, "appendonly"), "w").close()

    def told(self):
        with open(self.witness) as handle:
            return handle.read().strip()


@pytest.fixture(autouse=True)
def quiet_host(monkeypatch):
    monkeypatch.setattr(quadlet_check, "problems", lambda user, units, version: [])
    monkeypatch.setattr(quadlet_plan, "SETTLE_SECONDS", 0)


@pytest.fixture(params=[("cluster", CLUSTER), ("files", "filled")], ids=["PostgreSQL", "Redis"])
def had(tmp_path, request):
    """A host on which a run has seen data."""
    world = Component(tmp_path, *request.param)
    world.host.states = {name: {"ActiveState": "inactive"} for name in ("db.service", "web.service")}
    world.run()
    world.host.states = {}
    assert os.path.isdir(world.data) and not os.path.exists(world.witness), "a new host: nothing is noted before there is data"
    world.fill()
    assert not world.transaction().whole(), "so that the part is called, and notes it"
    assert not world.run()["changed"] and world.told() == str(world.what) and world.transaction().whole()
    return world


def refused(world, words):
    before = world.seen()
    with pytest.raises(ApplyError, match=words):
        world.run()
    assert world.seen() == before and world.host.log == [], "nothing was done"


@pytest.mark.parametrize("state", ["empty", "missing", "lost+found alone"])
def test_data_that_is_gone_is_refused(had, state):
    empty(had.data)
    if state == "missing":
        os.rmdir(had.data)
    elif state != "empty":
        os.mkdir(os.path.join(had.data, "lost+found"))
    refused(had, r"data is missing or empty, and this host has had .* mount the disk .* -e begin_anew=true")
    assert kept_data.gone(had.state) == [{"component": "component", "path": had.data}]


def test_a_path_that_was_mistyped_is_refused(had):
    old = had.data
    had.at(f"{old}-typo")
    refused(had, rf"data-typo is missing or empty, and this host has had .* in {re.escape(old)}: .* or put the_path right")
    assert not os.path.exists(had.data)


def test_data_that_was_moved_is_taken(had):
    os.rename(had.data, f"{had.data}.elsewhere")
    had.at(f"{had.data}.elsewhere")
    had.run()
    assert list(kept_data.noted("component", had.state)) == [had.data] and kept_data.gone(had.state) == []


def test_it_begins_anew_where_that_is_said(had):
    empty(had.data)
    had.at(had.data, new="true")
    had.run()
    assert not os.path.exists(had.witness), "the container's own start may make data"
    had.at(had.data)
    refused(had, "missing or empty")  # once


def test_the_note_outlives_the_part(had):
    had.run(present=False)
    empty(had.data)
    had.host.states = {name: {"ActiveState": "inactive"} for name in ("db.service", "web.service")}
    refused(had, "missing or empty")


def test_another_cluster_is_refused_unless_somebody_has_told(tmp_path):
    world = Component(tmp_path, "cluster", CLUSTER)
    world.run()
    world.fill()
    world.run()
    cluster(world.data, OTHER)
    refused(world, f"holds cluster {OTHER}, and this host had cluster {CLUSTER}: mount the right disk")
    with open(world.witness, "w") as handle:  # as a restore does
        handle.write(f"{OTHER}\n")
    world.run()
    assert kept_data.noted("component", world.state) == {world.data: str(OTHER)}


def test_uploads_may_be_removed_and_not_their_disk(tmp_path, monkeypatch):
    """Users remove the last upload; a disk that is not mounted leaves the host's own file system, with or without something in it."""
    devices = {"/": 1}
    monkeypatch.setattr(kept_data.untrusted, "space", lambda paths: {path: {"device": devices.get(path, 2)} if os.path.isdir(path) else
                                                                     {"error": [2, "", path]} for path in paths})  # fmt: skip
    world = Component(tmp_path, "uploads", "apart")
    world.run()
    world.fill()
    world.run()
    empty(world.data)
    assert not world.run()["changed"]
    devices[world.data] = 1
    refused(world, "is not on its own file system")
    assert kept_data.gone(world.state) == [{"component": "component", "path": world.data}]
    os.rmdir(world.data)
    refused(world, "is missing or empty")


def test_check_mode_notes_nothing(tmp_path):
    world = Component(tmp_path, "files", "filled")
    world.run()
    world.fill()
    world.run(check=True)
    assert not os.path.exists(world.witness) and kept_data.noted("component", world.state) == {}


def test_every_part_with_data_says_so():
    """What a container's user owns below data, and the archive."""
    found = {}
    for path in ROLES.glob("*/tasks/main.yml"):
        inputs = path.parents[1] / "vars/main.yml"
        text = path.read_text() + (inputs.read_text() if inputs.exists() else "")
        for item in re.findall(r"(?m)(?:- |^  )path: (.+)\n(?:.*\n)*?\s+data: ?(?:\{kind: (\w+)|\n\s+kind: (\w+))", text):
            found[path.parts[-3]] = item[1] or item[2]
    assert found.items() >= {"postgresql": "cluster", "redis": "files", "django": "uploads", "celery": "uploads", "pitr": "copies"}.items()
    assert {name for name, one in registry().items() if one.data} == {*found, "backup"}


@pytest.mark.parametrize(("role", "script"), [("postgresql", "config/postgresql/start.sh"), ("redis", "config/redis/start.sh")])
def test_a_boot_on_an_empty_mount_point_makes_no_data(tmp_path, role, script):
    """No playbook is there to refuse it: the container's own start does."""
    directory, witness = tmp_path / "data", tmp_path / "had"
    directory.mkdir()
    witness.write_text(f"{CLUSTER}\n")
    text = component(role, **BASE)[0][script][0].replace("/tmp/", "TMP/").replace("/etc/postgresql/cluster", "HAD").replace("/usr/local/etc/redis/data", "HAD")
    text = text.replace("/data", str(directory)) if role == "redis" else text
    (tmp_path / "start.sh").write_text(text.replace("TMP/", f"{tmp_path}/").replace("HAD", str(witness)))
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name in ("initdb", "docker-entrypoint.sh", "redis-server"):
        (bin_ / name).write_text('#!/bin/sh\necho "runs $0"\n')
        (bin_ / name).chmod(0o755)
    about = {"PATH": f"{bin_}:{os.environ['PATH']}", "PGDATA": str(directory), "POSTGRES_USER": "x", "POSTGRES_PASSWORD_FILE": "/dev/null"}
    done = subprocess.run(["sh", tmp_path / "start.sh"], env=about, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "runs" not in done.stdout and "mount its disk" in done.stderr
    assert os.listdir(directory) == []
    (directory / "PG_VERSION").write_text("15\n")
    done = subprocess.run(["sh", tmp_path / "start.sh"], env=about, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "runs" in done.stdout, done.stderr


def test_a_note_is_json_of_roots_own(had):
    path = os.path.join(had.state, "component.data")
    assert json.load(open(path)) == {had.data: str(had.what)} and os.stat(path).st_mode & 0o777 == 0o600  # noqa: SIM115


class Away:
    """A user whose units do nothing."""

    def __init__(self, home):
        self.home, self.uid, self.gid = str(home), os.geteuid(), os.getegid()

    def writes(self, function, *arguments):
        return function(*arguments)

    def does(self, function, *arguments):
        return function(*arguments)

    def systemctl(self, *words, check=True):
        pass

    def podman(self, *words, check=True, **_):
        return subprocess.CompletedProcess(words, 0, "postgres:15", "")


def test_an_upgrade_tells_which_cluster_is_the_one_now_and_its_undoing_which_it_was(tmp_path, monkeypatch):
    data, witness = tmp_path / "data/postgres", tmp_path / "config/postgresql/cluster"
    witness.parent.mkdir(parents=True)
    cluster(data)
    cluster(f"{data}.upgrade", OTHER)
    wanted = types.SimpleNamespace(
        data=str(data), configuration=str(witness.parent), unit="postgres.service", container="postgres", superuser="postgres", sockets="/nowhere"
    )
    state = State(str(tmp_path / "state"))
    monkeypatch.setattr(cluster_swap.upgrade_state, "put_back", lambda *_: None)
    monkeypatch.setattr(cluster_swap.pg_server, "discard", lambda *_: None)
    exchange = cluster_swap.ClusterSwap(Away(tmp_path), wanted, state)
    exchange.swap_in({"data": f"{data}.15-then", "archive": "15-then", "image": "postgres:15", "files": {}}, f"{data}.upgrade")
    assert witness.read_text() == f"{OTHER}\n"
    exchange.roll_back()
    assert witness.read_text() == f"{CLUSTER}\n" and kept_data.clusters([str(data)]) == {str(data): str(CLUSTER)}


def test_playbooks_that_begin_without_data_are_the_only_ones_that_do_not_ask_for_it():
    """A restore onto a lost disk, and an upgrade that was killed between two renames."""
    not_asking = {path.name for path in (ROLES.parent / "playbooks").glob("*.yml") if re.search(r"^ +validate_data: false", path.read_text(), re.MULTILINE)}
    assert not_asking == {"restore.yml", "upgrade_postgresql.yml", "remove.yml"}
