"""Every check and every signature: a reading of something broken, one of something whole, and what is said of each."""

import json
import sys
import time

import pytest
import sentences
from ansible_collections.senex.trader.plugins.plugin_utils import components
from watched import GOOD, SETTINGS, Fake, host, settings

from senex_host import host_layout  # isort: skip
from senex_ops import availability, checks, checks_backups, checks_certificates, checks_containers, checks_database, checks_host, checks_pooler  # isort: skip
from senex_ops import checks_redis, checks_release, checks_site, checks_web, doctor, remediation, status  # isort: skip
from senex_ops.findings import FAIL, OK, WARN, Check, age, size  # isort: skip

NOW = 1_800_000_000.0
DAY = 86_400
ROWS = [["connections", "7", "100"]]
INFO = {"used_memory": "1000", "maxmemory": "100000", "maxmemory_policy": "volatile-lru", "evicted_keys": "0", "rdb_last_bgsave_status": "ok"}
DISK = {"used": 10.0, "inodes": 1.0, "free": 10**9}
ACCOUNT = {"linger": True, "bus": True, "answers": True, "uid": 987, "subuid": "senex:200000:65536\n", "subgid": "senex:200000:65536\n"}
PODMAN = {"version": "podman version 5.4.2", "generator": True, "said": "", "code": 0, "ours": ["senex-network.network", "web-1.container"]}
# What the generators of 4.9 and 5.4 say of directories that are not there and of units that others have put there
NOT_OURS = """quadlet-generator[9]: Error occurred resolving path "/etc/containers/systemd/users/987": lstat /etc/containers/systemd: no such file or directory
quadlet-generator[9]: Loading source unit file /opt/senex-trader/.config/containers/systemd/web-1.container
quadlet-generator[9]: converting "not-web-1.container": unsupported key 'Memory' in group 'Container' in /etc/containers/systemd/users/not-web-1.container
quadlet-generator[9]: processing encountered some errors
"""
TORN = 'quadlet-generator[9]: error loading "/opt/senex-trader/.config/containers/systemd/senex-network.network", file contains line 3: “x”\n'
IMAGE = {"image": "registry/x:1", "here": True, "code": 0, "said": "", "listed": True}
WATCHED = {"state": "active", "said": {"at": NOW, "waiting": {}, "restarts": {}}}


def units(**states):
    given = settings()
    whole = {name: {"ActiveState": "active", "SubState": "running", "LoadState": "loaded"} for name in given.user_units + given.system_units}
    return {"user": {**whole, **states}, "system": {**whole, **states}, "failed": [], "uptime": 1000.0}


def backup(**changes):
    return [{"job": "dump", "result": "ok", "finished": "2027-01-15T07:00:00+00:00", "max_age_seconds": 90_000, "bytes": 5, **changes}]


def pooler(paused="no", **changes):
    own = {"database": "pgbouncer", "cl_active": "1", "cl_waiting": "0", "sv_active": "0", "sv_idle": "0", "sv_used": "0", "maxwait": "9"}
    pool = {**own, "database": "senex", "cl_active": "3", "sv_active": "2", "sv_idle": "1", "maxwait": "0", **changes}
    return {"pools": [own, pool], "state": [{"key": "active", "value": "yes"}, {"key": "paused", "value": paused}]}


EVERY_JOB = components.every_job()


@pytest.mark.parametrize(
    ("groups", "gone"),
    [
        (["postgresql", "redis", "web", "backup"], set()),
        (["redis", "web", "backup"], {"dump", "offsite-wal", "base", "wal", "drill"}),
        (["postgresql", "web", "backup"], {"redis"}),
        (["postgresql", "redis", "backup"], {"media"}),
    ],
)
def test_jobs_of_what_a_host_has_no_more_are_not_missed(tmp_path, groups, gone):
    """The database went to a provider: its last dump and drill would be too old for ever. A job that still has its timer is judged."""
    for job in EVERY_JOB:
        written = tmp_path / host_layout.STATUS / f"{job}.json"
        written.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(json.dumps({"result": "ok", "finished": RECENT, "max_age_seconds": 60}))
    # Of components that not every environment has the host has all
    more = [group for one in components.registry().values() if one.jobs for group in one.groups if group not in ("postgresql", "redis", "web")]
    given = settings(home=str(tmp_path), jobs_of_others=components.jobs_of_others([*groups, *more]))
    seen = checks_backups.read_backups(None, given)
    assert {one["job"] for one in seen} == set(EVERY_JOB) - gone
    assert {one.level for one in checks_backups.judge_backups(seen, given, NOW)} == {FAIL}
    timers = tmp_path / ".config/systemd/user"
    timers.mkdir(parents=True)
    for job in EVERY_JOB:
        (timers / host_layout.job_unit(job, "timer")).write_text("[Timer]\n")
    assert {one["job"] for one in checks_backups.read_backups(None, given)} == set(EVERY_JOB)


