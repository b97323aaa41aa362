"""The PostgreSQL image of the lab behaves as the official one: docs/user/images.md, row by row."""

import gzip
import lzma
import os
import re
import shlex
import time

import pytest
from containers import HARDENED, HOSTILE, POSTGRES, address, files

PGDATA = "/var/lib/postgresql/data"
PG_HARDENED = [*HARDENED, "--tmpfs=/var/run/postgresql"]
FAST = ["-e", "POSTGRES_INITDB_ARGS=--no-sync"]
INIT_FILES = {
    "10-table.sql": "CREATE TABLE steps (n serial, step text);",
    "20-gz.sql.gz": gzip.compress(b"INSERT INTO steps (step) VALUES ('gz');"),
    "30-xz.sql.xz": lzma.compress(b"INSERT INTO steps (step) VALUES ('xz');"),
    "40-sourced.sh": """docker_process_sql -c "INSERT INTO steps (step) VALUES ('sourced')" """,
    "run-50.sh": """#!/bin/sh
if pg_isready -q -h 127.0.0.1; then tcp=open; else tcp=closed; fi
psql -U "$POSTGRES_USER" -d "$POSTGRES_DB" -c "INSERT INTO steps (step) VALUES ('executed, tcp $tcp')"
""",
    "99-ignored.txt": "no SQL at all",
}


@pytest.fixture(scope="module")
def full(shared, network, tmp_path_factory):
    """A database made with everything set; its data directory is a mount that root owns."""
    made = tmp_path_factory.mktemp("full")
    made.chmod(0o755)
    data, wal = made / "data", made / "wal"
    data.mkdir()
    wal.mkdir()
    given = files(made / "secret", {"password": HOSTILE, "user": "senex\n", "db": "trader", "args": "--no-sync"})
    given.joinpath("args").write_text("--no-sync --encoding=SQL_ASCII --locale='C'")
    init = files(made / "init", INIT_FILES)
    shared.once(POSTGRES, "sh", "-c", "echo \"INSERT INTO steps (step) VALUES ('zst');\" | zstd -q > /i/35-zst.sql.zst", options=["-v", f"{init}:/i"])
    mounts = ["-v", f"{data}:{PGDATA}", "-v", f"{wal}:/wal", "-v", f"{given}:/given:ro", "-v", f"{init}:/docker-entrypoint-initdb.d:ro"]
    settings = {
        "PASSWORD_FILE": "/given/password",
        "USER_FILE": "/given/user",
        "DB_FILE": "/given/db",
        "INITDB_ARGS_FILE": "/given/args",
        "INITDB_WALDIR": "/wal",
    }
    env = [f"--env=POSTGRES_{name}={value}" for name, value in settings.items()]
    name = shared.postgres("-c", "max_connections=33", options=[*mounts, *env], network=network)
    shared.full_mounts = mounts
    return name


def remote_sql(shared, network, host, password):
    return shared.once(
        POSTGRES,
        "psql",
        "-XAtq",
        "-h",
        host,
        "-U",
        "senex",
        "-d",
        "trader",
        "-c",
        "SELECT 'in'",
        options=["-e", f"PGPASSWORD={password}"],
        network=network,
        check=False,
    )


def test_postgres_declares(lab):
    config = lab.inspect(POSTGRES, "image")["Config"]
    env = dict(pair.split("=", 1) for pair in config["Env"])
    assert config["Entrypoint"] == ["docker-entrypoint.sh"]
    assert config["Cmd"] == ["postgres"]
    assert config["StopSignal"] in ("SIGINT", "2")
    assert list(config["Volumes"]) == [PGDATA]
    assert list(config["ExposedPorts"]) == ["5432/tcp"]
    assert (env["PGDATA"], env["LANG"], env["PG_MAJOR"]) == (PGDATA, "en_US.utf8", "15")


def test_postgres_ids(lab):
    assert lab.once(POSTGRES, "sh", "-c", "id -u postgres; id -g postgres").stdout.split() in (["999"] * 2, ["70"] * 2)


