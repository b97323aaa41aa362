"""Redis as its clients and the kernel see it. The order matters: the later tests change the role's inputs."""

from parts import HOME, HOSTILE, MARK, RUN, apply, eventually

FILES = (f"{HOME}/.config/containers/systemd/redis.container", f"{HOME}/config/redis/*")
DATA = f"{HOME}/data/redis"


def test_answers_with_the_password_only(redis):
    assert redis.cli("ping") == "PONG"
    assert "NOAUTH" in redis.cli("ping", password="")
    assert "WRONGPASS" in redis.cli("ping", password="something-else")


def test_is_confined(redis):
    redis.is_confined(uid=999)
    redis.is_unpublished(6379)


def test_configuration_is_live(redis):
    wanted = {
        "maxmemory": str(24 * 1024 * 1024),
        "maxmemory-policy": "volatile-lru",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "900 1 300 10 60 10000",
        "stop-writes-on-bgsave-error": "yes",
        "protected-mode": "yes",
        "slowlog-max-len": "77",
    }
    assert {name: redis.cli(f"config get {name}").split("\n", 1)[1] for name in wanted} == wanted


def test_limit_leaves_room_for_the_fork(redis):
    limit = int(redis.show("MemoryMax"))
    assert limit > int(redis.cli("config get maxmemory").split()[1]) * 1.25
    assert int(redis.show("MemoryHigh")) < limit


def test_host_is_ready_for_it(host, redis):
    assert host.file("/proc/sys/vm/overcommit_memory").content_string.strip() == "1"
    assert "overcommit must be enabled" not in redis.journal(lines=200)


def test_data_is_for_its_owner_alone(host):
    directory = host.file(DATA)
    assert (directory.uid, directory.mode) == (200998, 0o700)
    assert host.run(f"find {DATA} -type f -perm /077").stdout == ""


def test_queue_survives_a_flood_of_cache_keys(redis):
    fill = "eval \"for i = 1, 1000 do redis.call('rpush', 'celery', string.rep('t', 1024)) end\" 0"
    redis.cli("flushall")
    assert redis.cli(fill, database=2) == ""
    flood = "for i = 1, 500 do redis.call('set', ARGV[1] .. ':' .. i, string.rep('c', 1024), 'EX', 900) end"
    redis.script(
        f"export REDISCLI_AUTH={redis.password}\nfor n in $(seq 120); do redis-cli -h redis eval \"{flood}\" 0 $n; done", container="client"
    )
    assert int(dict(line.split(":") for line in redis.cli("info stats").splitlines() if ":" in line)["evicted_keys"]) > 10000
    assert redis.cli("llen celery", database=2) == "1000"
    assert redis.cli("flushdb") == "OK"


def test_stops_gracefully_and_saves(redis):
    redis.cli("set graceful 1")
    since = redis.now()
    assert redis.systemctl("stop") < 10
    log = redis.journal(since=since)
    assert "DB saved on disk" in log
    assert "ready to exit" in log
    redis.systemctl("start")
    assert redis.cli("get graceful") == "1"
    assert redis.cli("llen celery", database=2) == "1000"


def test_comes_back_when_killed(redis):
    redis.cli("set killed 1")
    redis.script("sleep 1.5")
    took = redis.kill()
    print(f"back after {took:.1f} s")
    assert took < 30
    assert redis.cli("ping") == "PONG"
    assert redis.cli("get killed") == "1"
    assert redis.cli("llen celery", database=2) == "1000"


def test_snapshot_alone_is_taken_over(host, redis):
    """As found where Redis ran without a log before."""
    redis.systemctl("stop")
    host.check_output(f"rm -r {DATA}/appendonlydir")
    redis.systemctl("start")
    assert redis.cli("get killed") == "1"
    assert redis.cli("llen celery", database=2) == "1000"


def test_comes_back_when_it_hangs(host, redis):
    """A stopped process takes connections and answers nothing; the health check has it killed."""
    pid = redis.pid
    host.check_output(f"kill -STOP {pid}")
    eventually(lambda: host.run(f"test -d /proc/{pid}").rc, seconds=90)
    eventually(lambda: redis.show("ActiveState") == "active" and redis.cli("ping") == "PONG")


def test_refused_configuration_is_put_back(redis):
    """What only Redis itself can know: the old state goes on, with its data."""
    before = redis.hash_of(*FILES)
    result = apply({"redis_settings": {"no-such-directive": "1"}}, check=False)
    assert result.rc
    assert "Bad directive or wrong number of arguments" in result.message
    assert redis.hash_of(*FILES) == before
    assert redis.cli("get killed") == "1"


def test_log_switched_off_and_on_keeps_what_was_written_between(redis):
    apply({"redis_appendonly": False})
    assert redis.cli("get killed") == "1"
    redis.cli("set between 1")
    assert apply().changed
    assert redis.cli("config get appendonly").split()[1] == "yes"
    assert redis.cli("get between") == "1"


def test_hostile_password_arrives_and_shows_nowhere(redis):
    redis.sample_command_lines()
    apply({"redis_password": HOSTILE}, options=["-vvv", "--diff"])
    redis.password = HOSTILE
    assert redis.cli("ping") == "PONG"
    assert "WRONGPASS" in redis.cli("ping", password="molecule-redis-password")
    assert redis.script("redis-cli -e ping").stdout.strip() == "PONG"
    assert MARK not in redis.sampled("redis-server", "redis-cli -e ping", meanwhile=lambda: redis.script("redis-cli -e ping"))
    redis.shows_nowhere()


def test_absent_keeps_the_data(host, redis):
    host.check_output(f"touch {DATA}/foreign && chown 1234:1234 {DATA}/foreign")
    inode = host.check_output(f"stat -c '%i %u %a' {DATA}")
    apply({"redis_state": "absent"})
    redis.is_gone()
    assert not host.run(f"find {' '.join(FILES)} -type f").stdout
    assert host.check_output(f"stat -c '%i %u %a' {DATA}") == inode
    apply()
    redis.password = "molecule-redis-password"
    assert redis.cli("get between") == "1"
    assert redis.cli("llen celery", database=2) == "1000"
    assert host.check_output(f"stat -c %u {DATA}/foreign; rm {DATA}/foreign") == "1234"
    assert host.run(f"{RUN} podman ps --filter health=healthy --format '{{{{.Names}}}}'").stdout.split().count("redis") == 1
