"""Alerts of role monitoring, by promtool: each begins to fire when it should and not before, and leads to a section of the runbook."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RULES = ROOT / "roles/monitoring/files/rules.yml"
ALERTS = {rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"] if "alert" in rule}
HOST = 'host="one"'


def idle(share):
    """A processor that is idle for this share of the time, in seconds a minute."""
    name = f'node_cpu_seconds_total{{{HOST},cpu="0",mode='
    return [(f'{name}"idle"}}', f"0+{60 * share:g}x60"), (f'{name}"user"}}', "0+1x60")]


def steady(name, value, labels="", minutes=60):
    return f"{name}{{{HOST}{',' if labels else ''}{labels}}}", f"{value}+0x{minutes}"


def used(percent, labels='mountpoint="/"'):
    return [steady("node_filesystem_size_bytes", 1000, labels), steady("node_filesystem_avail_bytes", 1000 - 10 * percent, labels)]


SITE = 'job="probe-site",instance="https://127.0.0.1/health/"'


def probed(values):
    """The site's probes. One series stands for all of them, so a value may be a share."""
    return f"probe_success{{{HOST},{SITE}}}", values


# Alert: what there is that fires it; minutes at which it does not yet, and does; and the same with a value that is still good, which never fires
CASES = {
    "WebCpuHigh": ([*idle(0.25), steady("up", 1, 'job="nginx"')], 4, 12, [*idle(0.35), steady("up", 1, 'job="nginx"')]),
    "DatabaseCpuHigh": ([*idle(0.15), steady("up", 1, 'job="postgresql"')], 9, 17, [*idle(0.25), steady("up", 1, 'job="postgresql"')]),
    "QueueLong": ([steady("senex_tasks_waiting", 101, 'queue="celery"')], 4, 6, [steady("senex_tasks_waiting", 100, 'queue="celery"')]),
    "RedisMemoryHigh": (
        [steady("redis_memory_used_bytes", 91), steady("redis_memory_max_bytes", 100)], 4, 6,
        [steady("redis_memory_used_bytes", 91), steady("redis_memory_max_bytes", 0)],
    ),
    "WebConnectionsHigh": ([steady("senex_web_connections", 1501, 'unit="web-1"')], 4, 6, [steady("senex_web_connections", 1500, 'unit="web-1"')]),
    "DatabaseConnectionsHigh": (
        [*(steady("pg_stat_activity_count", 41, f'state="{state}"') for state in ("idle", "active")), steady("pg_settings_max_connections", 100)], 4, 6,
        [steady("pg_stat_activity_count", 80, 'state="idle"'), steady("pg_settings_max_connections", 100)],
    ),
    "ReplicationLag": (
        [steady("pg_replication_lag_seconds", 31), steady("pg_replication_is_replica", 1)], 4, 6,
        [steady("pg_replication_lag_seconds", 31), steady("pg_replication_is_replica", 0)],
    ),
    "MemoryLow": (
        [steady("node_memory_MemAvailable_bytes", 9), steady("node_memory_MemTotal_bytes", 100)], 9, 11,
        [steady("node_memory_MemAvailable_bytes", 10), steady("node_memory_MemTotal_bytes", 100)],
    ),
    "DiskFilling": (
        [steady("node_filesystem_size_bytes", 10000, 'mountpoint="/"', 120), (f'node_filesystem_avail_bytes{{{HOST},mountpoint="/"}}', "3500-5x120")], 58, 70,
        [steady("node_filesystem_size_bytes", 10000, 'mountpoint="/"', 120), steady("node_filesystem_avail_bytes", 3500, 'mountpoint="/"', 120)],
    ),
    "PoolerWaits": ([steady("senex_pooler_wait_seconds", 6, 'database="senex"')], 1, 3, [steady("senex_pooler_wait_seconds", 5, 'database="senex"')]),
    "TargetDown": ([steady("up", 0, 'job="redis"')], 1, 3, [steady("up", 1, 'job="redis"')]),
    "SiteDown": ([steady("probe_success", 0, SITE)], 1, 3, [steady("probe_success", 1, SITE)]),
    "WebInstanceDown": ([steady("senex_web_up", 0, 'unit="web-1"')], 1, 3, [steady("senex_web_up", 1, 'unit="web-1"')]),
    "WebSocketDown": ([steady("probe_success", 0, 'job="probe-websocket"')], 1, 3, [steady("probe_success", 1, 'job="probe-websocket"')]),
    "PostgresqlDown": ([steady("pg_up", 0)], 0, 2, [steady("pg_up", 1)]),
    "RedisDown": ([steady("redis_up", 0)], 0, 2, [steady("redis_up", 1)]),
    "RedisCannotSave": (
        [steady("redis_aof_last_write_status", 0)], 0, 2, [steady("redis_aof_last_write_status", 1), steady("redis_rdb_last_bgsave_status", 1)],
    ),
    "NginxDown": ([steady("nginx_up", 0)], 0, 2, [steady("nginx_up", 1)]),
    "SiteSlow": ([steady("probe_duration_seconds", 2.1, SITE)], 4, 6, [steady("probe_duration_seconds", 1.9, SITE)]),
    "SiteErrors": (
        [steady("senex_site_errors", 11), steady("senex_site_requests", 1000)], 0, 2, [steady("senex_site_errors", 9), steady("senex_site_requests", 100)],
    ),
    "DiskFull": (used(91), 4, 6, used(90)),
    "CertificateExpires": (
        [steady("senex_certificate_expires_seconds", 13 * 86400, 'certificate="postgres.crt"')], 9, 11,
        [steady("senex_certificate_expires_seconds", 15 * 86400, 'certificate="postgres.crt"'), steady("probe_ssl_earliest_cert_expiry", 15 * 86400, SITE)],
    ),
    "BackupFailed": ([steady("senex_backup_ok", 0, 'job_name="dump"')], 4, 6, [steady("senex_backup_ok", 1, 'job_name="dump"')]),
    "BackupOld": (
        [steady("senex_backup_finished_seconds", -100, 'job_name="dump"'), steady("senex_backup_max_age_seconds", 99, 'job_name="dump"')], 9, 11,
        [steady("senex_backup_finished_seconds", 0, 'job_name="dump"'), steady("senex_backup_max_age_seconds", 90000, 'job_name="dump"')],
    ),
    "DrillFailed": ([steady("senex_drill_ok", 0, 'source="dump"')], 4, 6, [steady("senex_drill_ok", 1, 'source="dump"')]),
    "WalKept": ([steady("senex_wal_kept_bytes", 2_100_000_000, 'slot="barman"')], 9, 11, [steady("senex_wal_kept_bytes", 1_900_000_000, 'slot="barman"')]),
    "ReleaseFailed": ([steady("senex_release_last_ok", 0)], 4, 6, [steady("senex_release_last_ok", 1)]),
    "ReleaseHangs": ([steady("senex_release_under_way", 1, minutes=90)], 59, 61, [steady("senex_release_under_way", 0)]),
    "WatchdogRestarts": ([steady("senex_watchdog_restarts", 2, 'part="web-1"')], 0, 2, [steady("senex_watchdog_restarts", 1, 'part="web-1"')]),
    "UnitRestarts": (
        [(f'senex_unit_restarts{{{HOST},unit="celery-worker"}}', "0+0x20 1 2 3 4 4+0x20")], 22, 27,
        [(f'senex_unit_restarts{{{HOST},unit="celery-worker"}}', "0+0x20 1 2 2+0x20")],
    ),
    "WatchdogSilent": (
        [steady("node_textfile_mtime_seconds", -301, 'file="senex.prom"')], 4, 6, [(f'node_textfile_mtime_seconds{{{HOST},file="senex.prom"}}', "0+60x60")],
    ),
    "RebootPending": ([steady("senex_reboot_pending", 1, minutes=200)], 167 * 60, 169 * 60, [steady("senex_reboot_pending", 0)]),
    "MonitoringBroken": (
        [steady("prometheus_config_last_reload_successful", 0)], 0, 2,
        [steady("prometheus_config_last_reload_successful", 1), steady("alertmanager_notifications_failed_total", 5)],
    ),
    # Ten minutes of a tenth; and worse that is over
    "SiteBudgetBurnsFast": ([probed("1+0x70 0.9+0x30")], 76, 85, [probed("1+0x60 0 1 0 1 0 1 0 1 1+0x20")]),
    "SiteBudgetBurns": ([probed("0.99+0x500")], 365, 380, [probed("0.995+0x500")]),
    "SiteBudgetSpent": ([probed("0.998+0x100")], 71 * 60, 75 * 60, [probed("0.9991+0x100")]),
}  # fmt: skip
FIRING = 'count by (alertname) (ALERTS{alertstate="firing"})'


