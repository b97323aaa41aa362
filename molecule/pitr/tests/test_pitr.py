"""The archive as somebody sees it who needs it. The order matters: the later tests lose the data that the earlier ones made."""

import json
import time

import pytest
from conftest import ARCHIVE, DATA
from parts import FICKLE, HOME, RUN, apply, eventually

FLIP = "data[{at}] ^= 0x01"
# Most of a segment may be zeros, and then most flips of its compressed form change nothing of what is in it: one that does
FLIP_WAL = """
import gzip, zlib
whole = gzip.decompress(bytes(data))
for at in range(len(data) // 2, len(data)):
    data[at] ^= 0x01
    try:
        if gzip.decompress(bytes(data)) != whole:
            break
    except (OSError, EOFError, zlib.error):
        break
    data[at] ^= 0x01
"""


def test_first_base_backup_comes_by_itself(archive):
    """The hour of its timer is never; what files WAL away sees that there is none."""
    assert archive.show("LastTriggerUSec", "pitr-base.timer") == "" and archive.show("ActiveState", "pitr-wal.timer") == "active"
    archive.begin("pitr-wal")  # as its timer does within a minute
    status = eventually(lambda: archive.status("base")["result"] != "never" and archive.status("base"), 120)
    assert (status["result"], status["error"]) == ("ok", None)
    listed = json.loads(archive.pitr("list --json").stdout)
    assert [one["id"] for one in listed["base_backups"]] == [status["what"]]
    assert listed["cluster"] == archive.sql("select system_identifier from pg_control_system()")
    assert eventually(lambda: archive.show("ActiveState", "pitr-base.service") == "inactive")
    assert archive.status("drill")["result"] == "never"
    assert oct(archive.host.file(f"{HOME}/backups/status/base.json").mode) == "0o600"


def test_the_cron_job_of_the_package_does_not_run(archive):
    """It would start Barman each minute, for a configuration that is not this archive's."""
    said = archive.host.check_output("cat /etc/cron.d/barman")
    assert "/usr/bin/barman" in said and not [line for line in said.splitlines() if "/usr/bin/barman" in line and not line.startswith("#")]


def test_nobody_but_the_service_user_reaches_the_socket(archive):
    words = f"psql -X -w -A -t -h {HOME}/run/postgresql -U barman -c 'select current_user' postgres"
    assert archive.host.check_output(f"{RUN} {words}") == "barman"
    for other in ("nobody", "root"):
        refused = archive.host.run(f"runuser -u {other} -- {words}")
        assert refused.rc, other
        assert "Permission denied" in refused.stderr or "Peer authentication failed" in refused.stderr
    assert archive.sql("select count(*) from pg_authid where rolname = 'barman' and rolpassword is null and not rolsuper") == "1"


def test_base_backup_under_its_timer(archive):
    archive.do("stop", "writer.service")
    archive.fill()
    first = archive.status("base")["what"]
    left = f"{first[:8]}T235959"  # one that was killed, as Barman has it
    copied = f"cp -a base/{first} base/{left}; test ! -e meta/{first}-backup.info || cp -a meta/{first}-backup.info meta/{left}-backup.info"
    archive.host.check_output(f"cd {ARCHIVE} && {copied}; sed -i 's/^status=.*/status=STARTED/' base/{left}/backup.info meta/{left}-backup.info; true")
    assert archive.fire("pitr-base") == "success"
    assert left not in archive.host.check_output(f"ls {ARCHIVE}/base {ARCHIVE}/meta 2>&1")
    status = archive.status("base")
    assert status["what"] > first
    assert (status["result"], status["error"]) == ("ok", None)
    assert status["bytes"] > 20_000_000
    listed = json.loads(archive.pitr("list --json").stdout)["base_backups"]
    assert listed[-1]["id"] == status["what"]
    assert archive.pitr("check").rc == 0, archive.pitr("check").stderr


def test_not_twice_at_once(archive):
    result = archive.host.run(f"{RUN} flock {HOME}/backups/status/.base.lock {HOME}/bin/pitr base --wait 1")
    assert result.rc == 1
    assert "base is running already" in result.stderr
    assert archive.status("base")["result"] == "ok"
    result = archive.host.run(f"{RUN} flock {HOME}/backups/status/.drill.lock {HOME}/bin/pitr drill")
    assert result.rc == 1
    assert "drill is running already" in result.stderr