def drill(**sources):
    """A drill that went well an hour ago, and what is known of each source: how it went, when it was proved, what the good ones took."""
    known = {name: {"result": result, "error": "the reason", "proved": proved, "seconds": seconds} for name, (result, proved, *seconds) in sources.items()}
    return [{"job": "drill", "result": "ok", "finished": "2027-01-15T07:00:00+00:00", "max_age_seconds": 700_000, "bytes": 5, "drills": known}]


RECENT, OLD = "2027-01-15T07:00:00+00:00", "2026-12-01T07:00:00+00:00"


def redis(queues=None, overdue=0, waiting=(), **changes):
    return {"info": {**INFO, **changes}, "queues": queues or {"celery": 0}, "overdue": overdue, "waiting": list(waiting)}


def waits(eta, handed=NOW - 3600):
    """A task that a worker took, as Redis' script tells of it."""
    return [f"{handed:.6f}", eta, "accounts.remind"]


def life(days, left):
    return {"x.crt": [NOW + (left - days) * DAY, NOW + left * DAY]}


def theirs(trouble):
    return [{"what": "database", "server": "db.acme.io:5432", "says": "its backups are theirs", "trouble": trouble}]


LOCK = {"what": "deploy of 2", "who": "ann", "step": "web", "since": NOW - 60, "renewed": NOW - 60}
TABLE = [
    (checks_web.judge_web, {"web-1.service": GOOD}, OK, "alive"),
    (checks_web.judge_web, {"web-1.service": host.Answer(0, "no answer within 4 s")}, FAIL, "no answer within 4 s"),
    (checks_web.judge_web, {"web-1.service": host.Answer(400)}, FAIL, "ALLOWED_HOSTS"),
    (checks_web.judge_web, {"web-1.service": host.Answer(301, location="https://x/")}, FAIL, "SECURE_PROXY_SSL_HEADER"),
    (checks_web.judge_web, {"web-1.service": host.Answer(503)}, FAIL, "answers 503"),
    (checks_web.judge_ready, GOOD, OK, "/health/ answers 200 in 10 ms"),
    (checks_web.judge_ready, host.Answer(503, body='{"database": "OperationalError"}'), FAIL, "OperationalError"),
    (checks_web.judge_public, GOOD, OK, "https://www.example.com/health/simple/ answers"),
    (checks_web.judge_public, host.Answer(502), FAIL, "answers 502"),
    (checks_web.judge_public, host.Answer(0, "[Errno 111] Connection refused"), FAIL, "refused"),
    (checks_containers.judge_dns, {"container": "web-1", "code": 0, "said": "", "found": ["redis"]}, OK, "web-1 finds redis"),
    (checks_containers.judge_dns, {"container": "web-1", "code": 2, "said": "", "found": ["redis"]}, OK, "web-1 finds redis"),
    (checks_containers.judge_dns, {"container": "web-1", "code": 2, "said": "", "found": []}, FAIL, "none of postgres, redis, web-2"),
    (checks_web.judge_elsewhere, theirs(""), OK, "db.acme.io:5432, somebody else's server, takes connections; its backups are theirs"),
    (checks_web.judge_elsewhere, theirs("timed out"), FAIL, "takes no connection: timed out"),
    (checks_containers.judge_dns, {"container": "web-1", "code": 125, "said": "no such container", "found": []}, WARN, "no such container"),
    (checks_containers.judge_containers, [{"name": "redis", "state": "running", "status": "Up (healthy)"}], OK, "1 run"),
    (checks_containers.judge_containers, [{"name": "redis", "state": "running", "status": "Up 2 hours (unhealthy)"}], FAIL, "unhealthy"),
    (checks_containers.judge_containers, [{"name": "redis", "state": "exited", "status": "Exited (1)"}], FAIL, "Exited"),
    (checks_containers.judge_containers, [{"name": "redis", "state": "running", "status": "Up", "made": NOW - 86400 * 119}], OK, "119 d old"),
    (checks_containers.judge_containers, [{"name": "redis", "state": "running", "status": "Up", "made": NOW - 86400 * 121}], WARN, "minor releases have come"),
    (checks_containers.judge_containers, [{"name": "redis", "state": "exited", "status": "Exited (1)", "made": NOW - 60}], FAIL, "Exited"),
    (checks_containers.judge_outside, {"running": ["conmon", "slirp4netns"], "manager": "user@987.service"}, OK, "leads the containers out"),
    (checks_containers.judge_outside, {"running": [], "manager": "user@987.service"}, OK, ""),
    (checks_containers.judge_outside, {"running": ["conmon"], "manager": "user@987.service"}, FAIL, "slirp4netns has ended"),
    (checks_database.judge_database, ROWS, OK, "7 of 100 connections"),
    (checks_database.judge_database, [["connections", "95", "100"]], WARN, "95 of 100"),
    (checks_database.judge_database, [["connections", "5", "100", "15.20 (Debian 15.20-0+deb12u1)"]], OK, "PostgreSQL 15.20 answers, 5 of 100"),
    (checks_database.judge_database, [*ROWS, ["archiver", "0", "12", "false"]], OK, ""),
    (checks_database.judge_database, [*ROWS, ["archiver", "9", "12", "true"]], FAIL, "archiving fails (9 times)"),
    (checks_database.judge_database, [*ROWS, ["archiver", "0", "9000", "false"]], FAIL, "last done 2 h ago"),
    (checks_database.judge_database, [*ROWS, ["slot", "barman", "true", "1000"]], OK, "is read"),
    (checks_database.judge_database, [*ROWS, ["slot", "barman", "false", "500000000"]], FAIL, "read by nobody and keeps 500 MB"),
    (checks_database.judge_database, [*ROWS, ["slot", "barman", "true", "9000000000"]], FAIL, "keeps 9 GB"),
    (checks_database.judge_database, [*ROWS, ["cluster", "7300", "on", "0"]], OK, "7300, data checksums on"),
    (checks_database.judge_database, [*ROWS, ["cluster", "7300", "on", "2"]], FAIL, "2 pages were read whose checksum is wrong"),
    (checks_database.judge_database, [*ROWS, ["standby", "replica", "2"]], OK, ""),
    (checks_database.judge_database, [*ROWS, ["standby", "replica", "900"]], WARN, "15 min behind"),
    (checks_database.judge_database, [*ROWS, ["lock", "42", "idle in transaction", "3", "90"]], WARN, "42 (idle in transaction) holds up 3 others"),
    (checks_database.judge_beat, {"silent": "20", "shortest": "10", "up": 9999}, OK, "20 s ago"),
    (checks_database.judge_beat, {"silent": "2000", "shortest": "10", "up": 9999}, FAIL, "nothing for 33 min"),
    (checks_database.judge_beat, {"silent": "2000", "shortest": "3600", "up": 9999}, OK, ""),
    (checks_database.judge_beat, {"silent": "2000", "shortest": "10", "up": 30}, OK, ""),
    (checks_database.judge_beat, {}, OK, "no schedule"),
    (checks_database.judge_beat, {"silent": "", "shortest": "", "up": 9999}, OK, "not sent anything yet"),
    (availability.judge_monitoring, {"errors": 0.0005, "alerts": []}, OK, "99.95 % in 30 days, the objective is 99.9 %; 50 % of the error budget are left"),
    (availability.judge_monitoring, {"errors": 0.002, "alerts": []}, WARN, "99.80 % in 30 days, the objective is 99.9 %; 0 % of the error budget are left"),
    (availability.judge_monitoring, {"errors": None, "alerts": []}, OK, "not known yet"),
    (availability.judge_monitoring, {"errors": 0.0, "alerts": ["DiskFull", "SiteDown"]}, WARN, "Prometheus has these: DiskFull, SiteDown"),
    (checks_pooler.judge_pooler, {"silent": "pgbouncer: no such file"}, FAIL, "does not answer: pgbouncer: no such file"),
    (checks_pooler.judge_pooler, pooler(paused="yes"), FAIL, "is paused, so the application waits"),
    (checks_pooler.judge_pooler, pooler(cl_waiting="40", maxwait="7"), WARN, "40 clients wait for a connection to the database, the longest for 7 s"),
    (checks_pooler.judge_pooler, pooler(cl_waiting="40", maxwait="4"), OK, "43 clients on 3 connections"),
    (checks_redis.judge_redis, {"damaged": "appendonly.aof.1.incr.aof"}, FAIL, "cannot start, for a file is damaged: appendonly.aof.1.incr.aof"),
    (checks_redis.judge_redis, redis(overdue=3), WARN, "3 were handed out more than 12 h ago"),
    (checks_redis.judge_redis, redis(waiting=[waits("2027-01-20T08:00:00+00:00")]), WARN, "remind: due later than senex_celery_visibility_timeout (12 h)"),
    (checks_redis.judge_redis, redis(waiting=[waits("2027-01-15T08:30:00+00:00"), waits("soon")]), OK, "answers"),
    (checks_redis.judge_redis, redis(), OK, "answers"),
    (checks_redis.judge_redis, redis(evicted_keys="5"), WARN, "evicted 5 keys"),
    (checks_redis.judge_redis, redis(rdb_last_bgsave_status="err"), FAIL, "refuses writes"),
    (checks_redis.judge_redis, redis(used_memory="99000"), FAIL, "memory is full"),
    (checks_redis.judge_redis, redis(used_memory="99000", evicted_keys="9"), WARN, "evicts cache keys"),
    (checks_redis.judge_redis, redis({"celery": 0, "trading": 500}), WARN, "trading 500"),
    (checks_site.judge_errors, {"seen": 90, "own": {"502": 9}}, OK, "9 of 90"),
    (checks_site.judge_errors, {"seen": 90, "own": {"502": 9, "504": 2}}, WARN, "11 of 90"),
    (checks_site.judge_errors, {"seen": 20, "own": {"502": 11}}, FAIL, "11 of 20"),
    (checks_site.judge_server, {"daphne": "4.2.2"}, OK, "daphne 4.2.2"),
    (checks_site.judge_server, {"daphne": "4.2.1"}, WARN, "CVE-2026-44545"),
    (checks_site.judge_rotation, {}, OK, "0 of 0"),
    (checks_site.judge_rotation, {"closing": NOW - 3, "out": {}}, OK, ""),
    (checks_site.judge_rotation, {"closing": NOW - 7200, "out": {}}, WARN, "connections end since 2 h: a reload was cut off"),
    (checks_site.judge_rotation, {"flags": "/f", "servers": ["a:1", "a:2"], "out": {"a:1": NOW - 60}}, OK, "1 of 2 servers"),
    (checks_site.judge_rotation, {"flags": "/f", "servers": ["a:1", "a:2"], "out": {"a:1": NOW - 7200}}, WARN, "no requests since 2 h"),
    (checks_site.judge_rotation, {"flags": "/f", "servers": ["a:1", "a:2"], "out": {"a": NOW - 7200}}, FAIL, "no server is left"),
    (checks_host.judge_units, units(), OK, "5 run"),
    (checks_host.judge_units, units(**{"nginx.service": {"ActiveState": "active", "UnitFileState": "disabled"}}), WARN, "runs and is not enabled"),
    (checks_host.judge_units, units(**{"web-1.service": {"ActiveState": "active", "UnitFileState": "masked"}}), WARN, "runs and is masked"),
    (checks_host.judge_units, units(**{"web-1.service": {"ActiveState": "failed", "LoadState": "loaded", "Result": "oom-kill"}}), FAIL, "is failed (oom-kill)"),
    (checks_host.judge_units, units(**{"nginx.service": {"ActiveState": "inactive", "LoadState": "loaded"}}), FAIL, "is inactive"),
    (checks_host.judge_units, units(**{"web-1.service": {"LoadState": "not-found"}}), FAIL, "is not on this host"),
    (checks_host.judge_units, {**units(), "failed": [("system", "nightly.service")]}, FAIL, "failed"),
    (checks_host.judge_units, {**units(), "silent": {"user": "no answer"}}, FAIL, "its units cannot be read: no answer"),
    (
        checks_host.judge_units,
        units(**{"web-1.service": {"ActiveState": "activating", "SubState": "auto-restart", "InactiveExitTimestampMonotonic": "400000000"}}),
        WARN,
        "activating (auto-restart) for 10 min",
    ),
    (checks_host.judge_settings, [], OK, "in force"),
    (checks_host.judge_settings, [{"setting": "sshd MaxAuthTries", "says": "is 9, not 4", "origin": "x.conf sets it"}], WARN, "is 9, not 4; x.conf sets it"),
    (checks_host.judge_disk, {"/": DISK}, OK, "10 % full, 1 GB free"),
    (checks_host.judge_disk, {"/": {**DISK, "used": 85.0}}, WARN, "85 % full"),
    (checks_host.judge_disk, {"/": {**DISK, "used": 95.0}}, FAIL, "95 % full"),
    (checks_host.judge_disk, {"/": {**DISK, "inodes": 99.0}}, FAIL, "99 % out of inodes"),
    (checks_host.judge_disk, {"/x": "cannot be read: no answer"}, FAIL, "/x cannot be read"),
    (checks_host.judge_memory, {"MemTotal": 1000, "MemAvailable": 500}, OK, "50 %"),
    (checks_host.judge_memory, {"MemTotal": 1000, "MemAvailable": 50}, WARN, "5 %"),
    (checks_certificates.judge_certificates, life(90, 29), OK, "29 days left"),
    (checks_certificates.judge_certificates, life(90, 20), WARN, "20 days left"),
    (checks_certificates.judge_certificates, life(90, 6), FAIL, "6 days left"),
    (checks_certificates.judge_certificates, life(45, 12), OK, "12 days left"),
    (checks_certificates.judge_certificates, life(45, 11), WARN, "11 days left"),
    (checks_certificates.judge_certificates, life(45, 4), FAIL, "4 days left"),
    (checks_certificates.judge_certificates, life(6.7, 3.3), OK, "3 days left"),
    (checks_certificates.judge_certificates, life(6.7, 1.5), WARN, "36 h left"),
    (checks_certificates.judge_certificates, life(6.7, 0.5), FAIL, "12 h left"),
    (checks_certificates.judge_certificates, life(365, 25), OK, "25 days left"),
    (checks_certificates.judge_certificates, life(365, 20), WARN, "20 days left"),
    (checks_certificates.judge_certificates, life(90, -3), FAIL, "expired 3 d ago"),
    (checks_certificates.judge_certificates, {"x.crt": "is no certificate: bad"}, WARN, "is no certificate"),
    (checks_backups.judge_backups, backup(), OK, "done 60 min ago"),
    (checks_backups.judge_backups, [], WARN, "nothing is backed up"),
    (checks_backups.judge_backups, backup(result="never"), WARN, "has not run yet"),
    (checks_backups.judge_backups, backup(result="failed", error="disk full"), FAIL, "disk full"),
    (checks_backups.judge_backups, backup(finished="2027-01-10T07:00:00+00:00"), FAIL, "more than 25 h"),
    (checks_backups.judge_backups, backup(finished="when"), FAIL, "cannot be read"),
    (checks_backups.judge_backups, [{"job": "dump", "result": "unreadable"}], FAIL, "cannot be read"),
    (checks_backups.judge_backups, [{"job": "wal", "result": "ok", "finished": "2027-01-15T07:50:00+00:00", "max_age_seconds": 300}], FAIL, "more than 5 min"),
    (checks_backups.judge_backups, [{"job": "drill", "result": "failed", "error": "no migration table"}], FAIL, "no migration table"),
    (checks_backups.judge_backups, drill(archive=("ok", RECENT, 40, 44.4)), OK, "44 s from the archive on this host (median of 2: 42 s)"),
    (
        checks_backups.judge_backups,
        drill(archive=("ok", RECENT, 40), bucket=("ok", RECENT, 90)),
        OK,
        "40 s from the archive on this host; 90 s from the bucket alone",
    ),
    (
        checks_backups.judge_backups,
        drill(archive=("ok", RECENT, 40), bucket=("failed", RECENT, 90)),
        FAIL,
        "failed: the reason; restored from the bucket alone",
    ),
    (checks_backups.judge_backups, drill(archive=("failed", None), bucket=("ok", RECENT)), FAIL, "failed: the reason; restored from the archive on this host"),
    (checks_backups.judge_backups, drill(archive=("ok", RECENT), bucket=("unverified", RECENT)), WARN, "bucket alone (last proved 60 min ago): the reason"),
    (
        checks_backups.judge_backups,
        drill(archive=("ok", RECENT), bucket=("unverified", OLD)),
        FAIL,
        "could not verify the bucket alone (last proved 45 d ago): the rea",
    ),
    (checks_backups.judge_backups, drill(archive=("ok", RECENT), bucket=("unverified", None)), FAIL, "never proved"),
    (checks_backups.judge_backups, drill(archive=("ok", RECENT), dump=("failed", RECENT, 9)), FAIL, "failed: the reason; restored from the newest dump"),
    (checks_backups.judge_backups, drill(archive=("ok", RECENT, 40), dump=("ok", RECENT, 9)), OK, "9 s from the newest dump"),
    (checks_backups.judge_backups, drill(archive=("ok", RECENT), bucket=("ok", OLD)), FAIL, "(last proved 45 d ago): nobody has tried"),
    (checks_release.judge_release, None, OK, "none"),
    (checks_release.judge_release, LOCK, OK, "deploy of 2 by ann"),
    (checks_release.judge_release, {**LOCK, "renewed": NOW - 7200}, FAIL, "stale, last renewed 2 h ago"),
    (checks_release.judge_release, {**LOCK, "boot": "of before", "uptime": 9e9, "lease": 9e9}, WARN, "whether it goes on elsewhere is not known here"),
    (checks_host.judge_time, {"synchronised": True}, OK, ""),
    (checks_host.judge_time, {"synchronised": False}, WARN, "not synchronised"),
    (checks_host.judge_reboot, {"pending": False, "packages": ""}, OK, ""),
    (checks_host.judge_reboot, {"pending": True, "packages": "linux-image"}, WARN, "linux-image"),
    (status.judge_watchdog, WATCHED, OK, "watches"),
    (status.judge_watchdog, {"state": "failed", "said": {}}, FAIL, "is failed"),
    (status.judge_watchdog, {"state": "active", "said": {"at": NOW - 100}}, FAIL, "for a minute"),
    (status.judge_watchdog, {"state": "active", "said": {**WATCHED["said"], "paused_until": NOW + 600}}, WARN, "paused for 10 min"),
    (status.judge_watchdog, {"state": "active", "said": {"at": NOW, "waiting": {"mail": {"trouble": "refused"}}}}, WARN, "mail (refused)"),
    (doctor.judge_account, ACCOUNT, OK, "lingers"),
    (doctor.judge_account, {**ACCOUNT, "linger": False}, FAIL, "is off for senex"),
    (doctor.judge_account, {**ACCOUNT, "subuid": "other:1:2\n"}, FAIL, "/etc/subuid has no range for senex"),
    (doctor.judge_account, {**ACCOUNT, "subgid": ""}, FAIL, "/etc/subgid has no range"),
    (doctor.judge_account, {**ACCOUNT, "bus": False, "answers": False}, FAIL, "/run/user/987/bus is missing"),
    (doctor.judge_account, {**ACCOUNT, "answers": False}, FAIL, "does not answer"),
    (doctor.judge_podman, PODMAN, OK, "5.4"),
    (doctor.judge_podman, {**PODMAN, "version": "podman version 4.3.1"}, FAIL, "4.3 is too old"),
    (doctor.judge_podman, {**PODMAN, "version": ""}, FAIL, "is not installed"),
    (doctor.judge_podman, {**PODMAN, "generator": False}, FAIL, "generator of units is missing"),
    (doctor.judge_podman, {**PODMAN, "said": "quadlet[9]: converting \"web-1.container\": unsupported key 'Memory'"}, FAIL, "unsupported key 'Memory'"),
    (doctor.judge_podman, {**PODMAN, "said": NOT_OURS}, OK, "takes every unit file"),
    (doctor.judge_podman, {**PODMAN, "said": NOT_OURS + TORN}, FAIL, 'error loading "/opt/senex-trader/.config/containers/systemd/senex-network.network"'),
    (doctor.judge_network, {"online": "active", "waits": "inactive"}, OK, "reached"),
    (doctor.judge_network, {"online": "inactive", "waits": "inactive"}, FAIL, "is inactive"),
    (doctor.judge_network, {"online": "active", "waits": "activating"}, FAIL, "activating"),
    (doctor.judge_ports, {"8001": ["rootlessport"], "443": ["nginx", "nginx"], "80": []}, OK, ""),
    (doctor.judge_ports, {"8001": ["python3"]}, FAIL, "is taken by python3"),
    (doctor.judge_image, IMAGE, OK, "can be pulled"),
    (doctor.judge_image, {"image": ""}, FAIL, "no unit of the application"),
    (doctor.judge_image, {**IMAGE, "code": 125, "said": "unauthorized"}, WARN, "unauthorized"),
    (doctor.judge_image, {**IMAGE, "code": 125, "said": "no route", "here": False}, FAIL, "nothing starts"),
    (doctor.judge_image, {**IMAGE, "listed": False}, WARN, "the registry has no"),
    (doctor.judge_image, {**IMAGE, "listed": False, "here": False}, FAIL, "nothing starts"),
    (doctor.judge_growth, {"before": {"celery": 5}, "after": {"celery": 4}}, OK, ""),
    (doctor.judge_growth, {"before": {"celery": 50}, "after": {"celery": 80}}, WARN, "celery 50 -> 80"),
]


