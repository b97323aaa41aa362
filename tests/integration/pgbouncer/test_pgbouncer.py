"""The application reaches its database through PgBouncer."""

import json
import shlex
from pathlib import Path

from stack import AS_USER

CLIENT = Path(__file__).with_name("client.py").read_text(encoding="utf-8")
POOL = 25


def client(stack, *words):
    """What clients in a web instance get."""
    return json.loads(stack.sh(f"{AS_USER} podman exec -i web-1 python3 -c {shlex.quote(CLIENT)} {shlex.join(map(str, words))}", timeout=300))


def test_a_second_run_changes_nothing(stack):
    play = stack.converge()
    assert play.changed == [] and play.restarts() == []


def test_ten_thousand_prepared_queries(stack):
    assert client(stack, "prepared", 10000) == {"right": 10000, "errors": {}}


def test_five_hundred_clients_on_few_connections(stack):
    found = client(stack, "crowd", 500)
    assert found["served"] == 500 and found["errors"] == {} and 1 < found["servers"] <= POOL, found


def test_the_instances_go_through_it(stack):
    stack.ready()
    with_pooler = stack.sh(f"{AS_USER} podman exec web-1 python3 -c 'import os; print(os.environ[\"DB_HOST\"])'")
    assert with_pooler.strip() == "pgbouncer"
    rows = json.loads(stack.sh("senex pgbouncer --json show stats"))
    assert next(int(row["total_xact_count"]) for row in rows if row["database"] == "senex") > 10000