def test_restore_asks_before_it_acts(archive):
    started = archive.started
    result = archive.restore("latest", confirm=False)
    assert result.rc == 0
    assert "Nothing was changed. To carry it out: -e restore_confirm=true" in result.message
    assert archive.status("base")["what"] in result.message
    assert archive.started == started


@pytest.mark.parametrize(
    ("to", "words"),
    [("yesterday", "write latest, or a time"), ("2026-01-01 12:00:00", "say which time zone"), ("2099-01-01 12:00:00+00", "lies in the future"),
     ("2020-01-01 12:00:00+00", "the oldest base backup was complete at")],
)  # fmt: skip
def test_moments_that_cannot_be(archive, to, words):
    result = archive.pitr(f"plan --to '{to}'")
    assert result.rc == 1
    assert words in result.stderr


def test_dropped_table_comes_back(archive):
    """Everything that was committed before the moment is there, and nothing of later."""
    archive.write()
    eventually(lambda: len(archive.acknowledged()) > 30)
    moment = float(archive.host.check_output("date +%s.%N"))
    text = archive.host.check_output(f"date -u -d @{moment:.6f} '+%Y-%m-%d %H:%M:%S.%6N+00'")
    time.sleep(1)  # the second before
    archive.sql("drop table orders")
    count = len(archive.acknowledged())
    eventually(lambda: len(archive.acknowledged()) > count + 5)
    result = archive.restore(text)
    assert result.rc == 0, result.output
    acknowledged, there = archive.acknowledged(), archive.rows()
    assert {number for number, at in acknowledged if at <= moment - 0.2} <= there
    assert not {number for number, at in acknowledged if at > moment} & there
    # What was handed out since the moment is not handed out again
    assert int(archive.sql("select last_value from ticks_id_seq")) >= max(number for number, _ in acknowledged)
    assert archive.sql("select count(*) from orders") == "20000"
    aside = archive.newest(f"{DATA}.before-restore-*")
    assert aside in result.message
    assert archive.host.check_output(f"stat -c %u {aside}/PG_VERSION") == "200998"
    assert archive.pitr("check").rc == 0, archive.pitr("check").stderr
    print(f"{len(there)} rows there, {len(acknowledged)} acknowledged")


def test_a_second_restore_from_one_base_backup_and_the_way_back_from_it(archive):
    """It was the wrong moment: another one is tried, and undone. Each history has its number, and the newest is the one that runs."""
    timeline = "select substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)::int"
    assert archive.sql(timeline) == "2"
    listed = json.loads(archive.pitr("list --json").stdout)["base_backups"]
    # Between the two base backups that there were before the first restore
    done = archive.pitr(f"restore --to latest --base {listed[1]['id']}")
    assert done.rc == 0 and '"timeline": 3' in done.stdout, done.stdout + done.stderr
    # Received and not filed away yet: the receiver must not go on from it, for the timeline that comes does not know it
    archive.do("stop", "pitr-wal.timer")
    archive.sql("insert into ticks default values; select pg_switch_wal()")
    eventually(lambda: archive.host.run(f"ls {ARCHIVE}/streaming | grep -Ex '[0-9A-F]{{24}}'").rc == 0)
    result = archive.pitr(f"exchange {DATA}.restored")
    archive.do("start", "pitr-wal.timer")
    assert result.rc == 0, result.stderr
    assert archive.sql(timeline) == "3"
    # On that one the table was dropped: its end is later than that
    archive.sql("create table discarded (); select pg_switch_wal()")
    eventually(lambda: archive.pitr("wal").rc == 0, 90)
    assert archive.pitr(f"undo {result.stdout.strip()}").rc == 0
    assert archive.sql(timeline) == "2"
    archive.sql("insert into orders values (20500, 'after the way back')")
    eventually(lambda: archive.pitr("wal").rc == 0, 120)
    assert archive.host.run(f"ls -A {ARCHIVE}/errors").stdout == ""
    plan = archive.pitr("plan --to latest")
    assert plan.rc == 0 and "timeline 2" in plan.stdout, plan.stdout + plan.stderr
    # The base backup of each timeline comes by itself
    eventually(lambda: archive.status("base")["result"] == "ok" and archive.status("base")["timeline"] == 2, 180)
    eventually(lambda: archive.show("ActiveState", "pitr-base.service") == "inactive")
    assert archive.pitr("check").rc == 0, archive.pitr("check").stderr
    archive.sql("delete from orders where id = 20500")


