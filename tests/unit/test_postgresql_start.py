"""What PostgreSQL's container runs: a first start that is killed before any of its commands is finished by the next one."""

import os
import signal
import subprocess

import pytest
from rendered import component

# Each counts itself, and the one whose turn it is kills the script before it does anything
FAKE = """#!/bin/sh
turn=$(($(cat "$COUNT") + 1)); echo $turn > "$COUNT"
[ $turn != "$KILLED_AT" ] || { kill -9 $PPID; exit 1; }
"""
INITDB = """
for word; do case $word in --pgdata=*) data=${word#*=} ;; --username=*) user=${word#*=} ;; esac; done
mkdir "$data" && echo 15 > "$data/PG_VERSION"
[ "$KILLED_AT" != half ] || { kill -9 $PPID; exit 1; }
mkdir "$data/base" && echo "of $user" > "$data/base/1" && echo > "$data/postgresql.conf"
"""
WHOLE = {"PG_VERSION": "15\n", "base/1": "of senex\n", "postgresql.conf": "\n"}


class Container:
    def __init__(self, base):
        self.data, self.bin, self.count, self.script = base / "data", base / "bin", base / "count", base / "start.sh"
        self.data.mkdir()
        self.bin.mkdir()
        self.script.write_text(component("postgresql", senex_database_password="x" * 12)[0]["config/postgresql/start.sh"][0])
        real = {name: f'exec /bin/{name} "$@"\n' for name in ("rm", "mv", "rmdir")}
        for name, does in {**real, "initdb": INITDB, "docker-entrypoint.sh": 'echo "serves: $*"\n'}.items():
            (self.bin / name).write_text(FAKE + does)
            (self.bin / name).chmod(0o755)

    def start(self, killed_at=0):
        self.count.write_text("0")
        environment = {"PATH": f"{self.bin}:{os.environ['PATH']}", "PGDATA": str(self.data), "COUNT": str(self.count), "KILLED_AT": str(killed_at),
                       "POSTGRES_USER": "senex", "POSTGRES_PASSWORD_FILE": "/proc/sys/kernel/random/uuid", "POSTGRES_INITDB_ARGS": "--locale='C'"}  # fmt: skip
        # A shell in between: what takes the script's place is that one's child, and kills it and not the tests
        words = ["sh", "-c", '"$@"; exit $?', "sh", "sh", self.script, "postgres", "-c", "x=y"]
        return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)

    def holds(self):
        return {str(path.relative_to(self.data)): path.read_text() for path in self.data.rglob("*") if path.is_file()}


@pytest.fixture
def container(tmp_path):
    return Container(tmp_path)


def test_the_first_start(container):
    assert container.start().stdout == "serves: postgres -c x=y\n"
    assert container.holds() == WHOLE
    assert sorted(os.listdir(container.data)) == ["PG_VERSION", "base", "postgresql.conf"]


@pytest.mark.parametrize("turn", [1, 2, "half", 3, 4, 5, 6, 7])
def test_killed_at_any_command(container, turn):
    """rm, initdb (and in its middle), mv to its whole name, mv of each of three entries, rmdir. The entry point, which is next, takes the script's place."""
    assert container.start(killed_at=turn).returncode == 128 + signal.SIGKILL
    if (container.data / "PG_VERSION").exists():
        assert container.holds() == WHOLE, "what says that it is a cluster is one"
    assert container.start().stdout == "serves: postgres -c x=y\n"
    assert container.holds() == WHOLE
    assert sorted(os.listdir(container.data)) == ["PG_VERSION", "base", "postgresql.conf"]


def test_a_cluster_is_left_alone(container):
    (container.data / "PG_VERSION").write_text("15\n")
    (container.data / "mine").write_text("data")
    assert container.start().stdout == "serves: postgres -c x=y\n"
    assert container.holds() == {"PG_VERSION": "15\n", "mine": "data"}
    assert container.count.read_text() == "1\n", "nothing but the entry point has run"


def test_what_is_neither_empty_nor_a_cluster_is_refused_by_name(container):
    (container.data / "lost+found").mkdir()
    result = container.start()
    assert result.returncode == 1 and "serves" not in result.stdout
    assert f"{container.data}/lost+found" in result.stderr and "postgresql_data_directory" in result.stderr
    assert os.listdir(container.data) == ["lost+found"]