@pytest.mark.parametrize(("judge", "data", "level", "says"), TABLE, ids=[f"{row[0].__name__}-{row[2]}-{row[3]}"[:60] for row in TABLE])
def test_table(judge, data, level, says):
    found = judge(data, settings(), NOW)
    matching = [one for one in found if one.level == level and says in f"{one.key} {one.says}"]
    assert matching, found
    if level == OK:
        assert {one.level for one in found} == {OK}
    else:
        assert all(one.do for one in matching), "it does not say what to do"


def test_a_check_that_comes_is_found_and_shown_last(monkeypatch, tmp_path):
    lines = "from .findings import Check", "CHECKS = [Check('search', None, None, lambda config: 'search' in config.components)]"
    (tmp_path / "checks_a_search.py").write_text("\n".join(lines))
    monkeypatch.setattr(sys.modules["senex_ops"], "__path__", [*sys.modules["senex_ops"].__path__, str(tmp_path)])
    found = checks.every()
    names = [one.name for one in found]
    assert names[: len(checks.FIRST)] == list(checks.FIRST) and "search" in names[len(checks.FIRST) :]
    check = found[names.index("search")]
    assert not check.applies(settings()) and check.applies(settings(components=["search"]))
    sys.modules.pop("senex_ops.checks_a_search")


