"""A host of an earlier commit meets this one: it is converted by the next run, while people use it, and loses nothing."""

import time

import pytest
from releases import SETTINGS, deploy, records, release, versions
from stack import HOME
from traffic import Traffic

pytestmark = pytest.mark.faults
RATE = 100  # requests a second; all of it, hosts and this side, shares the processors of one machine
SOCKETS = 20
HELD = 1.5  # seconds that a request waits at least which comes when PostgreSQL is about to restart
ROWS = ("before the conversion", "still before")


def rows(stack):
    """Each row of the application, with what is in it."""
    query = "select id || ' ' || md5(sealed) from probe_row"
    return set(stack.user("podman", "exec", "postgres", "psql", "-XAtU", "senex", "-d", "senex", "-c", query).splitlines())


@pytest.fixture(scope="module")
def used(stack, earlier):
    """Rows, a file of a visitor, and room for the traffic; and what of it must still be there at the end."""
    for words in ROWS:
        stack.post("/api/rows/", {"text": words})
    stack.sh(f"echo kept >{HOME}/data/media/kept.txt && chown --reference={HOME}/data/media {HOME}/data/media/kept.txt")
    stack.play(root=earlier, inventory=earlier / "inventory/demo", variables=SETTINGS, tags="nginx").expect()
    stack.places, stack.rows = stack.data(), rows(stack)
    assert len(stack.rows) >= len(ROWS)
    stack.system = stack.sh(f"cat {HOME}/data/postgres/PG_VERSION; stat -c %i {HOME}/data/postgres/PG_VERSION")
    return stack


def under_traffic(stack, action, cut=0):
    """An action while people use the site, and nothing lost; what it did, and how long somebody waited at most."""
    with Traffic(stack, rate=RATE, sockets=SOCKETS, tasks_per_second=1, limit=600) as traffic:
        begin = time.monotonic()
        play = action().expect()
        time.sleep(max(0, 20 - (time.monotonic() - begin)))
    print(f"{play.wall:.1f} s; {traffic.result()}")
    traffic.expect_nothing_lost(least=15 * RATE, cut=cut)
    return play, traffic.result().slowest


def test_variables_of_then_are_refused_by_name(used, earlier):
    """Nothing has changed, and what takes their place is said."""
    starts = used.starts()
    play = used.play(variables=SETTINGS, inventory=earlier / "inventory/demo")
    assert play.code != 0 and play.changed == [] and used.starts() == starts
    assert [line for line in play.errors if "senex_tastytrade: is no input any more; senex_extra_environment took its place" in line], play.errors


def test_the_next_run_converts_it_while_people_use_it(used):
    """With an inventory whose variables were changed as the run has said; the vault is that of then."""
    # Its unit has changed, so nginx restarts, which ends every WebSocket: each is open again within the seconds of a release
    play, slowest = under_traffic(used, lambda: used.play(variables=SETTINGS, timeout=600), cut=SOCKETS)
    assert play.plan.index("reload nginx.service") < next(at for at, line in enumerate(play.plan) if line.startswith("restart postgres.service"))
    assert slowest > HELD
    assert {"postgres.service", "redis.service", "web-1.service", "celery-worker.service"} <= set(play.restarts()), play.plan
    used.ready(120)
    used.task_runs()


def test_it_is_converted_once(used):
    again = used.play(variables=SETTINGS).expect()
    assert again.changed == []


def test_nothing_of_what_was_there_is_gone(used):
    assert used.rows <= rows(used)
    assert used.sh(f"cat {HOME}/data/media/kept.txt") == "kept\n"
    assert used.system == used.sh(f"cat {HOME}/data/postgres/PG_VERSION; stat -c %i {HOME}/data/postgres/PG_VERSION"), "the database's files are others"
    assert used.places <= used.data(), "a data directory went, or has another owner or mode"


def test_a_release_and_the_way_back_on_the_converted_host(used):
    under_traffic(used, lambda: deploy(used, "2"))
    assert versions(used) == {"2"} and records(used)[-1]["result"] == "succeeded"
    under_traffic(used, lambda: release(used, "rollback", release_undo_migrations=True))
    assert versions(used) == {"1"}


def test_a_changed_setting_of_database_and_redis(used):
    """Each restarts, alone; requests and tasks wait for it."""
    settings = {"postgresql_settings": {"log_min_duration_statement": "5s"}, "redis_settings": {"slowlog-max-len": 64}}
    wanted = {"variables": {**SETTINGS, **settings}, "tags": "postgresql,redis"}
    play, slowest = under_traffic(used, lambda: used.play(**wanted))
    assert slowest > HELD
    assert play.restarts() == ["postgres.service", "redis.service"], play.plan
