"""docs/user/sizing.md says what the collection computes, and has a row for each alert that means growing."""

import re
from pathlib import Path

import pytest
import yaml
from ansible_collections.senex.trader.plugins.filter import sizing

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/user/sizing.md").read_text(encoding="utf-8")
ONE = ("postgresql", "redis", "web", "celery", "celery_beat", "nginx", "backup", "watchdog")
PHASE2 = {"web": ["web"], "nginx": ["web"], "monitoring": ["web"], "logs": ["web"], "pgbouncer": ["web"], "postgresql": ["database"], "redis": ["queue"],
          "celery": ["queue"], "celery_beat": ["queue"], "backup": ["web", "database", "queue"], "watchdog": ["web", "database", "queue"]}  # fmt: skip
HOSTS = {
    "one host, the least": ("one", dict.fromkeys(ONE, ["one"])),
    "one host": ("one", dict.fromkeys(ONE, ["one"])),
    "one host with monitoring": ("one", dict.fromkeys((*ONE, "monitoring", "logs"), ["one"])),
    "web of phase 2": ("web", PHASE2),
    "database of phase 2": ("database", PHASE2),
    "queue of phase 2": ("queue", PHASE2),
    "queue of phase 2, larger": ("queue", PHASE2),
}


def table(heading):
    """The rows of a section's first table, as dictionaries."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


@pytest.mark.parametrize("row", table("Memory"), ids=lambda row: f"{row['host']} {row['RAM']}")
def test_the_memory_of_each_host_is_what_the_collection_computes(row):
    name, inventory = HOSTS[row["host"]]
    groups, ram = [group for group, hosts in inventory.items() if name in hosts], int(row["RAM"])
    plan, used = sizing.memory_plan(ram, redis_cache=True, groups=groups, inventory=inventory), sizing.memory_needed(groups)
    here = {part: plan[part] for part in [*used, *(["redis_cache"] if "redis" in used else [])]}
    assert {part: int(cell) for part, cell in row.items() if cell and part not in ("host", "RAM", "rest")} == here
    assert int(row["rest"]) == ram - sum(here.values())


def test_each_host_of_the_page_is_computed():
    assert {row["host"] for row in table("Memory")} == set(HOSTS)


def test_each_alert_that_means_growing_has_a_row_with_its_own_bounds():
    groups = yaml.safe_load((ROOT / "roles/monitoring/files/rules.yml").read_text(encoding="utf-8"))["groups"]
    (rules,) = [group["rules"] for group in groups if group["name"] == "scaling"]
    rows = {row["alert"].strip("`"): row["says"].replace(",", "") for row in table("Grow")}
    assert set(rows) == {rule["alert"] for rule in rules}
    bounds = {rule["alert"]: re.findall(r"[<>] (\d+)(?= and |$)", rule["expr"]) for rule in rules if "predict_linear" not in rule["expr"]}
    assert len(bounds) == len(rules) - 1 and all(found for found in bounds.values())
    assert [alert for alert, found in bounds.items() if found[0] not in rows[alert]] == []


def test_a_price_has_a_date_and_a_place_or_is_looked_up():
    for row in table("Prices"):
        assert "https://" in row["where"] or row["where"].startswith("the same")
        priced = re.fullmatch(r"[€$]\d+(\.\d\d)?", row["a month"]) and re.fullmatch(r"20\d\d-\d\d-\d\d", row["read"])
        assert priced or (row["a month"] == "look up" and not row["read"]), row
