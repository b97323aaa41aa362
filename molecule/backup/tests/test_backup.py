"""Backups under their timers, and everything that may go wrong with them. The order matters: the later tests use what the earlier ones made."""

import json
import time

from conftest import BACKUPS
from parts import HOME, RUN, SYSTEMCTL, apply, eventually

ROWS = 20_000


def test_nothing_was_made_yet_and_says_so(backup):
    for job in ("dump", "redis", "media"):
        assert backup.status(job)["result"] == "never"
        assert backup.show("ActiveState", f"backup-{job}.timer") == "active"
        assert backup.show("UnitFileState", f"backup-{job}.timer") == "enabled"
    assert "dump           never" in backup.run("list").stdout


def test_every_job_is_green_under_its_timer(host, backup):
    backup.sql(f"create table kept (id serial primary key, word citext); insert into kept (word) select md5(n::text) from generate_series(1, {ROWS}) n;")
    backup.redis("set kept yes")
    for job in ("dump", "redis", "media"):
        since = backup.now()
        assert backup.fire(job) == "success", backup.said(since)
        status = backup.status(job)
        assert (status["result"], status["error"]) == ("ok", None)
        assert host.file(status["what"]).exists
        assert host.check_output("date -u -d @$(date +%s) +%F") in status["finished"] + host.check_output("date -u +%F")
        assert backup.said(since)[0] == ""
    (dump,) = backup.complete()
    assert dump.startswith("daily-")
    assert host.check_output(f"stat -c %a {BACKUPS}/postgresql/{dump}") == "600"


def test_an_hour_that_was_missed_is_made_up_for(host, backup):
    """As after a night that the machine was off: the stamp of the last run is old when the timer starts."""
    stamp = f"{HOME}/.local/share/systemd/timers/stamp-backup-redis.timer"
    before = backup.complete("redis")
    host.check_output(f"{SYSTEMCTL} stop backup-redis.timer && touch -d '2 days ago' {stamp} && {SYSTEMCTL} start backup-redis.timer")
    eventually(lambda: len(backup.complete("redis")) == len(before) + 1, 60)
    assert backup.ended("redis") == "success"


def test_timers_survive_the_user_manager(host, backup):
    """A reboot, as far as the user's units see it."""
    host.check_output("systemctl restart user@987.service")
    eventually(lambda: host.run(f"{SYSTEMCTL} is-active backup-dump.timer postgres.service redis.service").stdout.split() == ["active"] * 3, 90)


def test_a_dump_holds_the_data(host, backup):
    made = backup.made("dump")
    facts = json.loads(host.check_output(f"cat {made['path']}.json"))
    assert facts["tables"]["public.kept"] == ROWS and facts["sequences"]["public.kept_id_seq"] == [ROWS, ROWS] and "citext" in facts["extensions"]
    backup.sql("create database proof", role="postgres")
    digest = "select md5(string_agg(id || word, ',' order by id)) from kept"
    restore = f"{RUN} sh -c 'gunzip -c {made['path']} | podman exec -i postgres psql -Xq -v ON_ERROR_STOP=1 -U postgres -d proof'"
    assert host.run(restore).rc == 0
    assert backup.sql(digest, database="proof") == backup.sql(digest)
    backup.sql("drop database proof", role="postgres")


def test_not_twice_at_once(host, backup):
    """The second waits, or ends with what is the matter; names differ, and both are whole."""
    host.check_output(f"({RUN} flock {BACKUPS}/status/.dump.lock sleep 4) >/dev/null 2>&1 & sleep 0.5")
    result = backup.run("dump --wait 0.5")
    assert result.rc != 0 and "another backup of dump is under way" in result.stderr
    result = backup.run("dump --wait 60")
    assert result.rc == 0 and "waiting for it" in result.stdout
    assert backup.run("verify").rc == 0


def interrupted(host, backup, deed):
    """Start the unit, hold it in the middle, do the deed; what was there before must be all there is, and everybody is told."""
    host.check_output(f"rm -f {BACKUPS}/postgresql/*.part")
    before, since = backup.files(), backup.now()
    hold = f"until [ -s $(ls {BACKUPS}/postgresql/*.gz.part 2>/dev/null || echo none) ] && pkill -STOP -x pg_dump; do sleep 0.01; done"
    host.check_output(f"timeout 60 sh -c '{hold}' & {SYSTEMCTL} start --no-block backup-dump.service; wait $!")
    try:
        deed()
    finally:
        host.run("pkill -CONT -x pg_dump")
    assert backup.ended("dump") != "success"
    now = backup.files()
    assert {name: digest for name, digest in now.items() if not name.endswith(".part")} == before
    status = backup.status("dump")
    assert status["result"] == "failed" and status["error"]
    errors = backup.said(since)[0]
    assert errors.count("backup dump failed:") == 1, errors
    return status["error"]