def test_every_check_has_a_broken_reading_and_a_whole_one():
    judged = {(row[0], row[2] == OK) for row in TABLE}
    for check in [*status.CHECKS, *doctor.SIGNATURES]:
        assert {(check.judge, True), (check.judge, False)} <= judged, check.name


def test_every_sentence_of_every_check_has_a_reading_that_brings_it():
    """A line of status or doctor that is added without a row of TABLE."""
    modules = (*(sys.modules[name] for name in sorted({check.judge.__module__ for check in status.CHECKS})), doctor)
    assert sentences.unsaid(modules, lambda: [judge(data, settings(), NOW) for judge, data, _, _ in TABLE]) == []


def test_where_no_connections_are_left_the_superuser_is_advised():
    """The application is refused then, and does not see what others do."""
    (found,) = checks_database.judge_database([["connections", "99", "100"]], settings(), NOW)
    assert found.do.startswith("senex psql -U postgres -c 'select")


def test_a_reading_that_fails_is_a_finding():
    def read(*_):
        raise OSError("psql in postgres: no such container")

    (found,) = Check("database", read, checks_database.judge_database).find(None, settings(), NOW)
    assert (found.level, found.says) == (FAIL, "cannot be read: psql in postgres: no such container")


def test_status_says_healthy_or_not_on_a_screen_and_to_machines(monkeypatch, capsys):
    bad = Check("disk", lambda *_: {"/": {**DISK, "used": 95.0}}, checks_host.judge_disk)
    good = Check("memory", lambda *_: {"MemTotal": 10, "MemAvailable": 9}, checks_host.judge_memory)
    assert status.show(Fake(), settings(), False, [good]) == 0
    assert status.show(Fake(), settings(), False, [good, bad]) == 2
    assert "-> senex prune-images --keep 1" in capsys.readouterr().out
    assert status.show(Fake(), settings(), True, [good, bad]) == 2
    data = json.loads(capsys.readouterr().out)
    assert (data["level"], [one["key"] for one in data["findings"]]) == ("FAIL", ["memory", "disk /"])


