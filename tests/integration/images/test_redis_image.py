"""The Redis image of the lab behaves as the official one: docs/user/images.md, row by row."""

import os

import pytest
from containers import HARDENED, REDIS, address, files


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
    tools = ["redis-server", "redis-cli", "redis-sentinel", "redis-benchmark", "redis-check-aof", "redis-check-rdb"]
    tools += ["head", "cut", "sha256sum", "stat", "du", "sed", "yes", "cp"]
    found = lab.once(REDIS, "sh", "-c", f"for tool in {' '.join(tools)}; do command -v $tool; done", check=False).stdout
    assert [path.rpartition("/")[2] for path in found.split()] == tools
    assert "v=7." in lab.once(REDIS, "--version").stdout
    assert lab.once(REDIS, "sh", "-c", "sleep 0.1 && timeout 4 date +%s").stdout.strip().isdigit()


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


@pytest.mark.parametrize(
    "config",
    [{"redis.conf": "protected-mode yes\n"}, {"redis.conf": "include /etc/redis/more.conf\n", "more.conf": "protected-mode yes\n"}],
    ids=["own", "included"],
)
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
    name = lab.ready(
        lab.start(REDIS, "/etc/redis/redis.conf", options=[*options, "-e", "REDISCLI_AUTH=s3cret"], network=network),
        "sh",
        "-c",
        "redis-cli ping | grep -qx PONG",
    )
    assert ping(lab, network, address(lab, name), "-e", "REDISCLI_AUTH=s3cret") == "PONG"
    assert ping(lab, network, address(lab, name)).startswith("NOAUTH")
    assert "s3cret" not in lab.execute(name, "cat", "/proc/1/cmdline").stdout


def test_redis_saves_on_stop(lab):
    name = lab.redis()
    lab.execute(name, "redis-cli", "set", "k", "v")
    lab.podman("stop", "-t", "10", name)
    assert lab.state(name)["ExitCode"] == 0
    assert "DB saved on disk" in lab.logs(name)
