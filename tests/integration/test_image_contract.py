"""The PostgreSQL and Redis images of the lab behave as the official ones: docs/images.md, row by row.

SENEX_POSTGRES_IMAGE and SENEX_REDIS_IMAGE run the same tests on other images, such as the official ones.
"""

import gzip
import json
import lzma
import os
import re
import secrets
import shlex
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAB_RUN = shlex.split(os.environ.get("SENEX_LAB_RUN", f"{ROOT}/tests/lab/lab run --"))
POSTGRES = os.environ.get("SENEX_POSTGRES_IMAGE", "localhost/senex-lab/postgres:latest")
REDIS = os.environ.get("SENEX_REDIS_IMAGE", "localhost/senex-lab/redis:latest")
PGDATA = "/var/lib/postgresql/data"
HOSTILE = "p $HOME \"q\" 'r' #s %t \\u =v {w} ;x &y `z` é"
HARDENED = ["--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--tmpfs=/tmp"]
PG_HARDENED = [*HARDENED, "--tmpfs=/var/run/postgresql"]
FAST = ["-e", "POSTGRES_INITDB_ARGS=--no-sync"]


class Containers:
    """Containers, volumes and networks that are gone when the test is."""

    def __init__(self, options=()):
        self.options, self.made = options, []

    def podman(self, *arguments, check=True, timeout=40):
        done = subprocess.run([*LAB_RUN, "podman", "--log-level=error", *arguments], text=True, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, check=False)
        assert not check or done.returncode == 0, f"podman {shlex.join(arguments)}: {done.stdout}"
        return done

    def make(self, kind, *arguments):
        name = f"image-contract-{secrets.token_hex(4)}"
        self.made.append((kind, name))
        self.podman(kind, "create", *arguments, name)
        return name

    def once(self, image, *command, options=(), network="none", check=True):
        """Run to the end; what it printed and its exit status."""
        name = f"image-contract-{secrets.token_hex(4)}"
        try:
            return self.podman("run", "--rm", "--pull=never", "--name", name, f"--network={network}", *self.options,
                               *options, image, *command, check=check)
        except subprocess.TimeoutExpired:
            self.podman("rm", "-fv", "-t", "0", name)
            pytest.fail(f"{shlex.join([image, *command])} did not end by itself")

    def start(self, image, *command, options=(), network="none"):
        name = f"image-contract-{secrets.token_hex(4)}"
        self.made.append(("container", name))
        self.podman("run", "-d", "--pull=never", "--name", name, f"--network={network}", *self.options, *options, image,
                    *command)
        return name

    def execute(self, name, *command, options=(), check=True):
        return self.podman("exec", *options, name, *command, check=check)

    def ready(self, name, *command, seconds=60):
        deadline = time.monotonic() + seconds
        while self.execute(name, *command, check=False).returncode != 0:
            if time.monotonic() > deadline or self.state(name)["Status"] == "exited":
                pytest.fail(f"{name} did not get ready:\n{self.logs(name)}")
            time.sleep(0.2)
        return name

    def postgres(self, *command, options=(), **more):
        name = self.start(POSTGRES, *command, options=options, **more)
        # The temporary server of the first start listens on no TCP, so this waits for the real one.
        return self.ready(name, "pg_isready", "-q", "-h", "127.0.0.1", "-U", "postgres")

    def redis(self, *command, options=(), **more):
        return self.ready(self.start(REDIS, *command, options=options, **more), "redis-cli", "ping")

    def sql(self, name, statement, *options, database="postgres", user="postgres"):
        return self.execute(name, "psql", "-XAtqU", user, "-d", database, "-c", statement, *options).stdout.strip()

    def inspect(self, name, kind="container"):
        return json.loads(self.podman("inspect", "--type", kind, name).stdout)[0]

    def state(self, name):
        return self.inspect(name)["State"]

    def logs(self, name):
        return self.podman("logs", name).stdout

    def remove(self):
        for kind, name in reversed(self.made):
            extra = ["-v", "-t", "0"] if kind == "container" else []
            self.podman(kind, "rm", "-f", *extra, name, check=False)
        self.made.clear()


