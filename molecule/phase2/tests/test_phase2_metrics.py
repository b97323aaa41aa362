"""Prometheus on one host reads all of them: what it says, what it tells, and what it takes. Last, for an alert takes as long as the tests before these."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TABLE = (ROOT / "docs/operations/monitoring.md").read_text().partition("## Which metric answers")[2].partition("\n## ")[0]
# What rules and dashboards ask exporters for
GIVEN = (ROOT / "tests/unit/metrics.txt").read_text().split()
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in (ROOT / "roles/monitoring/files/dashboards").glob("*.json")}
SERVICES = ("prometheus", "prometheus-alertmanager", "prometheus-blackbox-exporter", "prometheus-node-exporter", "prometheus-nginx-exporter")
# What this environment has not, and why
POOLER = ("senex_pooler_clients", "senex_pooler_clients_waiting", "senex_pooler_wait_seconds", "senex_pooler_servers")
NOT_HERE = {
    "senex_beat_sent_seconds": "Beat is not on the host of its tables",
    "senex_drill_ok": "no restore drill has been due",
    **dict.fromkeys(POOLER, "there is no PgBouncer"),
}


@pytest.fixture(scope="module", autouse=True)
def usual(site):
    """What a day of a host brings: copies, and visitors."""
    visits = f"for visit in 1 2 3; do curl -sS -k -o /dev/null --resolve demo.senex.test:443:{site.address} https://demo.senex.test/version/; done"
    with ThreadPoolExecutor() as pool:
        asked = [(site.database, "senex backup dump"), (site.app, "senex backup media"), (site.database, visits)]
        for done in [pool.submit(host.sh, words, 120) for host, words in asked]:
            done.result()


@pytest.fixture(scope="module")
def missing(site, prometheus):
    """Those of some queries that have no data, when the watchdog has looked at everything once more."""
    counted = "memory" in site.app.sh("cat /sys/fs/cgroup/cgroup.controllers").split()
    without = {*NOT_HERE, *([] if counted else ["senex_unit_memory_bytes"])}

    def asked(queries):
        left, end = [one for one in queries if not set(re.findall(r"[a-z0-9_]+", one)) & without], time.monotonic() + 75
        while (left := [one for one, rows in prometheus(*left).items() if not rows]) and time.monotonic() < end:
            time.sleep(2)
        return left

    return asked


def test_an_alert_is_in_the_mail_within_five_minutes(trouble):
    mail = trouble.mail("FIRING NginxDown", within=300)
    assert "NginxDown on molecule-app: nginx does not answer" in mail and "docs/operations/runbook.md#the-site-does-not-answer-at-all" in mail
    trouble.mend()


def test_every_source_is_read_and_each_of_another_host_by_tls(site, prometheus):
    states = json.loads(site.app.sh("curl -sS -u metrics:molecule-metrics-password http://127.0.0.1:9090/api/v1/targets?state=active"))["data"]["activeTargets"]
    read = {(one["labels"]["job"], one["labels"]["host"].removeprefix("molecule-"), one["scrapeUrl"].partition(":")[0], one["health"]) for one in states}
    away = {("exporters", "database"), ("exporters", "queue"), ("postgresql", "database"), ("redis", "queue")}
    here = {(job, "app") for job in ("exporters", "nginx", "monitoring", "alertmanager", "probe-site", "probe-websocket")}
    assert read == {(*one, "https", "up") for one in away} | {(*one, "http", "up") for one in here}, [one["lastError"] for one in states]


def test_an_exporter_asks_for_the_password(site):
    for port, host in ((9100, site.database), (9187, site.database), (9121, site.queue)):
        ask = f"curl -sS -o /dev/null -w '%{{http_code}}' --cacert /etc/senex-trader/metrics/ca.crt https://{host.address}:{port}/metrics"
        assert site.app.sh(f"{ask}; {ask} -u metrics:wrong; {ask} -u metrics:molecule-metrics-password") == "401401200"


def test_each_question_of_the_page_and_each_name_of_an_exporter_has_an_answer(missing):
    names = {*re.findall(r"`([a-z][a-z0-9_:]+)`", TABLE), *GIVEN}
    assert len(names) > 60 and missing(names) == []


def test_each_panel_has_data(missing):
    asked = {target["expr"]: f"{name}: {panel['title']}" for name, board in DASHBOARDS.items() for panel in board["panels"] for target in panel["targets"]}
    assert [asked[query] for query in missing(asked)] == []


def test_the_recorded_objective_and_the_state_of_the_site(site, prometheus):
    (ready,) = prometheus("count(probe_success{job='probe-site'} == 1)")["count(probe_success{job='probe-site'} == 1)"]
    assert ready["value"][1] == "2"
    assert re.search(r"availability +[0-9.]+ % in 30 days, the objective is 99.9 %", site.app.run("senex status").stdout)


def test_all_of_it_takes_less_than_300_mb(site):
    """By what is theirs alone, for these hosts do not count the memory of a unit."""
    script = "; ".join(f"awk '/^Pss:/ {{print $2}}' /proc/$(systemctl show -p MainPID --value {name})/smaps_rollup" for name in SERVICES)
    sizes = [int(size) for size in site.app.sh(script).split()]
    assert len(sizes) == len(SERVICES) and sum(sizes) <= 300_000, sizes