def test_receiver_goes_on_when_killed_and_when_the_database_restarts(archive):
    """A look in the seconds in which it is on its way is no alarm."""
    archive.host.check_output("pkill -9 -u senex -x pg_receivewal")
    assert archive.pitr("wal").rc == 0
    archive.systemctl("restart")
    result = archive.pitr("wal")
    assert result.rc == 0, result.stderr
    archive.sql("insert into orders values (20001, 'after')")
    status = eventually(lambda: archive.pitr("wal").rc == 0 and archive.status("wal"), 60)
    assert (status["result"], status["bytes"]) == ("ok", 0)


def test_dead_receiver_is_told(archive):
    archive.do("stop", "pitr-receive.service")
    result = archive.pitr("wal")
    assert result.rc == 1
    assert "nothing receives WAL" in result.stderr
    assert "nothing receives WAL" in archive.status("wal")["error"]
    archive.do("start", "pitr-receive.service")
    eventually(lambda: archive.pitr("wal").rc == 0)


def test_damage_is_found_and_named(archive):
    """Each kind, by what reads the whole archive and by a restore that then leaves nothing behind."""
    fill = "insert into orders select g, repeat('x', 100) from generate_series(1, 1000) g"
    segment = archive.sql(f"{fill}; select pg_walfile_name(pg_current_wal_lsn()); select pg_switch_wal()").splitlines()[0]
    archive.sql(f"{fill}")
    base = archive.status("base")["what"]
    wal = f"{ARCHIVE}/wals/{segment[:16]}/{segment}"
    eventually(lambda: archive.pitr("wal").rc == 0 and archive.host.file(wal).exists, 60)
    table = archive.host.check_output(f"find {ARCHIVE}/base/{base}/data/base -type f -size +1M | sort | tail -n 1")
    partial = archive.newest(f"{ARCHIVE}/streaming/*.partial")
    foreign = "import gzip; raw = bytearray(gzip.decompress(data)); raw[24] ^= 1; data = gzip.compress(bytes(raw), 1)"
    kinds = [
        (table, FLIP.format(at=5000), f"base backup {base} is damaged"),
        (wal, FLIP_WAL, "is damaged"),
        (wal, "p.unlink(); data = None", "is missing"),
        (wal, foreign, "is of another cluster"),
        (wal, "data = data[:1000]", "is damaged"),
        (partial, FLIP.format(at=20000), "is damaged at"),
    ]
    for path, how, words in kinds:
        with archive.damaged(path, how):
            outcomes = [archive.pitr("restore --to latest")]
            if how == FLIP_WAL or path == table:
                outcomes.append(archive.pitr("verify"))
        for outcome in outcomes:
            assert outcome.rc == 1, (path, how, outcome.stdout)
            assert words in outcome.stderr
            assert path.removeprefix(f"{ARCHIVE}/base/{base}/data/").removesuffix(".partial") in outcome.stderr
        assert not archive.host.file(f"{DATA}.restored").exists
    assert archive.pitr("verify").rc == 0


def test_index_out_of_order_is_refused_by_a_restore(archive):
    """As after a change of a collation: every checksum is right, and what is in the index is not where it would be looked for."""
    archive.sql(FICKLE)
    state = "select system_identifier, timeline_id from pg_control_system(), pg_control_checkpoint()"
    before = archive.sql(state), archive.host.check_output(f"ls {DATA}/..")
    try:
        result = archive.restore("latest")
        assert result.rc
        assert "amcheck found damage" in result.message and "fickle_index" in result.message
        assert "The data is what it was." in result.message
        assert (archive.sql(state), archive.host.check_output(f"ls {DATA}/..")) == before
        assert archive.sql("select count(*) from fickle") == "5000"
    finally:
        archive.sql("drop table fickle; drop operator class upside using btree; drop function compared")
        # The receiver stood still while a restore was tried, and the next drill must not find what was there then
        archive.is_received()


def test_drill_under_its_timer(archive):
    assert archive.fire("pitr-drill") == "success"
    status = archive.status("drill")
    assert (status["result"], status["source"]) == ("ok", "archive")
    assert status["rows"] >= 20000
    assert 0 < status["rto_seconds"] < 120
    assert status["rpo_seconds"] is not None
    assert archive.host.check_output(f"ls -A {HOME}/backups/drill") == ""
    assert "pitr-drill" not in archive.podman("ps -a --format '{{.Names}}'").split()