def test_postgres_tools(lab):
    tools = ["postgres", "initdb", "psql", "pg_dump", "pg_isready", "pg_basebackup"]
    shown = lab.once(POSTGRES, "sh", "-c", f"for tool in {' '.join(tools)}; do $tool --version; done").stdout
    assert re.findall(r"^(\w+) \(PostgreSQL\) 15\.", shown, re.MULTILINE) == tools
    assert lab.once(POSTGRES, "sh", "-c", "sleep 0.1 && date +%s").stdout.strip().isdigit()


def test_postgres_informs_without_database(lab):
    assert "Usage:" in lab.once(POSTGRES, "--help").stdout


def test_postgres_other_command(lab):
    assert lab.once(POSTGRES, "sh", "-c", "id -u; ls -A $PGDATA").stdout.split() == ["0"]


def test_postgres_refuses_without_password(lab):
    done = lab.once(POSTGRES, check=False)
    assert done.returncode == 1
    assert "superuser password is not specified" in done.stdout and "POSTGRES_PASSWORD" in done.stdout


@pytest.mark.parametrize("name", ["PASSWORD", "USER", "DB", "INITDB_ARGS"])
def test_postgres_refuses_variable_and_file(lab, name):
    variables = ["-e", "POSTGRES_PASSWORD=x", "-e", f"POSTGRES_{name}=x", "-e", f"POSTGRES_{name}_FILE=/etc/hostname"]
    done = lab.once(POSTGRES, options=variables, check=False)
    assert done.returncode == 1
    assert f"both POSTGRES_{name} and POSTGRES_{name}_FILE are set" in done.stdout


def test_postgres_settings_from_files(shared, full, network):
    host = address(shared, full)
    assert remote_sql(shared, network, host, HOSTILE).stdout.strip() == "in"
    shown = shared.sql(
        full,
        "SELECT pg_encoding_to_char(encoding), datcollate, pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'trader'",
        database="trader",
        user="senex",
    )
    assert shown == "SQL_ASCII|C|senex"


def test_postgres_password_is_asked_for(shared, full, network):
    done = remote_sql(shared, network, address(shared, full), "wrong")
    assert done.returncode != 0 and "password authentication failed" in done.stdout
    rules = shared.execute(full, "cat", f"{PGDATA}/pg_hba.conf").stdout.splitlines()
    assert [rule.split() for rule in rules if rule][-1] == ["host", "all", "all", "all", "scram-sha-256"]


def test_postgres_waldir(shared, full):
    listed = shared.execute(full, "sh", "-c", f"readlink {PGDATA}/pg_wal; stat -c '%U %a' /wal")
    assert listed.stdout.split() == ["/wal", "postgres", "700"]


def test_postgres_init_files(shared, full):
    steps = shared.sql(full, "SELECT step FROM steps ORDER BY n", database="trader", user="senex").splitlines()
    assert steps == ["gz", "xz", "zst", "sourced", "executed, tcp closed"]
    assert "ignoring /docker-entrypoint-initdb.d/99-ignored.txt" in shared.logs(full)


def test_postgres_drops_root(shared, full):
    uid = shared.execute(full, "id", "-u", "postgres").stdout.strip()
    status = shared.execute(full, "sh", "-c", f"stat -c %u /proc/1 {PGDATA}; stat -c %a {PGDATA}; tr '\\0' ' ' < /proc/1/cmdline")
    assert status.stdout.split()[:3] == [uid, uid, "700"]
    assert status.stdout.splitlines()[-1].startswith("postgres ")


def test_postgres_arguments(shared, full):
    assert shared.sql(full, "SHOW max_connections", database="trader", user="senex") == "33"


def test_postgres_keeps_existing_data(shared, full, network):
    """Last on `full`: a new container on the same directory, with another password; init files run twice would fail."""
    shared.podman("stop", "-t", "10", full)
    again = shared.postgres(options=[*shared.full_mounts, "-e", "POSTGRES_PASSWORD=another"], network=network)
    assert "Skipping initialization" in shared.logs(again)
    host = address(shared, again)
    assert remote_sql(shared, network, host, HOSTILE).stdout.strip() == "in"
    assert remote_sql(shared, network, host, "another").returncode != 0
    assert shared.sql(again, "SELECT count(*) FROM steps", database="trader", user="senex") == "5"


