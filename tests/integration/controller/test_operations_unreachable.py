"""Releases, restores and upgrades whose hosts stop answering, whose controller is killed, or whose lock another one takes: the playbooks themselves, over
hosts that are directories."""

import pytest
from simulated import Hosts

THREE = {
    "postgresql": ["data"], "redis": ["data"], "web": ["one", "two"], "celery": ["work"], "celery_beat": ["work"], "nginx": ["one"], "backup": ["data"],
    "watchdog": ["data"],
}  # fmt: skip
OLD, NEW = {"one": "1", "two": "1"}, {"one": "2", "two": "2"}


@pytest.fixture
def hosts(tmp_path):
    return Hosts(tmp_path, THREE)


@pytest.mark.faults
def test_one_of_two_web_hosts_is_lost_and_the_other_one_is_taken_back(hosts):
    """Its answer does not come when it has the newer image already. The next run from here puts all in order."""
    hosts.trip("two", "django 2", "lost")
    assert hosts.deploy().returncode != 0
    assert hosts.runs() == {"one": "1", "two": "2"} and hosts.runs("celery") == {"work": "1"}
    results = hosts.results()
    assert results["one"] == results["data"] == results["work"] == ["not switched back"] and results["two"] == []
    assert hosts.locked() == ["two"] and not (hosts.place / "one/prober").exists()
    for words in ("two, web: two does not answer", "NOT switched back", "two: nothing was recorded, and its lock is left"):
        assert words in hosts.said, hosts.said
    hosts.back()
    assert hosts.deploy().returncode == 0, hosts.said
    assert hosts.runs() == NEW and hosts.runs("celery") == {"work": "2"} and hosts.locked() == []
    before = hosts.results()
    assert hosts.deploy("2", "-e", "senex_image_tag=2").returncode == 0 and "runs already everywhere" in hosts.said, hosts.said
    assert hosts.results() == before and hosts.locked() == []


@pytest.mark.faults
def test_a_host_that_missed_the_end_of_a_release_gets_its_record_from_the_others(hosts):
    """It has the newer image, and is off the network when that is recorded. The next run finds all as it is to be, and no two hosts tell two stories."""
    hosts.trip("one", "prober stops", "lost", whom="two")
    assert hosts.deploy().returncode != 0
    assert "2 serves, and not every host has its record" in hosts.said and hosts.runs() == NEW and hosts.locked() == ["two"], hosts.said
    hosts.back()
    assert hosts.deploy("2", "-e", "senex_image_tag=2").returncode == 0 and "runs already everywhere" in hosts.said, hosts.said
    assert hosts.locked() == [] and all(results == ["succeeded"] for results in hosts.results().values()), hosts.results()


def test_a_release_whose_lock_another_one_has_taken_leaves_that_ones_image(hosts):
    """This controller slept while the first host came up; by now another release has begun and ended well."""
    hosts.trip("one", "django 2", "taken over")
    assert hosts.deploy().returncode != 0
    assert hosts.runs() == {"one": "3", "two": "3"} and hosts.runs("celery") == {"work": "3"}
    assert "the lock of this release is gone" in hosts.said and "Another one has taken the lock" in hosts.said, hosts.said
    assert all(results == ["interrupted", "succeeded"] for results in hosts.results().values()), hosts.results()


@pytest.mark.faults
def test_a_restore_starts_what_stopped_where_the_others_are_lost(hosts):
    hosts.trip("two", "stop web-1.service", "lost")
    assert hosts.play("restore.yml", "-e", "restore_dump=newest", "-e", "restore_confirm=true").returncode != 0
    assert "data prepare" in hosts.log_of_points() and "data switch" not in hosts.log_of_points(), "nothing is exchanged below one that may still write"
    running = hosts.running()
    assert running["one"] == ["web-1.service"] and running["work"] == ["celery-worker.service"] and running["two"] == []
    assert hosts.locked() == ["two"] and "two does not answer" in hosts.said and "Nothing was exchanged." in hosts.said, hosts.said
    hosts.back()
    assert hosts.play("restore.yml", "-e", "restore_dump=newest", "-e", "restore_confirm=true").returncode == 0, hosts.said
    assert hosts.running() == {**running, "two": ["web-1.service"]} and "data switch" in hosts.log_of_points() and hosts.locked() == []


