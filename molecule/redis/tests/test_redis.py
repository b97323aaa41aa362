"""Redis as its clients and the kernel see it. The order matters: the later tests change the role's inputs."""

import re

import pytest
from parts import HOME, HOSTILE, MARK, RUN, SYSTEMCTL, Part, apply, eventually

FILES = (f"{HOME}/.config/containers/systemd/redis.container", f"{HOME}/config/redis/*")
CACHE_FILES = (f"{HOME}/.config/containers/systemd/redis-cache.container", f"{HOME}/config/redis-cache/*")
DATA = f"{HOME}/data/redis"


def test_answers_with_the_password_only(redis):
    assert redis.cli("ping") == "PONG"
    assert "NOAUTH" in redis.cli("ping", password="")
    assert "WRONGPASS" in redis.cli("ping", password="something-else")


@pytest.mark.parametrize("server", ["redis", "redis-cache"])
def test_only_the_application_and_the_operator_log_in(redis, server):
    assert redis.cli("ping", server=server) == redis.operate("ping", server) == "PONG"
    assert redis.cli("acl whoami", server=server) == "senex" and redis.operate("acl whoami", server) == "operator"
    for user in ("", "default", "operator"):
        assert "WRONGPASS" in redis.cli("ping", user=user, server=server)
    words = redis.script("stat -c '%a %u' /tmp/operator; redis-cli --raw acl getuser default | head -2", container=server).stdout.split()
    assert words == ["600", "999", "flags", "off"]


ADMINISTRATIVE = ("replicaof 127.0.0.1 1", "slaveof no one", "config set maxmemory 1", "config get dir", "config rewrite", "acl list", "acl setuser other on",
                  "acl deluser operator", "acl save", "shutdown nosave", "debug sleep 0", "module list", "module load /tmp/x.so", "flushall", "save", "bgsave",
                  "bgrewriteaof", "client list", "client kill type normal", "client pause 1", "monitor", "psync ? -1", "migrate a 1 k 0 1", "swapdb 0 1",
                  "slowlog get", "latency latest", "failover", "info", "restore k 0 x", "role", "sort k")  # fmt: skip
LUA = "eval \"return redis.call('flushall')\" 0"
REFUSALS = ("NOPERM", "ACL failure", "can't run this command", "command not allowed")  # the last: DEBUG and MODULE LOAD, which nobody may


def test_the_application_may_not_administer(redis):
    before, since = redis.pid, redis.now()
    answers = {words: redis.cli(words) for words in (*ADMINISTRATIVE, LUA)}
    assert {words: said for words, said in answers.items() if not any(word in said for word in REFUSALS)} == {}
    assert redis.pid == before and "DB saved" not in redis.journal(since=since)
    assert redis.operate("config get dir").split()[1] == "/data"


# What kombu, Celery's results, channels-redis, Django's cache and django-redis call, from their sources
OF_LIBRARIES = """
client setname worker
client id
hello 3
select 5
multi
zadd unacked_index 1 tag
hset unacked tag task
exec
lpush celery one two
brpop celery 1
llen celery
sadd _kombu.binding.celery x
publish celeryev x
watch k
unwatch
set lock token NX PX 1000
eval "return redis.call('get', KEYS[1])" 1 lock
script load "return 1"
evalsha e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0
eval "return #redis.call('keys', ARGV[1])" 0 asgi*
bzpopmin asgi:none 0.1
zrangebyscore unacked_index 0 9
setex result 60 x
expire result 60
scan 0 match r*
keys *
mget result lock
incrby counter 2
touch result
pexpire result 1000
time
object encoding counter
flushdb
"""


def test_the_application_may_call_what_its_libraries_call(redis):
    said = redis.script(f"export REDISCLI_AUTH={redis.password}\nredis-cli --user senex -h redis <<'END'{OF_LIBRARIES}END", container="client").stdout
    wrong = [line for line in said.splitlines() if line.startswith(("(error)", "ERR", "NOPERM", "NOSCRIPT"))]
    assert wrong == [] and said.count("OK") >= 5, said
    assert "subscribe" in redis.cli("--raw subscribe celery-pidbox & sleep 0.5; kill $!")


def test_the_cache_is_a_server_of_its_own(host, redis):
    """Keys without a time to live, which fill it, cost the queue nothing."""
    cache = Part(host, "redis-cache")
    cache.is_confined(uid=999)
    cache.is_unpublished(6379)
    wanted = {"maxmemory": str(24 * 1024 * 1024), "maxmemory-policy": "allkeys-lru", "appendonly": "no", "save": '""', "dir": "/tmp"}  # noqa: S108
    assert {name: (redis.operate(f"config get {name}", "redis-cache").split("\n") + [""])[1] or '""' for name in wanted} == wanted
    flood = "for i = 1, 500 do redis.call('set', ARGV[1] .. ':' .. i, string.rep('c', 1024)) end"
    redis.cli("rpush celery task", database=2)
    redis.script(
        f'export REDISCLI_AUTH={redis.password}\nfor n in $(seq 80); do redis-cli --user senex -h redis-cache eval "{flood}" 0 $n; done', container="client"
    )
    assert int(redis.operate("info stats", "redis-cache").partition("evicted_keys:")[2].split()[0]) > 1000
    assert redis.cli("set one more", server="redis-cache") == "OK"
    assert redis.cli("lpop celery", database=2) == "task"


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
    assert {name: redis.operate(f"config get {name}").split("\n", 1)[1] for name in wanted} == wanted