def test_each_alert_has_a_case():
    assert list(CASES) == list(ALERTS)


SLOW = [alert for alert, rule in ALERTS.items() if re.search("[0-9]d( |$)", f"{rule['expr']} {rule.get('for', '')}")]  # by samples an hour apart


def case(series, *moments, interval="1m"):
    """`moments`: pairs of minutes and the alerts that fire then."""
    told = [{"series": name, "values": values} for name, values in series]
    expected = [
        {"expr": FIRING, "eval_time": f"{minutes}m", "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in alerts]}
        for minutes, alerts in moments
    ]
    return {"interval": interval, "input_series": told, "promql_expr_test": expected}


def promtool(*words, **options):
    return subprocess.run(["promtool", *words], capture_output=True, text=True, check=False, **options)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What promtool says of all cases, in one run."""
    place, files = tmp_path_factory.mktemp("rules"), []
    for interval, alerts in (("1m", [one for one in CASES if one not in SLOW]), ("1h", SLOW)):
        bad = [case(CASES[alert][0], (CASES[alert][1], []), (CASES[alert][2], [alert]), interval=interval) for alert in alerts]
        good = [case(CASES[alert][3], (CASES[alert][2], []), interval=interval) for alert in alerts]
        files.append(place / f"cases-{interval}.yml")
        files[-1].write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": interval, "tests": bad + good}))
    return promtool("test", "rules", *map(str, files))


def test_each_alert_fires_when_it_should_and_no_other_one_does(told):
    assert told.returncode == 0, told.stdout + told.stderr


def test_promtool_takes_them():
    done = promtool("check", "rules", str(RULES))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", list(ALERTS))
def test_each_leads_to_a_section_of_the_runbook(alert):
    page, _, anchor = ALERTS[alert]["annotations"]["runbook"].partition("#")
    titles = re.findall("^##+ (.*)$", (ROOT / page).read_text(), flags=re.MULTILINE)
    assert anchor in [re.sub("[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles]
    assert ALERTS[alert]["labels"]["severity"] in ("warning", "critical")