@pytest.mark.parametrize(("playbook", "words"), [
    ("deploy.yml", ["-e", "django_image_tag=2"]),
    ("restore.yml", ["-e", "restore_dump=newest", "-e", "restore_confirm=true"]),
])  # fmt: skip
def test_a_limit_that_leaves_out_hosts_is_refused_by_their_names(hosts, playbook, words):
    assert hosts.play(playbook, *words, "--limit", "two").returncode != 0
    assert "--limit: this run leaves out data, one, work" in " ".join(hosts.said.split()), hosts.said
    assert hosts.runs() == OLD and hosts.locked() == [] and hosts.log_of_points() == []


@pytest.mark.faults
def test_an_upgrade_starts_what_stopped_and_leaves_the_old_cluster(hosts):
    hosts.trip("two", "stop web-1.service", "lost")
    assert hosts.play("upgrade_postgresql.yml", "-e", "upgrade_confirm=true").returncode != 0
    steps = [line for line in hosts.log_of_points() if " upgrade " in line]
    assert steps == ["data upgrade prepare", "data upgrade undo"], hosts.said
    running = hosts.running()
    assert running["one"] == ["web-1.service"] and running["work"] == ["celery-worker.service"] and running["two"] == []
    assert hosts.locked() == ["two"] and "The upgrade failed: two does not answer" in hosts.said, hosts.said
    hosts.back()
    assert hosts.play("upgrade_postgresql.yml", "-e", "upgrade_confirm=true").returncode == 0, hosts.said
    steps = [line.split()[-1] for line in hosts.log_of_points() if " upgrade " in line][2:]
    assert steps == ["prepare", "switch", "settle", "done"] and hosts.running() == {**running, "two": ["web-1.service"]} and hosts.locked() == []


@pytest.mark.faults
def test_checksums_that_cannot_be_enabled_leave_no_application_standing(hosts):
    (hosts.place / "fails-enable").touch()
    running = hosts.running()
    assert hosts.play("checksums.yml", "-e", "checksums_confirm=true").returncode != 0
    assert hosts.running() == running and hosts.locked() == []
    assert "No data checksums were enabled, or not all serves: enable ended with" in hosts.said, hosts.said
    hosts.back()
    assert hosts.play("checksums.yml", "-e", "checksums_confirm=true").returncode == 0, hosts.said
    steps = [line.split()[-1] for line in hosts.log_of_points() if " checksums " in line]
    assert steps == ["enable", "enable", "done"] and hosts.running() == running and hosts.locked() == []
    assert "Cluster 7 has data checksums." in hosts.said, hosts.said


@pytest.mark.faults
def test_a_database_that_is_lost_during_the_exchange_leaves_no_application_standing(hosts):
    (hosts.place / "loses-switch").touch()
    assert hosts.play("restore.yml", "-e", "restore_dump=newest", "-e", "restore_confirm=true").returncode != 0
    assert hosts.running() == {"data": [], "one": ["web-1.service"], "two": ["web-1.service"], "work": ["celery-worker.service"]}
    assert "data does not answer" in hosts.said and hosts.locked() == ["data"], hosts.said


@pytest.mark.faults
def test_a_release_that_is_killed_is_taken_over_by_the_next(hosts):
    """The controller ends when the worker has the newer image, before anything is recorded."""
    hosts.trip("work", "celery 2", "killed")
    assert hosts.deploy().returncode != 0 and hosts.locked() == hosts.names
    hosts.back()
    assert hosts.deploy().returncode == 0, hosts.said
    assert hosts.runs() == NEW and hosts.locked() == [] and all(results == ["interrupted", "succeeded"] for results in hosts.results().values())