@pytest.fixture(scope="module")
def options():
    """Without CAP_SYS_RESOURCE crun cannot set the limit that the device rules of a cgroup need."""
    for image in (POSTGRES, REDIS):
        found = Containers().podman("image", "exists", image, check=False)
        assert found.returncode == 0, f"{image} is missing: run tests/lab/lab images. {found.stdout}"
    probe = Containers().once(POSTGRES, "true", check=False)
    return ["--cgroups=disabled"] if "RLIM_MEMLOCK" in probe.stdout else []


@pytest.fixture(scope="module")
def shared(options):
    made = Containers(options)
    yield made
    made.remove()


@pytest.fixture
def lab(options):
    made = Containers(options)
    yield made
    made.remove()


@pytest.fixture(scope="module")
def network(shared):
    return shared.make("network", "--internal")


def files(directory, contents, mode=0o644):
    directory.mkdir(exist_ok=True)
    directory.chmod(0o755)
    for name, content in contents.items():
        path = directory / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(0o755 if name.startswith("run") else mode)
    return directory


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
    shared.once(POSTGRES, "sh", "-c", "echo \"INSERT INTO steps (step) VALUES ('zst');\" | zstd -q > /i/35-zst.sql.zst",
                options=["-v", f"{init}:/i"])
    mounts = ["-v", f"{data}:{PGDATA}", "-v", f"{wal}:/wal", "-v", f"{given}:/given:ro", "-v", f"{init}:/docker-entrypoint-initdb.d:ro"]
    settings = {"PASSWORD_FILE": "/given/password", "USER_FILE": "/given/user", "DB_FILE": "/given/db",
                "INITDB_ARGS_FILE": "/given/args", "INITDB_WALDIR": "/wal"}
    env = [f"--env=POSTGRES_{name}={value}" for name, value in settings.items()]
    name = shared.postgres("-c", "max_connections=33", options=[*mounts, *env], network=network)
    shared.full_mounts = mounts
    return name


def address(lab, name):
    return next(iter(lab.inspect(name)["NetworkSettings"]["Networks"].values()))["IPAddress"]


def remote_sql(shared, network, host, password):
    return shared.once(POSTGRES, "psql", "-XAtq", "-h", host, "-U", "senex", "-d", "trader", "-c", "SELECT 'in'",
                       options=["-e", f"PGPASSWORD={password}"], network=network, check=False)


# PostgreSQL

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
    shown = shared.sql(full, "SELECT pg_encoding_to_char(encoding), datcollate, pg_get_userbyid(datdba) "
                       "FROM pg_database WHERE datname = 'trader'", database="trader", user="senex")
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
    config = files(tmp_path / "config", {
        "postgresql.conf": "listen_addresses = '*'\nport = 5432\nmax_connections = 21\n",
        "pg_hba.conf": "local all all trust\nhost all all 127.0.0.1/32 reject\n"})
    options = ["--user", ids, *PG_HARDENED, *FAST, "-e", "POSTGRES_PASSWORD=x", "-v", f"{data}:{PGDATA}",
               "-v", f"{config}:/etc/postgresql:ro"]
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
    options = ["--user=4321:4321", "--passwd=false", *PG_HARDENED, *FAST, "-e", "POSTGRES_PASSWORD=x",
               "--tmpfs=/data:mode=1777", "-e", "PGDATA=/data/pg"]
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
    done = lab.once(POSTGRES, check=False, options=[*FAST, "-e", "POSTGRES_PASSWORD=x",
                                                    "-v", f"{init}:/docker-entrypoint-initdb.d:ro"])
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


# Redis

def ping(lab, network, host, *options):
    done = lab.once(REDIS, "redis-cli", "-h", host, "ping", options=options, network=network, check=False)
    return done.stdout.strip()


def test_redis_declares(lab):
    config = lab.inspect(REDIS, "image")["Config"]
    assert (config["Entrypoint"], config["Cmd"]) == (["docker-entrypoint.sh"], ["redis-server"])
    assert (config["WorkingDir"], list(config["Volumes"])) == ("/data", ["/data"])
    assert list(config["ExposedPorts"]) == ["6379/tcp"]
    assert config.get("StopSignal", "") in ("", "SIGTERM", "15")