def test_postgres_hardened_as_its_user(lab, tmp_path):
    """Not root, no capability, a read-only root, configuration files of its own, on an empty directory, then again."""
    ids = lab.once(POSTGRES, "sh", "-c", "echo $(id -u postgres):$(id -g postgres)").stdout.strip()
    uid, gid = (int(part) for part in ids.split(":"))
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    os.chown(data, uid, gid)
    config = files(
        tmp_path / "config",
        {
            "postgresql.conf": "listen_addresses = '*'\nport = 5432\nmax_connections = 21\n",
            "pg_hba.conf": "local all all trust\nhost all all 127.0.0.1/32 reject\n",
        },
    )
    options = ["--user", ids, *PG_HARDENED, *FAST, "-e", "POSTGRES_PASSWORD=x", "-v", f"{data}:{PGDATA}", "-v", f"{config}:/etc/postgresql:ro"]
    command = ["-c", "config_file=/etc/postgresql/postgresql.conf", "-c", "hba_file=/etc/postgresql/pg_hba.conf"]
    for _ in range(2):
        name = lab.postgres(*command, options=options)
        assert lab.sql(name, "SHOW max_connections") == "21"
        assert "reject" in lab.execute(name, "psql", "-h", "127.0.0.1", "-U", "postgres", check=False).stdout
        assert lab.execute(name, "grep", "CapEff", "/proc/1/status").stdout.split()[1].strip("0") == ""
        lab.podman("stop", "-t", "10", name)
    assert "Skipping initialization" in lab.logs(name)


def test_postgres_arbitrary_user(lab):
    """Podman would give the uid a name; other engines don't."""
    options = ["--user=4321:4321", "--passwd=false", *PG_HARDENED, *FAST, "-e", "POSTGRES_PASSWORD=x", "--tmpfs=/data:mode=1777", "-e", "PGDATA=/data/pg"]
    name = lab.postgres(options=options)
    assert lab.execute(name, "stat", "-c", "%u %a", "/proc/1", "/data/pg").stdout.split()[::2] == ["4321", "4321"]


def test_postgres_trust_and_defaults(lab, network):
    """No password with trust; user and database are postgres, the locale the image's, every address listens."""
    name = lab.postgres(options=["-e", "POSTGRES_HOST_AUTH_METHOD=trust", *FAST], network=network)
    host = address(lab, name)
    query = "SELECT current_database(), current_user, datcollate FROM pg_database WHERE datname = 'postgres'"
    shown = lab.once(POSTGRES, "psql", "-XAtq", "-h", host, "-U", "postgres", "-c", query, network=network)
    assert shown.stdout.strip() == "postgres|postgres|en_US.utf8"
    assert "WARNING" in lab.logs(name)


def test_postgres_broken_init_file_stops(lab, tmp_path):
    init = files(tmp_path / "init", {"1.sql": "SELECT 1/0;", "2.sql": "SELECT 'went on';"})
    done = lab.once(POSTGRES, check=False, options=[*FAST, "-e", "POSTGRES_PASSWORD=x", "-v", f"{init}:/docker-entrypoint-initdb.d:ro"])
    assert done.returncode != 0
    assert "division by zero" in done.stdout and "2.sql" not in done.stdout


@pytest.fixture(scope="module")
def plain(shared, network):
    """A database made from plain variables."""
    env = {"PASSWORD": HOSTILE, "USER": "senex", "DB": "trader", "INITDB_ARGS": "--no-sync"}
    return shared.postgres(options=[f"--env=POSTGRES_{name}={value}" for name, value in env.items()], network=network)


def test_postgres_password_in_environment(shared, plain, network):
    assert remote_sql(shared, network, address(shared, plain), HOSTILE).stdout.strip() == "in"
    assert HOSTILE not in shared.logs(plain)


def test_postgres_fast_shutdown(shared, plain):
    """Last on `plain`."""
    psql = ["psql", "-XAtq", "-U", "senex", "-d", "trader", "-c"]
    shared.podman("exec", "-d", plain, *psql, "SELECT pg_sleep(60)")
    asked = f"{shlex.join(psql)} 'SELECT query FROM pg_stat_activity' | grep -q 'sleep(60)$'"
    shared.ready(plain, "sh", "-c", asked)
    began = time.monotonic()
    shared.podman("stop", "-t", "30", plain)
    assert time.monotonic() - began < 15
    assert "received fast shutdown request" in shared.logs(plain)
    assert shared.state(plain)["ExitCode"] == 0