def test_failing_drill_is_told_and_leaves_nothing(archive):
    base = archive.status("base")["what"]
    since = archive.now()
    with archive.damaged(f"{ARCHIVE}/base/{base}/data/global/pg_control", FLIP.format(at=100)):
        done = archive.do("start", "pitr-drill.service")
    assert done.rc
    status = archive.status("drill")
    assert status["result"] == "failed"
    assert "pg_control" in status["error"]
    told = eventually(lambda: archive.host.check_output(f"journalctl --no-pager -q -p err -t pitr-failed --since=@{since}"))
    assert "pitr-drill.service failed" in told
    assert archive.host.check_output(f"ls -A {HOME}/backups/drill") == ""


def test_drill_from_the_bucket_alone(archive, bucket):
    """In its turn, and whatever has become of the archive on the host."""
    base = archive.status("base")["what"]
    with archive.damaged(f"{ARCHIVE}/base/{base}/data/global/pg_control", FLIP.format(at=100)):
        assert archive.fire("pitr-drill") == "success", archive.status("drill")
    status = archive.status("drill")
    assert (status["result"], status["source"], status["what"]) == ("ok", "bucket", base)
    assert status["rows"] >= 20000 and status["rto_seconds"] > 0 and status["rpo_seconds"] is not None
    assert {name: one["result"] for name, one in status["sources"].items()} == {"archive": "failed", "bucket": "ok"}
    assert [(one["source"], one["result"]) for one in status["history"]] == [("archive", "ok"), ("archive", "failed"), ("bucket", "ok")]
    told = archive.pitr("drills").stdout
    assert "from the bucket alone: " in told and "proved" in told and "failed" in told
    assert archive.host.check_output(f"ls -A {HOME}/backups/drill") == ""


@pytest.mark.faults
def test_a_bucket_that_cannot_be_tried_is_no_failure_and_one_without_a_copy_is(archive, proved):
    since, settings = archive.now(), f"{HOME}/config/backup/settings.json"
    archive.host.check_output(
        "nft add table ip away; nft add chain ip away out '{ type filter hook output priority 0; }';"
        " nft add rule ip away out ip daddr 127.0.0.1 tcp dport 9000 reject with tcp reset"
    )
    try:
        assert archive.pitr("drill --from bucket").rc == 75
        archive.host.check_output(f'sed -i \'s/"source": "bucket"/"source": "archive"/\' {HOME}/backups/status/drill.json')  # its turn
        assert archive.do("start", "pitr-drill.service").rc == 0
    finally:
        archive.host.check_output("nft delete table ip away")
    status = archive.status("drill")
    assert (status["result"], status["source"]) == ("unverified", "bucket") and "cannot be reached" in status["error"]
    assert status["sources"]["bucket"]["proved"]
    assert archive.host.check_output(f"journalctl --no-pager -q -p err -t pitr-failed --since=@{since}") == ""
    archive.host.check_output(f'cp -a {settings} /root/; sed -i \'s/"host": "molecule"/"host": "elsewhere"/\' {settings}')
    try:
        done = archive.pitr("drill --from bucket")
    finally:
        archive.host.check_output(f"cp -a /root/settings.json {settings}")
    assert done.rc == 1 and "holds no copy of elsewhere" in done.stderr
    assert archive.status("drill")["result"] == "failed"
    for source in ("bucket", "archive"):
        assert archive.pitr(f"drill --from {source}").rc == 0


