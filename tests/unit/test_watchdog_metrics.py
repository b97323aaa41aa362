"""Figures of the watchdog: what they are made of, and the file that the exporter of the host reads."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from watched import settings

from senex_ops import checks, checks_backups, checks_release, decide, metrics, service  # isort: skip
from senex_ops.findings import Check, Sample, fail, ok  # isort: skip
from senex_ops.host import Answer  # isort: skip

ROOT = Path(__file__).parents[2]
NOW = 1_800_000_000
POOL = {"database": "senex", "cl_active": "1", "cl_waiting": "0", "sv_active": "1", "sv_idle": "2", "sv_used": "3", "maxwait": "0"}
UNIT = {"ActiveState": "active", "ActiveEnterTimestampMonotonic": "60000000", "NRestarts": "2", "MemoryCurrent": "1024", "CPUUsageNSec": "1500000000"}
# As systemd says it of what it does not count
UNCOUNTED = {"MemoryCurrent": "18446744073709551615", "CPUUsageNSec": "[not set]", "ActiveEnterTimestampMonotonic": "0", "ActiveState": "active"}
READINGS = {
    "backups": ([{"job": "dump", "result": "ok", "finished": "2027-01-15T07:00:00+00:00", "max_age_seconds": 90000, "bytes": 12},
                 {"job": "wal", "result": "never"}, {"job": "base", "result": "unreadable"},
                 {"job": "drill", "result": "failed", "drills": {"dump": {"result": "failed", "proved": None, "seconds": [3, 4]}}}],
                {"backup_ok": [1, 0, 0], "backup_finished_seconds": [1800082800 - 86400], "backup_max_age_seconds": [90000], "backup_bytes": [12],
                 "drill_ok": [0], "drill_took_seconds": [4]}),
    "certificates": ({"/etc/a.crt": [NOW - 5, NOW + 5], "gone": "cannot be read"}, {"certificate_expires_seconds": [NOW + 5]}),
    "database": ([["slot", "barman", "true", "1048576"], ["connections", "1", "2"], ["slot", "cut"]], {"wal_kept_bytes": [1048576]}),
    "reboot": ({"pending": True, "packages": ""}, {"reboot_pending": [1]}),
    "errors": ({"seen": 200, "own": {"502": 3, "504": 4}}, {"site_requests": [200], "site_errors": [7]}),
    "release": (None, {"release_under_way": [0]}),
    "web": ({"web-1.service": Answer(200, seconds=0.5), "web-2.service": Answer(0, "no answer", seconds=2.0)}, {"web_up": [1, 0], "web_seconds": [0.5, 2]}),
    "pooler": ({"pools": [POOL | {"cl_waiting": "3", "maxwait": "7"}, POOL], "state": []},
               {"pooler_clients": [5], "pooler_clients_waiting": [3], "pooler_servers": [12], "pooler_wait_seconds": [7]}),
    "redis": ({"queues": {"celery": 0, "mail": 0, "reports": 150}, "overdue": 2, "waiting": []}, {"tasks_waiting": [0, 0, 150], "tasks_overdue": [2]}),
    "beat": ({"silent": "60", "shortest": "", "up": 9}, {"beat_sent_seconds": [NOW - 60]}),
    "units": ({"user": {"web-1.service": UNIT, "b.service": {"ActiveState": "failed", "NRestarts": "5"}}, "system": {}, "failed": [], "uptime": 100.0},
              {"unit_started_seconds": [NOW - 40], "unit_restarts": [2, 5], "unit_memory_bytes": [1024], "unit_cpu_seconds": [1.5]}),
}  # fmt: skip
# Of readings that have tests of their own
OTHERS = {"drill_proved_seconds", "site_responses", "site_seconds", "check", "web_connections", "release_last_ok", "watchdog_restarts", "watchdog_paused"}


@pytest.mark.parametrize("name", list(READINGS))
def test_a_reading_has_these_figures(name):
    data, expected = READINGS[name]
    (check,) = (one for one in checks.every() if one.name == name)
    found = {}
    for one in check.measure(data, NOW):
        found.setdefault(one.name, []).append(one.value)
    assert found == expected


def test_what_cannot_be_read_is_no_figure():
    units = {"user": {"a.service": UNCOUNTED}, "system": {}, "uptime": 9}
    for name, data in (("pooler", {"silent": "gone"}), ("redis", {"damaged": "x"}), ("beat", {}), ("beat", {"silent": ""}), ("units", units)):
        (check,) = (one for one in checks.every() if one.name == name)
        assert check.measure(data, NOW) == []


def test_each_alert_asks_for_what_the_watchdog_writes():
    """A name that nobody writes makes an alert that never comes."""
    rules = (ROOT / "roles/monitoring/files/rules.yml").read_text()
    written = {name for _, expected in READINGS.values() for name in expected} | OTHERS
    assert set(re.findall(r"\bsenex_([a-z_]+)", rules)) <= written


def test_a_reading_is_judged_and_measured_in_one():
    asked = []
    check = Check("x", lambda host, config: asked.append(1) or 7, lambda data, config, now: [ok("x", str(data))], measure=lambda data, now: [Sample("x", data)])
    assert check.look(None, None, 0) == ([ok("x", "7")], [Sample("x", 7)]) and asked == [1]
    broken = Check("x", lambda host, config: 1 / 0, lambda *_: [], measure=lambda data, now: [Sample("x", 1)])
    assert broken.look(None, None, 0)[1] == [] and broken.find(None, None, 0)[0].level == "FAIL"


def test_the_file_is_of_the_format_whatever_a_name_holds():
    hostile = 'a"} 1\nsenex_backup_ok{job_name="dump\\'
    samples = [Sample("b", 1, {"x": hostile}), Sample("a", True), Sample("b", 2, {"x": "y"}), Sample("b", 3, {"x": "y"}), Sample("c", float("nan"))]
    text = metrics.lines(samples)
    assert text.endswith("\n") and [line for line in text.splitlines() if line.startswith("senex_backup_ok")] == []
    assert text.splitlines()[0:2] == ["# TYPE senex_a gauge", "senex_a 1"] and 'senex_b{x="y"} 3' in text and text.count("# TYPE senex_b gauge") == 1
    assert "senex_c" not in text.replace("# TYPE senex_c gauge", "")
    (line,) = (one for one in text.splitlines() if one.startswith('senex_b{x="a'))
    assert re.fullmatch(r'senex_b\{x="(?:[^"\\]|\\["\\n])*"\} 1', line), line
    assert len(metrics.lines(Sample("b", 1, {"x": number}) for number in range(5000)).splitlines()) == 1 + metrics.MOST


def test_connections_are_those_of_each_instance(tmp_path):
    table = tmp_path / "tcp"
    row = "   0: 0100007F:{:04X} 0100007F:{:04X} {} 00000000:00000000 00:00000000 00000000 0 0 1\n"
    rows = [row.format(8001, 40000, "01"), row.format(8001, 40001, "01"), row.format(40000, 8001, "01"), row.format(8002, 0, "0A"), row.format(22, 5, "01")]
    table.write_text("  sl  local_address rem_address   st\n" + "".join(rows))
    found = metrics.connections(settings().web, str(table))
    assert [(one.labels["unit"], one.value) for one in found] == [("web-1", 2), ("web-2", 0)] and metrics.connections(None) == []


def test_the_newest_release_counts(tmp_path):
    records = tmp_path / "releases.jsonl"
    assert metrics.last_release(str(records)) == []
    good, bad = ({"kind": "deploy", "result": result} for result in ("succeeded", "failed"))
    records.write_text("\n".join([json.dumps(good), json.dumps(bad), json.dumps({"kind": "note"}), '{"kind": "depl']))
    assert metrics.last_release(str(records)) == [Sample("release_last_ok", False)]
    records.write_text(json.dumps(good) + "\n")
    assert metrics.last_release(str(records)) == [Sample("release_last_ok", True)]


def test_the_watchdog_writes_them_where_it_is_told_to(tmp_path):
    part = decide.Part("web-1")
    part.restarts = [0.0, 1e12]
    watchdog = SimpleNamespace(config=settings(metrics=str(tmp_path), web=None), samples={"x": [Sample("x", 5)]}, paused_until=0, parts={"web-1": part},
                               findings={"disk": [ok("disk /", ""), fail("disk /var", "", "")]})  # fmt: skip
    service.Watchdog.measure(watchdog)
    text = (tmp_path / metrics.FILE).read_text()
    assert 'senex_check{check="disk"} 2' in text and "senex_x 5" in text and 'senex_watchdog_restarts{part="web-1"} 0' in text
    assert (tmp_path / metrics.FILE).stat().st_mode & 0o777 == 0o644
    watchdog.config = settings(metrics=str(tmp_path / "gone"), web=None)
    service.Watchdog.measure(watchdog)  # says so, and goes on
    watchdog.config = settings()
    service.Watchdog.measure(watchdog)
    assert [path.name for path in tmp_path.iterdir()] == [metrics.FILE]


def test_readings_are_those_of_the_checks():
    assert checks_backups.CHECKS[0].measure is checks_backups.measure_backups and checks_release.CHECKS[0].measure is checks_release.measure_release