def test_killed_in_the_middle(host, backup):
    backup.sql("create table big as select n, encode(sha256(random()::text::bytea), 'hex') word from generate_series(1, 700000) n")
    error = interrupted(host, backup, lambda: host.check_output(f"{SYSTEMCTL} kill --signal=KILL backup-dump.service"))
    assert "before it had written a result" in error


def test_pg_dump_killed_in_the_middle(host, backup):
    assert "pg_dump ended with 137" in interrupted(host, backup, lambda: host.check_output("pkill -KILL -x pg_dump"))


def test_stopped_in_the_middle(host, backup):
    assert "SIGTERM" in interrupted(host, backup, lambda: host.check_output(f"{SYSTEMCTL} kill --kill-whom=main --signal=TERM backup-dump.service"))


def test_postgresql_restarts_in_the_middle(host, backup):
    def deed():
        backup.systemctl("restart")

    interrupted(host, backup, deed)
    eventually(lambda: backup.script("pg_isready -q -h 127.0.0.1").rc == 0, 60)


def test_after_all_that_the_next_one_is_good(host, backup):
    host.check_output(f"touch -d '5 minutes ago' $(ls {BACKUPS}/postgresql/*.part 2>/dev/null) /dev/null")
    assert backup.begin("dump") == "success"
    assert backup.status("dump")["result"] == "ok"
    assert not [name for name in backup.files() if name.endswith(".part")]


def test_a_postgresql_that_lets_nobody_in_costs_no_old_dump(host, backup):
    """Nor one that is past its time: only a new dump that was proven makes others superfluous."""
    hba, old = f"{HOME}/config/postgresql/pg_hba.conf", "daily-2026-01-01-020000.sql.gz"
    host.check_output(f"cd {BACKUPS}/postgresql && cp -p $(ls daily-*.sql.gz | head -n 1) {old}")
    host.check_output(f"cp -a {hba} /root/ && sed -i '1i local all all reject' {hba}")
    before, since = backup.files(), backup.now()
    try:
        backup.podman("kill --signal HUP postgres")
        assert backup.begin("dump") != "success"
    finally:
        host.check_output(f"cp -a /root/pg_hba.conf {hba}")
        backup.podman("kill --signal HUP postgres")
    assert old in before and backup.files() == before
    status = backup.status("dump")
    assert status["result"] == "failed" and "pg_hba.conf rejects connection" in status["error"]
    assert backup.said(since)[0].count("backup dump failed:") == 1
    host.check_output(f"rm {BACKUPS}/postgresql/{old}")


def small_disk(host, size):
    """A small file system of its own over the directory of dumps, with what was in it."""
    place = f"{BACKUPS}/postgresql"
    host.check_output(f"cp -a {place} /root/dumps && mount -t tmpfs -o size={size},mode=0700,uid=987,gid=987 small {place} && cp -a /root/dumps/. {place}/")


def free_disk(host):
    host.check_output(f"umount {BACKUPS}/postgresql && rm -r /root/dumps")


def test_a_disk_too_small_is_seen_before_and_a_full_one_on_the_way(host, backup):
    host.check_output(f"rm -f {BACKUPS}/postgresql/*.gz*")
    made = backup.made("dump")["bytes"]
    try:
        small_disk(host, made + (20 << 20))
        before = backup.files()
        result = backup.run("dump --reason daily")
        assert result.rc != 0 and "MB free, and the dump needs about" in result.stderr and "make room" in result.stderr
        assert backup.files() == before and backup.status("dump")["result"] == "failed"
        # What was written beside the last dump makes this one look small, so it begins and runs into the end of the disk
        host.check_output(f'cd {BACKUPS}/postgresql && sed -i \'s/"bytes": [0-9]*/"bytes": 1/\' *.json')
        before = backup.files()
        assert backup.begin("dump") != "success"
        assert backup.files() == before
        assert "No space left on device" in backup.status("dump")["error"]
    finally:
        free_disk(host)
        backup.sql("drop table big")