def test_redis_ids(lab):
    assert lab.once(REDIS, "id", "-u", "redis").stdout.strip() == "999"


def test_redis_tools(lab):
    tools = ["redis-server", "redis-cli", "redis-sentinel", "redis-benchmark", "redis-check-aof"]
    found = lab.once(REDIS, "sh", "-c", f"for tool in {' '.join(tools)}; do command -v $tool; done", check=False).stdout
    assert [path.rpartition("/")[2] for path in found.split()] == tools
    assert "v=7." in lab.once(REDIS, "--version").stdout


def test_redis_other_command(lab):
    assert lab.once(REDIS, "sh", "-c", "id -u; pwd").stdout.split() == ["0", "/data"]


def test_redis_drops_root(lab, tmp_path):
    tmp_path.chmod(0o755)
    data = tmp_path / "data"
    files(data, {"old": "of root's"})
    name = lab.redis(options=["-v", f"{data}:/data"])
    assert lab.execute(name, "stat", "-c", "%u", "/proc/1", "/data", "/data/old").stdout.split() == ["999"] * 3


def test_redis_arguments(lab):
    name = lab.start(REDIS, "--port", "7777", "--save", "")
    lab.ready(name, "redis-cli", "-p", "7777", "ping")
    assert lab.execute(name, "redis-cli", "-p", "7777", "config", "get", "save").stdout.split() == ["save"]


def test_redis_umask(lab):
    name = lab.redis("--appendonly", "yes")
    lab.execute(name, "redis-cli", "save")
    found = lab.execute(name, "sh", "-c", "stat -c %a dump.rdb appendonlydir appendonlydir/*.aof")
    assert found.stdout.split()[0] == "600" and found.stdout.split()[1] == "700" and set(found.stdout.split()[2:]) == {"600"}


def test_redis_without_protected_mode(lab, network):
    name = lab.redis(network=network)
    assert ping(lab, network, address(lab, name)) == "PONG"


@pytest.mark.parametrize("config", [{"redis.conf": "protected-mode yes\n"}, {
    "redis.conf": "include /etc/redis/more.conf\n", "more.conf": "protected-mode yes\n"}], ids=["own", "included"])
def test_redis_configured_protected_mode(lab, network, tmp_path, config):
    directory = files(tmp_path / "redis", config)
    name = lab.redis("/etc/redis/redis.conf", options=["-v", f"{directory}:/etc/redis:ro"], network=network)
    assert ping(lab, network, address(lab, name)).startswith("DENIED")


def test_redis_hardened_with_password_file(lab, network, tmp_path):
    """As the units run it: its own uid, nothing writable but /data, the password in a file only it can read."""
    config = files(tmp_path / "redis", {"redis.conf": "include /etc/redis/secret.conf\nappendonly yes\n"})
    secret = config / "secret.conf"
    secret.write_text("requirepass s3cret\n")
    secret.chmod(0o400)
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    for path in (secret, data):
        os.chown(path, 999, 999)
    options = ["--user=999:999", *HARDENED, "-v", f"{config}:/etc/redis:ro", "-v", f"{data}:/data"]
    name = lab.ready(lab.start(REDIS, "/etc/redis/redis.conf", options=[*options, "-e", "REDISCLI_AUTH=s3cret"],
                               network=network), "sh", "-c", "redis-cli ping | grep -qx PONG")
    assert ping(lab, network, address(lab, name), "-e", "REDISCLI_AUTH=s3cret") == "PONG"
    assert ping(lab, network, address(lab, name)).startswith("NOAUTH")
    assert "s3cret" not in lab.execute(name, "cat", "/proc/1/cmdline").stdout


def test_redis_saves_on_stop(lab):
    name = lab.redis()
    lab.execute(name, "redis-cli", "set", "k", "v")
    lab.podman("stop", "-t", "10", name)
    assert lab.state(name)["ExitCode"] == 0
    assert "DB saved on disk" in lab.logs(name)


# The page

def test_page_names_the_tests():
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/images.md").read_text()))
    there = {name for name in globals() if name.startswith("test_") and name != "test_page_names_the_tests"}
    assert named == there
