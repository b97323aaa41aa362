"""Dashboards, rules and the page on monitoring: Prometheus takes each query, and asks for nothing that nobody gives."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from test_alert_rules import RULES
from test_watchdog_metrics import OTHERS, READINGS

ROOT = Path(__file__).parents[2]
BOARDS = {path.stem: json.loads(path.read_text()) for path in (ROOT / "roles/monitoring/files/dashboards").glob("*.json")}
QUERIES = {name: [target["expr"] for panel in board["panels"] for target in panel["targets"]] for name, board in BOARDS.items()}
PAGE = (ROOT / "docs/operations/monitoring.md").read_text().partition("## Which metric answers")[2].partition("\n## ")[0]
# What is asked of exporters that others have made
GIVEN = set((ROOT / "tests/unit/metrics.txt").read_text().split())
WRITTEN = {f"senex_{name}" for _, expected in READINGS.values() for name in expected} | {f"senex_{name}" for name in OTHERS}
RECORDED = {rule["record"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"] if "record" in rule}
# What a query has beside names: texts, labels, times, functions, groupings, words
BESIDE = (
    r'"[^"]*"', r"\{[^}]*\}", r"\[[^]]*\]", r"\b(by|on|without|ignoring|group_left)\s*\([^)]*\)",
    r"\b[a-z_]+(?=\s*\()", r"\b(and|or|unless|offset|bool)\b", r"\b[0-9][0-9.]*[a-z]*[0-9]*\b",
)  # fmt: skip


def metrics(query):
    for pattern in BESIDE:
        query = re.sub(pattern, " ", query)
    return set(re.findall(r"[a-zA-Z_][a-zA-Z0-9_:]*", query))


def test_names_are_what_is_left_of_a_query():
    asked = 'sum by (a) (rate(b_total{c="d e"}[5m])) / on (f) (g offset 1h) > 1e3 and time() - h:i:j_5m or vector(0)'
    assert metrics(asked) == {"b_total", "g", "h:i:j_5m"}


ASKED = {
    **{name: {one for query in queries for one in metrics(query)} for name, queries in QUERIES.items()},
    "rules": {one for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"] for one in metrics(rule["expr"])},
    "page": set(re.findall(r"`([a-z][a-z0-9_:]+)`", PAGE)),
}


@pytest.mark.parametrize("name", list(ASKED))
def test_nothing_is_asked_for_that_nobody_gives(name):
    """A name of nobody's is a graph that stays empty, an alert that never comes."""
    assert ASKED[name] - GIVEN - WRITTEN - RECORDED - {"ALERTS"} == set()


def test_the_list_has_no_name_that_nobody_asks_for():
    assert set().union(*ASKED.values()) >= GIVEN


def test_prometheus_takes_each_query(tmp_path):
    queries = [query for found in QUERIES.values() for query in found]
    rules = [{"record": f"asked:{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "asked", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", "--lint=none", "rules.yml"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0 and len(queries) > 50, done.stdout + done.stderr


@pytest.mark.parametrize("name", list(BOARDS))
def test_a_dashboard_is_whole(name):
    """What Grafana passes over in silence, or shows one panel below another."""
    board = BOARDS[name]
    panels, taken = board["panels"], set()
    assert board["uid"] == f"senex-{name}" and len(board["uid"]) <= 40
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken and place["x"] + place["w"] <= 24
        taken |= cells
        assert panel["datasource"] == {"type": "prometheus", "uid": "${source}"} and [one["name"] for one in board["templating"]["list"]] == ["source"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) > 0


def test_there_is_one_of_each_part():
    assert sorted(BOARDS) == ["backups", "overview", "postgresql", "redis-celery", "web"]