@pytest.mark.parametrize(("written", "asked", "level"), [(0, 600, WARN), (600, 0, OK)])
def test_a_pause_counts_from_the_moment_on_that_it_is_asked_for(tmp_path, monkeypatch, written, asked, level):
    """And until it is taken back: what the watchdog last wrote may be five seconds old."""
    now = time.time()
    monkeypatch.setattr(status, "SAID", str(tmp_path / "status.json"))
    monkeypatch.setattr(remediation, "PAUSE", str(tmp_path / "paused"))
    (tmp_path / "status.json").write_text(json.dumps({"at": now, "paused_until": now + written}))
    if asked:
        (tmp_path / "paused").write_text(json.dumps({"until": now + asked}))
    (found,) = status.judge_watchdog(status.read_watchdog(Fake(), settings()), settings(), now)
    assert found.level == level


def test_a_page_that_is_good_is_said_to_be_a_page_that_is_good():
    """Nobody but the application knows what it looked at."""
    one_page = settings(web={**SETTINGS["web"], "alive_path": "/up/", "ready_path": "/up/"})
    (apart,), (same,) = (checks_web.judge_ready(GOOD, config, NOW) for config in (settings(), one_page))
    assert apart.says == "/health/ answers 200 in 10 ms" and same.says == "/up/ answers 200 in 10 ms; it is the liveness page too"