@pytest.mark.faults
def test_drill_of_a_dump(archive, bucket):
    """In its turn, under the timer's limits, on a server that knows none of the dump's roles: the restore's own steps, and what they compare."""
    archive.sql("insert into ticks default values; create role reports login password 'words-of-nobody' connection limit 3; create role clerk in role reports")
    archive.sql("grant select on ticks to reports; grant connect on database senex to clerk; comment on database senex is 'orders'; "
                "alter role reports in database senex set statement_timeout = '5s'; select lo_from_bytea(4711, 'a picture')")  # fmt: skip
    made = json.loads(archive.host.check_output(f"{RUN} {HOME}/bin/backup dump --json").splitlines()[-1])["path"]
    assert "SCRAM" not in archive.host.check_output(f"cat {made}.json")
    archive.host.check_output(f'sed -i \'s/"source": "archive"/"source": "bucket"/\' {HOME}/backups/status/drill.json')
    assert archive.fire("pitr-drill") == "success", archive.status("drill")
    status = archive.status("drill")
    assert (status["result"], status["source"], status["what"]) == ("ok", "dump", made.rpartition("/")[2])
    said = ", ".join(status["checked"])
    assert "9 bytes in large objects" in said and "grants on tables" in said and "roles made anew" in said and "clerk" in said and "amcheck" in said
    assert status["rows"] >= 20000 and 0 < status["rto_seconds"] < 120 and 0 <= status["rpo_seconds"] < 600
    assert set(status["sources"]) == {"archive", "bucket", "dump"} and "from the newest dump: " in archive.pitr("drills").stdout
    assert archive.host.check_output(f"ls -A {HOME}/backups/drill") == "" and "pitr-drill" not in archive.podman("ps -a --format '{{.Names}}'").split()
    assert archive.sql("select count(*) from pg_database where datname like 'senex%'", "postgres") == "1", "nothing of it was in the server in production"
    archive.host.check_output(f'sed -i \'s/"large objects": 1/"large objects": 2/\' {made}.json')
    done = archive.pitr("drill --from dump")
    assert done.rc == 1 and "is not what was dumped: large objects: 1 instead of 2" in done.stderr
    status = archive.status("drill")
    assert (status["result"], status["sources"]["dump"]["result"], status["sources"]["archive"]["result"]) == ("failed", "failed", "ok")
    assert status["sources"]["dump"]["proved"] and archive.host.check_output(f"ls -A {HOME}/backups/drill") == ""
    archive.host.check_output(f"rm {made}*")
    archive.sql("select lo_unlink(4711); drop owned by reports, clerk; drop role clerk; drop role reports")


@pytest.mark.faults
def test_lost_disk_comes_back_from_the_archive_alone(archive, filled):
    """The disk is gone while rows are written, and an empty one takes its place, on which nothing starts by itself. Where somebody lets it begin anew
    all the same there is a new cluster, whose WAL must not get into the archive."""
    orders = archive.sql("select count(*) from orders")
    archive.write()
    eventually(lambda: len(archive.acknowledged()) > 50)
    archive.host.check_output(f"mv {DATA} {DATA}.lost && install -d -o 200998 -g 200998 -m 0700 {DATA} && kill -9 {archive.pid}")
    eventually(lambda: "mount its disk" in archive.host.check_output("journalctl --no-pager -q -n 60 _UID=987 + CONTAINER_NAME=postgres"), 60)
    assert archive.host.check_output(f"ls -A {DATA}") == ""
    archive.host.check_output(f"rm {HOME}/config/postgresql/cluster")  # as postgresql_new_cluster=true does
    eventually(lambda: archive.host.file(f"{DATA}/PG_VERSION").exists and archive.script("pg_isready -q -h 127.0.0.1").rc == 0, 60)
    # As the next run of the role would make them
    archive.sql("create role barman login replication", "postgres")
    archive.sql("create database senex", "postgres")
    assert eventually(lambda: "is the archive of cluster" in archive.host.check_output("journalctl --no-pager -q -n 60 -t pitr-receive -t pitr"), 30)
    result = archive.restore("latest")
    assert result.rc == 0, result.output
    acknowledged, there = archive.acknowledged(), archive.rows()
    lost = [at for number, at in acknowledged if number not in there]
    print(f"{len(lost)} of {len(acknowledged)} acknowledged rows lost, {max(lost) - min(lost) if lost else 0:.1f} s of writes")
    assert len(lost) <= 100
    assert archive.sql("select count(*) from orders") == orders
    assert archive.pitr("check").rc == 0, archive.pitr("check").stderr


@pytest.mark.faults
def test_undo_puts_kept_data_back(archive):
    """What was kept aside last is the empty cluster that took the lost one's place."""
    orders = archive.sql("select count(*) from orders")
    aside = archive.newest(f"{DATA}.before-restore-*")
    result = archive.pitr(f"undo {aside}")
    assert result.rc == 0, result.stderr
    assert archive.sql("select to_regclass('orders') is null") == "t"
    assert archive.pitr(f"undo {result.stdout.strip()}").rc == 0
    assert archive.sql("select count(*) from orders") == orders


def test_absent_keeps_the_archive(archive):
    apply({"pitr_state": "absent"})
    assert archive.host.run("pgrep -u senex pg_receivewal").rc
    assert not archive.host.file(f"{HOME}/bin/pitr").exists
    assert archive.host.check_output(f"ls {ARCHIVE}/base")
    assert archive.sql("select count(*) from pg_replication_slots") == "0"