def test_limit_leaves_room_for_the_fork(redis):
    limit = int(redis.show("MemoryMax"))
    assert limit > int(redis.operate("config get maxmemory").split()[1]) * 1.25
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
    redis.operate("flushall")
    assert redis.cli(fill, database=2) == ""
    flood = "for i = 1, 500 do redis.call('set', ARGV[1] .. ':' .. i, string.rep('c', 1024), 'EX', 900) end"
    redis.script(
        f'export REDISCLI_AUTH={redis.password}\nfor n in $(seq 120); do redis-cli --user senex -h redis eval "{flood}" 0 $n; done', container="client"
    )
    assert int(dict(line.split(":") for line in redis.operate("info stats").splitlines() if ":" in line)["evicted_keys"]) > 10000
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
    """With its transactions, and scripts that write twice, which are some in the log: Redis loads that as the user default."""
    redis.cli("set killed 1")
    redis.script(f"export REDISCLI_AUTH={redis.password}\nprintf 'multi\\nset transaction 1\\nexec\\n' | redis-cli --user senex -h redis", container="client")
    redis.cli("eval \"redis.call('set', 'script', 1) redis.call('incr', 'script')\" 0")
    redis.script("sleep 1.5")
    took = redis.kill()
    print(f"back after {took:.1f} s")
    assert took < 30
    assert redis.cli("ping") == "PONG"
    assert [redis.cli(f"get {key}") for key in ("killed", "transaction", "script")] == ["1", "1", "2"]
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


def damaged(host, redis, pattern, script):
    """Redis as it is after two bytes of a file were overwritten: it tries to start again and again, and says which file."""
    redis.systemctl("stop")
    host.check_output(f"cd {DATA}/appendonlydir; file=$(ls {pattern} | tail -1); {script}; printf XX | dd of=$file bs=1 seek=$at conv=notrunc status=none")
    since = redis.now()
    host.check_output(f"{SYSTEMCTL} start --no-block redis.service")
    eventually(lambda: "make a backup of your AOF" in redis.journal(since=since) or "Checking RDB file" in redis.journal(since=since), 60)


def test_a_damaged_log_is_cut_where_the_damage_begins(host, redis):
    for key in ("before", "damaged", "after"):
        redis.cli(f"set {key} 1")
    redis.script("sleep 1.5")
    damaged(host, redis, "*.incr.aof", "at=$(($(grep -abo damaged $file | tail -1 | cut -d : -f 1) + 9))")  # where the next word is announced
    said = redis.program("check")
    assert said.rc == 2 and ".incr.aof, from byte" in said.stdout and "LOST" in said.stdout and "--snapshot" in said.stdout, said.stdout + said.stderr
    before = host.check_output(f"cd {DATA}; find . -type f | sort | xargs sha256sum; ls -a")
    assert redis.program("repair", stdin="no").rc == 1
    assert host.check_output(f"cd {DATA}; find . -type f | sort | xargs sha256sum; ls -a") == before
    said = redis.program("repair", stdin="yes")
    assert said.rc == 0 and "redis.service: ready" in said.stdout, said.stdout + said.stderr
    assert [redis.cli(f"get {key}") for key in ("before", "damaged", "after")] == ["1", "", ""]
    assert redis.cli("get killed") == "1"
    assert "XX" in host.check_output(f"grep -a -A1 damaged {DATA}/appendonlydir.damaged-*/*.incr.aof")
    assert host.check_output(f"stat -c '%u %a' {DATA}/appendonlydir") == "200998 700"
    assert redis.program("repair --yes").rc == 1, "a Redis that runs is not repaired"


def test_a_damaged_beginning_of_the_log_is_replaced_by_the_snapshot(host, redis):
    damaged(host, redis, "*.base.rdb", "at=$(($(stat -c %s $file) - 4))")  # in its check sum
    said = redis.program("check")
    assert said.rc == 2 and ".base.rdb" in said.stdout and "the snapshot dump.rdb" in said.stdout, said.stdout + said.stderr
    said = redis.program("repair --yes")
    assert said.rc == 0, said.stdout + said.stderr
    assert redis.cli("get before") == "1" and redis.cli("get killed") == "1"
    host.check_output(f"rm -r {DATA}/*.damaged-*")


def test_log_switched_off_and_on_keeps_what_was_written_between(host, redis):
    """The snapshot is of before, for there were no save points for a while: the log alone has what came since."""
    apply({"redis_save": ""})
    redis.cli("set since-the-snapshot 1")
    apply({"redis_appendonly": False})
    assert redis.cli("get killed") == "1" and redis.cli("get since-the-snapshot") == "1"
    assert redis.cli("llen celery", database=2) == "1000"
    assert "incr.aof" in host.check_output(f"ls {DATA}/appendonlydir.off-*")
    redis.cli("set between 1")
    assert apply().changed
    assert redis.operate("config get appendonly").split()[1] == "yes"
    assert redis.cli("get between") == "1"


