"""A release with the site closed, on several hosts: what comes before what, and what becomes of the page when something fails."""

import pytest
from simulated import Hosts
from test_operations_unreachable import NEW, OLD, THREE

# What a release of this kind does on one host is in the folder failures
pytestmark = pytest.mark.faults
STEPS = """

def plan(user, container, script):
    stub_trip.at("plan")
    return {"pending": [{"name": f"a.{number}", "unsafe": [f"a.{number} breaks it"], "notes": [], "atomic": True} for number in (1, 2)], "due": {}}


def undo(user, container, script):
    names = json.loads(container["environment"]["PLAN_UNDO"])
    stub_trip.at(f"undo {' '.join(names)}")
    if os.path.exists(os.path.join(os.environ["STUB_AT"], "..", "fails-undo")):
        return {"undone": [], "back": [], "left": names, "failed": "a.1 cannot be undone"}
    return {"undone": names, "back": [], "left": [], "failed": ""}
"""
# nginx is not there
PAGE = """
from ansible_collections.senex.trader.plugins.module_utils import stub_trip

DIRECTORY = os.environ.get("STUB_AT", DIRECTORY)
notes.__defaults__ = close.__defaults__ = reopen.__defaults__ = (DIRECTORY,)


def _not_shown(target):
    stub_trip.at("page")
    return ""


def _requests_end(seconds):
    pass
"""
CLOSED = ("-e", "release_maintenance=true")


@pytest.fixture
def hosts(tmp_path):
    made = Hosts(tmp_path, THREE)
    utils = made.tree / "plugins/module_utils/release"
    for name, text in (("release_steps", f"\n\nimport os{STEPS}"), ("maintenance", PAGE)):
        with open(utils / f"{name}.py", "a", encoding="utf-8") as handle:
            handle.write(text)
    return made


def closed(hosts):
    return [host for host in hosts.names if (hosts.place / host / "maintenance.on").exists() or (hosts.place / host / "stopped.on").exists()]


def test_nothing_runs_beside_the_migrations_and_the_page_goes_last(hosts):
    before = hosts.running()
    assert hosts.deploy("2").returncode != 0 and "a.1 breaks it" in hosts.said and closed(hosts) == []
    assert hosts.deploy("2", *CLOSED).returncode == 0, hosts.said
    log = hosts.log_of_points()
    places = [next(place for place, line in enumerate(log) if word in line) for word in (" page", " stop ", "data dump", "django 2", " start ")]
    assert places == sorted(places), log
    assert max(place for place, line in enumerate(log) if " stop " in line) < log.index("data dump"), log
    assert hosts.runs() == NEW and hosts.running() == before and closed(hosts) == [] and hosts.locked() == []
    assert "the site was closed for" in hosts.said and all(results[-1] == "succeeded" for results in hosts.results().values())


def test_a_failure_undoes_its_migrations_before_the_previous_release_serves(hosts):
    before = hosts.running()
    hosts.trip("two", "django 2", "fail")
    assert hosts.deploy("2", *CLOSED).returncode != 0
    log = hosts.log_of_points()
    assert log.index("one undo a.2 a.1") < log.index("one django 1"), log
    assert hosts.runs() == OLD and hosts.running() == before and closed(hosts) == [] and hosts.locked() == [], hosts.said
    assert "Its migrations were undone: a.2, a.1." in hosts.said and "serves, as before. The site was closed for" in hosts.said, hosts.said
    assert all(results == ["switched back"] for results in hosts.results().values())


def test_one_that_fails_before_any_migration_undoes_none(hosts):
    before = hosts.running()
    hosts.trip("data", "dump", "fail")
    assert hosts.deploy("2", *CLOSED).returncode != 0
    assert not [line for line in hosts.log_of_points() if " undo " in line], hosts.log_of_points()
    assert hosts.runs() == OLD and hosts.running() == before and closed(hosts) == [] and hosts.locked() == [], hosts.said


def test_the_page_stands_until_a_release_with_the_site_closed_ends_well(hosts):
    (hosts.place / "fails-undo").touch()
    hosts.trip("two", "django 2", "fail")
    assert hosts.deploy("2", *CLOSED).returncode != 0
    assert "The maintenance page stands, and nothing is served" in hosts.said and "a.1 cannot be undone" in hosts.said, hosts.said
    assert "serves, as before" not in hosts.said and closed(hosts) == THREE["nginx"] and hosts.locked() == []
    assert hosts.running()["work"] == [] and all(results == ["not switched back"] for results in hosts.results().values())
    hosts.back()
    assert hosts.deploy("2").returncode != 0 and "the site is closed" in hosts.said and closed(hosts) == THREE["nginx"], hosts.said
    assert hosts.deploy("2", *CLOSED).returncode == 0, hosts.said
    assert hosts.runs() == NEW and closed(hosts) == [] and hosts.running()["work"] == ["celery-worker.service"]