def test_redis_that_refuses_leaves_no_copy(host, backup):
    before, since = backup.files("redis"), backup.now()
    backup.script("mv /tmp/operator /tmp/operator.away; echo another-password >/tmp/operator", container="redis")
    try:
        assert backup.begin("redis") != "success"
    finally:
        backup.script("mv /tmp/operator.away /tmp/operator", container="redis")
    assert backup.files("redis") == before
    status = backup.status("redis")
    assert status["result"] == "failed" and "WRONGPASS" in status["error"]
    assert backup.said(since)[0].count("backup redis failed:") == 1
    assert backup.made("redis")["bytes"] > 0


def test_a_copy_of_redis_holds_the_data(host, backup):
    copy = backup.made("redis")["path"]
    image = backup.inspect(".Image", "redis")
    backup.podman(f"run -d --rm --name proof --network none --user 0 -v {copy}:/copy.rdb:ro --entrypoint sh {image}"
                  " -c 'mkdir /tmp/r && cp /copy.rdb /tmp/r/dump.rdb && exec redis-server --dir /tmp/r --port 6379'")  # fmt: skip
    try:
        eventually(lambda: backup.script("redis-cli -e get kept", container="proof").stdout.strip() == "yes")
    finally:
        backup.podman("rm -f -t 0 proof")


def test_media_is_copied_once_and_linked_after(host, backup):
    one = backup.made("media")["path"]
    time.sleep(1)  # a copy's name is its second
    two = backup.made("media")["path"]
    name = "files/photos/one.bin"
    inodes = host.check_output(f"stat -c '%i %u %a' {one}/{name} {two}/{name}").splitlines()
    assert inodes[0] == inodes[1] and inodes[0].endswith(" 200999 600")
    source = host.check_output(f"cd {HOME}/data/media && find . -type f -exec sha256sum {{}} + | sort")
    assert host.check_output(f"cd {two}/files && find . -type f -exec sha256sum {{}} + | sort") == source


def test_one_flipped_byte_is_found_and_named(host, backup):
    dump, copy, media = (backup.made(job)["path"] for job in ("dump", "redis", "media"))
    for path in (dump, copy, f"{media}/files/photos/two words.txt"):
        flip = f"import os; f = open('{path}', 'r+b'); f.seek(-5, 2); b = f.read(1)[0]; f.seek(-5, 2); f.write(bytes([b ^ 1]))"
        host.check_output(f'python3 -c "{flip}"')
    result = backup.run("verify")
    assert result.rc != 0
    damaged = [line for line in result.stdout.splitlines() if line.startswith("DAMAGED")]
    for path in (dump, copy, media):
        assert [line for line in damaged if path.rpartition("/")[2] in line], result.stdout
    assert "two words.txt" in result.stdout
    host.check_output(f"rm -r {dump}* {copy}* {BACKUPS}/media/*")


def test_retention_goes_by_reason_and_keeps_the_last(host, backup):
    copy = f"cd {BACKUPS}/postgresql && for new in {{}}; do cp -p $(ls manual-*.sql.gz | head -1) $new; done"
    old = ["daily-2026-01-01-020000.sql.gz", "daily-2026-01-02-020000.sql.gz", "pre-deploy-2026-01-01-000000.sql.gz", "manual-2026-01-01-000000.sql.gz"]
    host.check_output(copy.format(" ".join(old)))
    # The tests before removed most of the rows
    refused = backup.run("dump --reason daily")
    assert refused.rc == 1 and "holds less than half the rows" in refused.stderr and set(old) <= backup.complete()
    assert backup.run("accept dump").rc == 0
    backup.made("dump --reason daily")
    if set(old) <= backup.complete():  # there was no other one of these days: then the clock may be wrong, and nothing goes yet
        backup.made("dump --reason daily")
    assert set(old) & backup.complete() == set(old[2:])
    backup.made("dump --reason manual")
    assert set(old) & backup.complete() == set(old[2:3])
    backup.made("dump --reason pre-deploy --keep 1")
    assert not set(old) & backup.complete()


def test_absent_keeps_the_backups(host, backup):
    host.check_output(f"{SYSTEMCTL} stop 'backup-*.timer'")  # the hourly one would come between two looks once an hour
    eventually(lambda: backup.show("ActiveState", "backup-redis.service") != "activating", 60)
    before = backup.files("")
    apply({"backup_state": "absent"})
    assert host.run(f"{SYSTEMCTL} list-timers --all --no-legend 'backup-*'").stdout == ""
    assert not host.file(f"{HOME}/bin/backup").exists
    assert backup.files("") == before
