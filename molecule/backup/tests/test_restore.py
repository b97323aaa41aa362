"""A dump restored by the playbook: nothing changes unasked, a broken one changes nothing, and what was there before is kept."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from conftest import BACKUPS, INPUTS
from parts import HOME, SYSTEMCTL, Applied

ROOT = Path(__file__).parents[3]
MEDIA = f"{HOME}/data/media"
LOCK = "/var/lib/senex.trader/deploy.lock"
CACHE = f"{HOME}/.config/systemd/user/redis-cache.service"


def restore(check=True, playbook="restore", options=(), **inputs):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as handle:
        json.dump(inputs, handle)
        handle.flush()
        command = ["ansible-playbook", "-i", os.environ["MOLECULE_INVENTORY_FILE"], "-e", f"@{handle.name}", *options, str(ROOT / f"playbooks/{playbook}.yml")]
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "COLUMNS": "400"}
        result = Applied(subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=environment))
    assert not check or result.rc == 0, result.output
    return result


@pytest.fixture(scope="module")
def ready(sent):
    """The command, and a dump of a table that is changed afterwards."""
    backup = sent
    # An extension that restores need too, and that is the application's own here
    backup.sql("create schema checks; create extension amcheck schema checks;", role="postgres")
    backup.sql("drop table if exists big, ledger; create table ledger (id serial primary key, word citext); create index on ledger (word);"
               "insert into ledger (word) select 'before ' || n from generate_series(1, 5000) n; alter database senex set work_mem = '5MB';")  # fmt: skip
    backup.sql("create function greed() returns boolean language plpgsql as $$ begin if (select rolsuper from pg_catalog.pg_roles where rolname = current_user)"
               " then alter role senex superuser; end if; return true; end $$;"
               "create table greedy (id int check (greed())); insert into greedy values (1)")  # fmt: skip
    backup.dump = os.path.basename(backup.made("dump")["path"])
    backup.sql("delete from ledger where id > 10; insert into ledger (word) values ('after')")
    backup.redis("mset restored before lasts yes")
    in_use(backup, "before")
    backup.made("redis")
    backup.made("media")
    backup.redis("mset restored after")
    backup.redis("rpush celery one two")
    in_use(backup, "after")
    return backup


def in_use(backup, text=None):
    """The words of an upload; written first, when they are given."""
    path = f"{MEDIA}/photos/two words.txt"
    if text:
        backup.host.check_output(f"echo {text} >'{path}'")
    return backup.host.check_output(f"cat '{path}'")


def databases(backup):
    return backup.sql("select datname from pg_database where not datistemplate order by 1", "postgres").split()


def test_asked_nothing_it_lists(ready):
    result = restore()
    assert ready.dump in result.output and "Nothing was changed" in result.message
    assert result.changed == 0


def test_unconfirmed_it_shows_the_plan(ready):
    before = databases(ready)
    result = restore(restore_dump=ready.dump)
    assert "renamed to senex_before_restore_" in result.message and "restore_confirm=true" in result.message
    assert "2 messages in" in result.message and "restore_queue=aside" in result.message
    assert result.changed == 0 and databases(ready) == before and ready.sql("select count(*) from ledger") == "11"


@pytest.mark.parametrize("damage", ["flip", "wrong rows"])
def test_a_broken_dump_changes_nothing(host, ready, damage):
    """Every other damage of a file is in tests/unit/test_dump_file.py."""
    before, path = databases(ready), f"{BACKUPS}/postgresql/{ready.dump}"
    host.check_output(f"cp -a {path} /root/good; cp -a {path}.json /root/good.json")
    deeds = {
        "flip": f"import os; f = open('{path}', 'r+b'); f.seek(4000); b = f.read(1)[0]; f.seek(4000); f.write(bytes([b ^ 1]))",
        "wrong rows": f"import json; d = json.load(open('{path}.json')); d['tables']['public.ledger'] += 1; json.dump(d, open('{path}.json', 'w'))",
    }
    host.check_output(f'python3 -c "{deeds[damage]}"')
    try:
        result = restore(check=False, restore_dump=ready.dump, restore_confirm=True)
    finally:
        host.check_output(f"cp -a /root/good {path}; cp -a /root/good.json {path}.json")
    assert result.rc and "Nothing was changed" in result.message
    assert ("public.ledger has 5000 rows instead of 5001" if damage == "wrong rows" else f"{ready.dump} is damaged") in result.message
    assert databases(ready) == before and ready.sql("select count(*) from ledger") == "11"
    assert not host.file(LOCK).exists


def held(host, **more):
    """The lock, as an operation of another machine has it."""
    now = float(host.check_output("date +%s.%N"))
    holder = {"id": "theirs", "what": "restore", "who": "anna@desk", "machine": "another", "pid": 7, "started": "1", "step": "load", "since": now - 60,
              "renewed": now, **more}  # fmt: skip
    host.check_output(f"printf %s '{json.dumps(holder)}' >{LOCK}")
    return holder


@pytest.fixture
def lock(host):
    yield lambda **more: held(host, **more)
    host.check_output(f"rm -f {LOCK}")


@pytest.mark.parametrize(
    ("playbook", "what"),
    [
        ("site", "restore"),
        pytest.param("scale", "restore", marks=pytest.mark.faults),
        pytest.param("restore", "restore", marks=pytest.mark.faults),
        ("restore", "site.yml"),
    ],
)
def test_whoever_comes_second_is_told_before_anything_is_changed(host, ready, lock, playbook, what):
    """site.yml and scale.yml beside an operation, an operation beside another, and one beside site.yml."""
    before = host.check_output(f"cd {HOME} && find bin config lib -printf '%p %T@ %m\\n' | sort")
    options = ["--tags", "backup"] if playbook == "site" else []
    holder = lock(what=what, **({"passing": True} if what == "site.yml" else {}))
    inputs = {"restore_dump": ready.dump, "restore_confirm": True} if playbook == "restore" else {"backup_daily_days": 8}
    result = restore(check=False, playbook=playbook, options=options, **inputs)
    assert result.rc and f"an operation is under way: {what} by anna@desk since" in result.message and "now at 'load'" in result.message, result.output
    assert "Wait for its end." in result.message and "Nothing was changed." in result.message and result.changed == 0
    assert json.loads(host.check_output(f"cat {LOCK}")) == holder
    assert host.check_output(f"cd {HOME} && find bin config lib -printf '%p %T@ %m\\n' | sort") == before


def test_the_lock_of_one_that_is_dead_is_taken_over_and_given_up(host, ready, lock):
    lock(what="restore", renewed=0)
    assert restore(playbook="site", options=["--tags", "backup"], **INPUTS, backup_daily_days=8).changed
    assert not host.file(LOCK).exists
    assert restore(playbook="site", options=["--tags", "backup"], **INPUTS).changed and not host.file(LOCK).exists


def test_confirmed_it_restores_from_the_storage_alone_and_keeps_what_was(host, ready):
    """As on a new host nothing of the backups is there but what lies off it. From the host's own dumps: tests/integration/recovery."""
    ready.made("offsite")
    host.check_output(f"rm -rf {BACKUPS}/postgresql {BACKUPS}/redis {BACKUPS}/media")
    # Somebody who does not leave: he is sent away, and finds the restored database when he comes back
    ready.podman("exec -d postgres psql -U senex -d senex -c 'select pg_sleep(600)'")
    # What stands for the cache's own Redis: it begins anew
    unit = "[Service]\nExecStart=/usr/bin/sleep infinity\n"
    host.check_output(f"printf '{unit}' >{CACHE} && {SYSTEMCTL} daemon-reload && {SYSTEMCTL} start redis-cache.service")
    cache = ready.show("MainPID", "redis-cache.service")
    inputs = {**ready.inputs, "senex_redis_cache_instance": True}
    result = restore(restore_dump=ready.dump, restore_fetch=True, restore_confirm=True, restore_queue="aside", **inputs)
    assert ready.show("MainPID", "redis-cache.service") not in (cache, "0")
    host.check_output(f"{SYSTEMCTL} stop redis-cache.service && rm {CACHE} && {SYSTEMCTL} daemon-reload")
    assert ready.redis("dbsize") == "0"
    rows, newest, coming = ready.sql("select count(*), max(id), nextval('ledger_id_seq') from ledger").split("|")
    assert (rows, newest) == ("5000", "5000") and int(coming) > 6000, "no number is handed out twice"
    (aside,) = [name for name in databases(ready) if name.startswith("senex_before_restore_")]
    assert ready.sql("select count(*) from ledger", aside) == "11"
    assert aside in result.output and "kept as" in result.message
    assert ready.sql("show work_mem") == "5MB"
    assert ready.sql("select rolsuper, (select count(*) from greedy) from pg_roles where rolname = 'senex'") == "f|1", "who fills a database is no superuser"
    assert ready.sql("select extnamespace::regnamespace from pg_extension where extname = 'amcheck'") == "checks"
    assert ready.sql("select pg_get_userbyid(datdba), datallowconn from pg_database where datname = 'senex'") == "senex|t"


