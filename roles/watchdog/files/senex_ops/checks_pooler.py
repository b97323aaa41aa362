"""The check of PgBouncer, which the application of this host finds its database at."""

from __future__ import annotations

import json

from .findings import Check, Finding, Sample, fail, ok, warn

CONSOLE = "/usr/local/lib/senex-trader/pgbouncer-console"  # role pgbouncer's
FIGURES = {
    "pooler_clients": ("cl_active", "cl_waiting"),
    "pooler_clients_waiting": ("cl_waiting",),
    "pooler_servers": ("sv_active", "sv_idle", "sv_used"),
}
LONG = 5  # seconds for which a client may wait for a connection to the database


def read_pooler(host, config) -> dict:
    """Its pools and its state, as its own console shows them."""
    found = {}
    for what in ("pools", "state"):
        done = host.run(CONSOLE, "--json", "show", what, timeout=10)
        if done.code:
            return {"silent": done.said}
        found[what] = json.loads(done.out)
    return found


def judge_pooler(data: dict, config, now: float) -> list[Finding]:
    """It answers, is not paused, and nobody waits for long."""
    if "silent" in data:
        return [fail("pooler", f"does not answer: {data['silent']}", "senex logs pgbouncer; senex restart pgbouncer")]
    if {"key": "paused", "value": "yes"} in data["state"]:
        return [fail("pooler", "is paused, so the application waits", "senex pgbouncer resume, where no restore or upgrade is under way")]
    pools = [row for row in data["pools"] if row["database"] != "pgbouncer"]
    clients = sum(int(row["cl_active"]) + int(row["cl_waiting"]) for row in pools)
    servers = sum(int(row["sv_active"]) + int(row["sv_idle"]) + int(row["sv_used"]) for row in pools)
    waiting, longest = sum(int(row["cl_waiting"]) for row in pools), max((int(row["maxwait"]) for row in pools), default=0)
    if waiting and longest >= LONG:
        says = f"{waiting} clients wait for a connection to the database, the longest for {longest} s; {servers} are open"
        return [warn("pooler", says, "is the database well? senex psql on its host; else raise pgbouncer_pool_size; senex pgbouncer show pools")]
    return [ok("pooler", f"{clients} clients on {servers} connections to the database")]


def measure_pooler(data: dict, now: float) -> list[Sample]:
    """By database: clients, who of them waits and for how long, connections to PostgreSQL."""
    rows: dict[str, list[dict]] = {}
    for row in data.get("pools", []):
        rows.setdefault(row["database"], []).append(row)
    found = []
    for name, pools in rows.items():
        of = {"database": name}
        for figure, columns in FIGURES.items():
            found.append(Sample(figure, sum(int(row[column]) for row in pools for column in columns), of))
        found.append(Sample("pooler_wait_seconds", max(int(row["maxwait"]) for row in pools), of))
    return found


CHECKS = [Check("pooler", read_pooler, judge_pooler, lambda config: config.pooler, measure=measure_pooler)]
