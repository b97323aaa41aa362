"""Dashboards of Grafana, made from their description in roles/monitoring/files/dashboards."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

PLACE = Path(__file__).resolve().parents[1] / "roles/monitoring/files/dashboards"
SOURCE = {"type": "prometheus", "uid": "${source}"}
COLUMNS = 24
SIZES = {"stat": (6, 4), "timeseries": (12, 8)}  # columns, rows
SHAPES = {
    "stat": {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "colorMode": "value", "graphMode": "none"},
    "timeseries": {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True}, "tooltip": {"mode": "multi", "sort": "desc"}},
}


def panel(number: int, given: dict, place: dict[str, int]) -> dict:
    """One, with its queries as Grafana counts them: A, B, and so on."""
    kind = given.get("kind", "timeseries")
    targets = [
        {"refId": chr(ord("A") + at), "datasource": SOURCE, "editorMode": "code", "expr": query, "legendFormat": legend, "range": kind != "stat",
         "instant": kind == "stat"}
        for at, (legend, query) in enumerate(given["queries"].items())
    ]  # fmt: skip
    defaults = {"unit": given["unit"]} if "unit" in given else {}
    return {
        "id": number, "title": given["title"], "type": kind, "datasource": SOURCE, "gridPos": place, "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": SHAPES[kind], "targets": targets,
    }  # fmt: skip


def placed(given: list[dict]) -> list[dict[str, int]]:
    """From left to right, then the next row."""
    found, x, y, tallest = [], 0, 0, 0
    for one in given:
        width, height = SIZES[one.get("kind", "timeseries")]
        if x + width > COLUMNS or (x and height != tallest):
            x, y = 0, y + tallest
        found.append({"x": x, "y": y, "w": width, "h": height})
        x, tallest = x + width, height
    return found


def dashboard(name: str, given: dict) -> dict:
    """As Grafana reads it from a file. Which Prometheus it asks is chosen there."""
    panels = given["panels"]
    return {
        "uid": f"senex-{name}", "title": f"senex.trader: {given['title']}", "tags": ["senex.trader"], "schemaVersion": 39, "version": 1, "editable": True,
        "timezone": "utc", "time": {"from": "now-6h", "to": "now"}, "refresh": "1m",
        "templating": {"list": [{"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus", "hide": 0, "current": {}}]},
        "annotations": {"list": []}, "links": [],
        "panels": [panel(number, one, place) for number, (one, place) in enumerate(zip(panels, placed(panels), strict=True), 1)],
    }  # fmt: skip


def described() -> dict[str, dict]:
    """The description of all of them."""
    return yaml.safe_load((PLACE / "dashboards.yml").read_text(encoding="utf-8"))


def files() -> dict[Path, str]:
    """Each file with its content."""
    return {PLACE / f"{name}.json": json.dumps(dashboard(name, one), indent=1, ensure_ascii=False) + "\n" for name, one in described().items()}