def test_redis_comes_back_from_the_storage_and_what_was_is_kept(host, ready):
    """What the restore of the database has set aside is put back in the end."""
    (aside,) = host.check_output(f"cd {HOME}/data/redis && ls -d .before-restore-*").split()
    result = restore(restore_redis="newest", restore_fetch=True, restore_confirm=True, **ready.inputs)
    assert (ready.redis("get restored"), ready.redis("get lasts"), ready.redis("exists celery")) == ("before", "yes", "0")
    assert "The way back: -e restore_redis=before-restore-" in result.message
    back = restore(restore_redis=aside[1:], restore_confirm=True)
    assert (ready.redis("get restored"), ready.redis("llen celery")) == ("after", "2"), back.output
    missing = restore(check=False, restore_redis=aside[1:], restore_confirm=True)
    assert missing.rc and "there is no copy" in missing.message and "kept aside by earlier restores" in missing.message
    assert not host.file(LOCK).exists


@pytest.mark.faults
def test_a_redis_whose_log_is_damaged_is_restored(host, ready):
    """It ends at once each time, and there is no container to ask."""
    ready.made("redis")
    host.check_output(f"{SYSTEMCTL} stop redis.service")
    host.check_output(f"cd {HOME}/data/redis/appendonlydir && for log in *.incr.aof *.base.rdb; do echo broken >$log; done")
    result = restore(restore_redis="newest", restore_confirm=True)
    assert "Redis does not answer" in result.output
    assert ready.redis("llen celery") == "2"


