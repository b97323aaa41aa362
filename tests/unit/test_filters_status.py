"""One screen for a fleet."""

from ansible_collections.senex.trader.plugins.filter.status import status_lines

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
