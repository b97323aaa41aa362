"""One screen for a fleet."""

import pytest
from ansible_collections.senex.trader.plugins.filter.status import failure_reason, status_lines

GOOD = {"key": "memory", "level": "OK", "says": "90 %", "do": ""}
BAD = {"key": "disk /", "level": "FAIL", "says": "95 % full", "do": "make room"}


def host(name, *findings):
    return {"host": name, "environment": "test", "findings": list(findings)}


def test_a_single_host_shows_everything():
    assert status_lines([host("a", GOOD, BAD)]) == ["a (test): 1 FAIL, 1 OK", "  OK    memory: 90 %", "  FAIL  disk /: 95 % full", "        -> make room"]


def test_a_fleet_shows_what_is_not_well():
    lines = status_lines([host("b", GOOD, BAD), host("a", GOOD)])
    assert lines == ["a (test): 1 OK", "b (test): 1 FAIL, 1 OK", "  FAIL  disk /: 95 % full", "        -> make room"]


def test_a_fleet_shows_versions_and_ages_of_images():
    """Nothing but an update brings minor releases, so whoever looks sees them."""
    data = [{"key": key, "level": "OK", "says": says, "do": ""} for key, says in (("database", "PostgreSQL 15.20 answers"), ("image postgres", "59 d old"))]
    lines = status_lines([host("b", GOOD), host("a", *data, {**GOOD, "key": "database cluster"})])
    assert lines == ["a (test): 3 OK", "  OK    database: PostgreSQL 15.20 answers", "  OK    image postgres: 59 d old", "b (test): 1 OK"]


def test_nobody_answered():
    assert "operator_cli" in status_lines([])[0]


ITEMS = {
    "msg": "One or more items failed",
    "results": [{"failed": True, "msg": "web-2 did not come up"}, {"msg": "fine"}, {"unreachable": True, "msg": "gone"}],
}


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ({"failed": True, "msg": "no room"}, "no room"),
        (ITEMS, "web-2 did not come up; gone"),
        ({**ITEMS, "_ansible_no_log": True}, "One or more items failed"),
        ({**ITEMS, "results": [{"failed": True, "msg": "PASSWORD", "_ansible_no_log": True}]}, "One or more items failed"),
        ({"failed": True}, "see the task that failed"),
        ({"msg": "", "results": "what a module returned"}, "see the task that failed"),
        ("a file of tasks cannot be read", "a file of tasks cannot be read"),
    ],
)
def test_why_a_task_failed(result, reason):
    assert failure_reason(result) == reason