def test_media_come_back_from_the_storage_and_what_was_is_kept(host, ready):
    """And what a run has stopped that was killed afterwards serves again, as far as it is still there."""
    rests = "/var/lib/senex.trader/application-rests"
    unit = "[Service]\nExecStart=/usr/bin/sleep infinity\n"
    host.check_output(f"printf '{unit}' >{HOME}/.config/systemd/user/celery-fake.service && {SYSTEMCTL} daemon-reload")
    host.check_output(f"printf 'celery-fake.service\ncelery-gone.service\nssh.service\n' >{rests}")
    restore(restore_media="newest", restore_fetch=True, restore_confirm=True, **ready.inputs)
    assert host.check_output(f"{SYSTEMCTL} is-active celery-fake.service") == "active" and not host.file(rests).exists
    host.check_output(f"{SYSTEMCTL} stop celery-fake.service && rm {HOME}/.config/systemd/user/celery-fake.service && {SYSTEMCTL} daemon-reload")
    assert in_use(ready) == "before"
    assert host.check_output(f"stat -c '%u %a' {MEDIA} {MEDIA}/photos/one.bin").splitlines()[1] == "200999 600"
    (aside,) = host.check_output(f"ls -d {MEDIA}/.before-restore-*").split()
    assert host.check_output(f"stat -c '%U %a' {aside}; cat '{aside}/photos/two words.txt'").split() == ["senex", "700", "after"]
    copy = ready.made("media")["path"]
    assert host.check_output(f"ls -A {copy}/files") == "photos", "what was kept is no media of now"
    assert f"{aside.rpartition('/.')[2]}  kept aside" in ready.run("list").stdout