def test_parts_that_are_elsewhere_are_not_asked_for():
    alone = settings(web=None, public=None, broker=None, beat="")
    assert {"containers", "outside", "database"} <= {check.name for check in checks.every() if check.applies(alone)}
    assert not {"web", "public", "ready", "dns", "redis", "elsewhere", "beat"} & {check.name for check in checks.every() if check.applies(alone)}


@pytest.mark.parametrize(("seconds", "text"), [(5, "5 s"), (150, "2 min"), (7200, "2 h"), (200_000, "2 d")])
def test_durations(seconds, text):
    assert age(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(5, "5 B"), (2_500_000, "2 MB"), (3e12, "3000 GB")])
def test_sizes(count, text):
    assert size(count) == text


def test_a_copy_that_does_not_restore_is_told_beside_a_bucket_that_could_not_be_tried():
    """A trouble that is open is not told again, so the two have names of their own."""
    found = checks_backups.judge_backups(drill(archive=("failed", None), bucket=("unverified", None)), settings(), NOW)
    assert [(one.key, one.level) for one in found] == [("backup drill", FAIL), ("backup drill from bucket", FAIL)]
    found = checks_backups.judge_backups(drill(archive=("ok", RECENT, 40), bucket=("unverified", RECENT)), settings(), NOW)
    assert {one.key: one.level for one in found} == {"backup drill": OK, "backup drill from bucket": WARN}


def test_the_end_of_the_authority_is_told_with_what_cures_it():
    """A run of the playbook renews what it signed, and not the authority."""
    (found,) = checks_certificates.judge_certificates({"/etc/senex-trader/tls/ca.crt": life(3650, 20)["x.crt"]}, settings(), NOW)
    assert found.level == WARN and "playbooks/secrets.yml" in found.do and "--tags" not in found.do


def test_a_user_manager_that_does_not_run_is_no_fault_of_the_registry():
    """`podman search` goes by it: the registry was said not to answer."""
    fake = Fake()
    fake.ended["systemctl user show"] = host.Ended(1, "", "Failed to connect to bus: No such file or directory")
    (image,) = [check for check in doctor.SIGNATURES if check.name == "image"]
    assert image.find(fake, settings(), NOW) == [] and not [words for words in fake.done if words[0] == "podman"]
    assert image.find(Fake(), settings(), NOW) != []