def test_a_disk_that_is_not_mounted_becomes_no_empty_redis(host, redis):
    redis.systemctl("stop")
    host.check_output(f"mv {DATA} {DATA}.disk && install -d -o 200998 -g 200998 -m 0700 {DATA}")
    try:
        refused = apply(check=False)
        assert refused.rc and "-e redis_new_data=true" in refused.message, refused.message
        since = redis.now()
        host.check_output(f"{SYSTEMCTL} start --no-block redis.service")
        eventually(lambda: "mount its disk" in redis.journal(since=since))
        host.check_output(f"{SYSTEMCTL} stop redis.service")
        assert host.check_output(f"ls -A {DATA}") == ""
    finally:
        host.check_output(f"rmdir {DATA}; mv {DATA}.disk {DATA}")
        redis.systemctl("start")
    assert redis.cli("get killed") == "1"


def test_hostile_password_arrives_and_shows_nowhere(redis):
    redis.sample_command_lines()
    apply({"redis_password": HOSTILE}, options=["-vvv", "--diff"])
    redis.password = HOSTILE
    assert redis.cli("ping") == "PONG"
    assert "WRONGPASS" in redis.cli("ping", password="molecule-redis-password")
    assert redis.script("redis-cli -e ping").stdout.strip() == "PONG"
    assert MARK not in redis.sampled("redis-server", "redis-cli --user operator -e ping", meanwhile=lambda: redis.script("redis-cli -e ping"))
    redis.shows_nowhere()


def finish(inputs=None):
    """The end of site.yml."""
    return apply({"molecule_tasks_from": "finish", **(inputs or {})})


def test_who_logs_in_without_a_name_may_until_nobody_does(host, redis):
    """A host from before there were names: its containers have addresses without one until they are replaced."""
    redis.password, image = "molecule-redis-password", redis.inspect(".ImageName")
    apply()
    host.check_output("rm /etc/senex-trader/redis-named /var/lib/senex.trader/redis_named.*")
    started = redis.started
    apply()
    assert redis.cli("ping", user="") == "PONG" and "NOPERM" in redis.cli("config get dir", user="")
    for options, words in (
        (f"-e REDIS_URL=redis://:{redis.password}@redis:6379/0 {image} sleep infinity", "old"),
        (f"-e REDISCLI_AUTH={redis.password} {image} redis-cli -h redis subscribe x", "a connection from"),
    ):
        redis.podman(f"run -d --rm --name old --network senex-trader_senex_network {options}")
        eventually(lambda words=words: words == "old" or re.search(r" cmd=subscribe .*user=default ", redis.operate("client list")))
        result = finish()
        assert words in result.message and "stays on" in result.message and not result.changed
        assert redis.cli("ping", user="") == "PONG"
        redis.podman("rm -f -t 0 old")
    eventually(lambda: " user=default " not in redis.operate("client list"))
    assert finish().changed
    assert "WRONGPASS" in redis.cli("ping", user="") and "WRONGPASS" in redis.cli("ping", user="", server="redis-cache")
    assert redis.cli("ping") == "PONG" and redis.started == started
    assert not finish().changed and not apply().changed


def test_the_cache_ends_when_nothing_asks_it(host, redis):
    image, off = redis.inspect(".ImageName"), {"senex_redis_cache_instance": False}
    redis.podman(f"run -d --rm --name old -e REDIS_URL=redis://senex:x@redis-cache:6379/0 {image} sleep infinity")
    apply(off)
    assert "redis-cache stays" in finish(off).message and redis.cli("ping", server="redis-cache") == "PONG"
    redis.podman("rm -f -t 0 old")
    assert finish(off).changed
    assert "redis-cache" not in redis.podman("ps --format '{{.Names}}'").split() and not host.run(f"find {' '.join(CACHE_FILES)} -type f").stdout
    assert redis.cli("ping") == "PONG"
    apply()


def test_absent_keeps_the_data(host, redis):
    host.check_output(f"touch {DATA}/foreign && chown 1234:1234 {DATA}/foreign")
    inode = host.check_output(f"stat -c '%i %u %a' {DATA}")
    apply({"redis_state": "absent"})
    redis.is_gone()
    assert host.run(f"find {' '.join(FILES + CACHE_FILES)} -type f").stdout.split() == [f"{HOME}/config/redis/data"], "that there is data, which stays"
    assert host.check_output(f"stat -c '%i %u %a' {DATA}") == inode
    apply()
    redis.password = "molecule-redis-password"
    assert redis.cli("get between") == "1"
    assert redis.cli("llen celery", database=2) == "1000"
    assert host.check_output(f"stat -c %u {DATA}/foreign; rm {DATA}/foreign") == "1234"
    assert host.run(f"{RUN} podman ps --filter health=healthy --format '{{{{.Names}}}}'").stdout.split().count("redis") == 1
