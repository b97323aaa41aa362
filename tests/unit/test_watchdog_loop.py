"""The loop with a host that misbehaves: what is counted, what is left alone."""

import time

import pytest
from watched import GOOD, Fake, config, host, settings

from senex_ops import checks_containers, checks_release, remediation, service  # isort: skip

SILENT = host.Answer(0, "no answer within 4 s", "", 4.0)


@pytest.fixture
def watchdog(monkeypatch, tmp_path):
    monkeypatch.setattr(checks_release, "LOCK", str(tmp_path / "deploy.lock"))
    monkeypatch.setattr(remediation, "PAUSE", str(tmp_path / "paused"))
    monkeypatch.setattr(remediation, "is_cpu_bound", lambda *_: False)
    made = service.Watchdog(settings(), config.Secrets(), Fake(), str(tmp_path), str(tmp_path))
    yield made
    made.pool.shutdown()


def fails(watchdog, unit, times, answer=SILENT):
    for now in range(times):
        watchdog._take_web(unit, answer, 1000 + now)


def ended(watchdog):
    """Wait for the restart under way."""
    if watchdog.cure:
        watchdog.cure[2].result(30)
        watchdog._take_cure(2000)
    return [words for words in watchdog.host.done if words[:1] == ("kill",) or words[:1] == ("systemctl",)]


def test_each_instance_is_a_figure(watchdog):
    """The loop asks each by itself, and not by the check of all."""
    watchdog._take_web("web-1.service", GOOD, 1000)
    fails(watchdog, "web-2.service", 1)
    found = {one.labels["unit"]: one.value for samples in watchdog.samples.values() for one in samples if one.name == "web_up"}
    assert found == {"web-1": True, "web-2": False}


def test_three_failures_restart_the_one_instance(watchdog):
    fails(watchdog, "web-1.service", 2)
    assert watchdog.cure is None
    fails(watchdog, "web-1.service", 1)
    assert ended(watchdog) == [("kill", "web-1"), ("systemctl", "user", "start", "web-1.service")]


def test_one_at_a_time(watchdog):
    fails(watchdog, "web-1.service", 3)
    fails(watchdog, "web-2.service", 3)
    assert len([words for words in ended(watchdog) if words[0] == "systemctl"]) == 1


@pytest.mark.parametrize("status", [400, 301, 404])
def test_an_answer_that_a_restart_does_not_change_restarts_nothing(watchdog, status):
    fails(watchdog, "web-1.service", 9, host.Answer(status))
    assert watchdog.cure is None
    assert watchdog.notices.open["web web-1"].told


def test_a_watchdog_without_cpu_counts_nothing(watchdog):
    """All probes fail because the asking is slow: its own answer is slow too."""
    fails(watchdog, "web-1.service", 2)
    watchdog._take_control(host.Answer(200, "", "", 3.0), 1000)
    fails(watchdog, "web-1.service", 5)
    fails(watchdog, "web-2.service", 5)
    assert watchdog.cure is None
    assert watchdog.notices.open == {}


def test_it_counts_again_when_it_has_recovered(watchdog, monkeypatch):
    watchdog._take_control(SILENT, 1000)
    later = time.monotonic() + 60
    monkeypatch.setattr(service.time, "monotonic", lambda: later)
    fails(watchdog, "web-1.service", 3)
    assert watchdog.cure is not None


def test_nginx_is_restarted_when_it_is_silent_and_an_instance_is_alive(watchdog):
    watchdog._take_web("web-1.service", GOOD, 1000)
    watchdog.host.answers[443] = host.Answer(0, "Connection refused")
    check = next(job for job in watchdog.jobs if job.name == "public")
    for now in range(3):
        watchdog._take_public(check.run(), 1000 + now)
    assert ended(watchdog) == [("systemctl", "system", "restart", "nginx.service")]


@pytest.mark.parametrize("status", [502, 503, 404, 301, 400])
def test_nginx_is_left_alone_when_it_answers(watchdog, status):
    watchdog.host.answers[443] = host.Answer(status)
    check = next(job for job in watchdog.jobs if job.name == "public")
    for now in range(9):
        watchdog._take_public(check.run(), 1000 + now)
    assert watchdog.cure is None
    assert watchdog.notices.open["public"].told


def test_nginx_is_left_alone_when_no_instance_lives(watchdog):
    for unit in ("web-1.service", "web-2.service"):
        watchdog._take_web(unit, host.Answer(503), 1000)
    watchdog.host.answers[443] = SILENT
    check = next(job for job in watchdog.jobs if job.name == "public")
    for now in range(9):
        watchdog._take_public(check.run(), 1000 + now)
    assert watchdog.cure is None


def test_a_dead_resolver_is_cured_and_no_instance_restarted(watchdog):
    watchdog.host.ended["inside web-1 getent"] = host.Ended(2, "", "")
    check = next(job for job in watchdog.jobs if job.name == "dns")
    for now in range(2):
        watchdog._take_dns(check.run(), 1000 + now)
    assert ended(watchdog) == []
    assert watchdog.host.done[-1] == ("revive", "net", "registry/of-postgres.service:1")


def test_podman_that_cannot_be_asked_is_no_dead_resolver(watchdog):
    watchdog.host.ended["inside web-1 getent"] = host.Ended(125, "", "Error: no container with name web-1")
    check = next(job for job in watchdog.jobs if job.name == "dns")
    for now in range(9):
        watchdog._take_dns(check.run(), 1000 + now)
    assert watchdog.cure is None


def test_a_database_that_is_down_restarts_no_web_instance(watchdog):
    check = next(job for job in watchdog.jobs if job.name == "ready")
    watchdog.host.answers[8001] = watchdog.host.answers[8002] = host.Answer(503, body='{"database": "OperationalError"}')
    for now in range(30):
        watchdog._take_ready(check.run(), 1000 + now)
    assert watchdog.cure is None
    assert "OperationalError" in watchdog.notices.open["application"].says


def test_what_cannot_be_cured_calls_somebody_once(watchdog):
    watchdog.parts["web-1"] = service.decide.Part("web-1", restarts=[500.0, 600.0, 700.0])
    for _ in range(3):
        fails(watchdog, "web-1.service", 3)
        ended(watchdog)
    assert len([line for line in watchdog.notices.lines if line.startswith("HELP")]) == 1


def test_the_limit_survives_a_new_start(watchdog):
    watchdog.parts["web-1"] = service.decide.Part("web-1", restarts=[500.0, 600.0, 700.0])
    watchdog._keep(watchdog.restarts())
    watchdog.save()
    watchdog.parts = {}
    watchdog.load()
    assert watchdog.parts["web-1"].restarts == [500.0, 600.0, 700.0]


def test_a_release_is_not_disturbed_by_news_of_what_it_restarts(watchdog):
    watchdog.release_until = 5000
    fails(watchdog, "web-1.service", 3)
    assert watchdog.notices.open == {}
    watchdog._tell("disk", [service.Finding("disk /", "FAIL", "full", "make room")], 1000, 1)
    assert list(watchdog.notices.open) == ["disk /"]


def test_a_check_that_breaks_is_said_and_ends_nothing(watchdog):
    watchdog.host.units = lambda *_: (_ for _ in ()).throw(OSError("the user manager does not answer"))
    job = next(job for job in watchdog.jobs if job.name == "units")
    for now in (1000, 1001):
        job.take(job.run(), now)
    assert "does not answer" in watchdog.notices.open["manager of the user"].says


def names_fail(watchdog, tmp_path, monkeypatch, programs):
    """Podman 4.9, and name resolution that failed twice."""
    monkeypatch.setattr(checks_containers, "SLIRP", str(tmp_path))
    watchdog.host.ended = {"inside web-1 getent": host.Ended(2, "", ""), "podman --version": host.Ended(0, "podman version 4.9.3", "")}
    watchdog.host.programs = programs
    jobs = {job.name: job for job in watchdog.jobs}
    for now in (1000, 1005):
        jobs["outside"].take(jobs["outside"].run(), now)
        jobs["dns"].take(jobs["dns"].run(), now)
    watchdog.cure[2].result(30)
    watchdog._take_cure(2000)
    return [words for words in watchdog.host.done if words[0] == "revive" or words[:3] == ("systemctl", "system", "restart")]


def test_names_that_fail_with_the_way_out_are_cured_by_the_user_manager(watchdog, tmp_path, monkeypatch):
    """A resolver that is brought back finds nothing while slirp4netns is gone, and Podman 4.9 never starts that again."""
    assert names_fail(watchdog, tmp_path, monkeypatch, ["conmon"]) == [("systemctl", "system", "restart", "user@987.service")]
    assert watchdog.notices.open["way out"].told


def test_names_that_fail_alone_are_cured_by_their_resolver(watchdog, tmp_path, monkeypatch):
    assert names_fail(watchdog, tmp_path, monkeypatch, ["conmon", "slirp4netns"]) == [("revive", "net", "registry/of-postgres.service:1")]


def test_the_way_out_alone_is_told_and_takes_nothing_down(watchdog, tmp_path, monkeypatch):
    monkeypatch.setattr(checks_containers, "SLIRP", str(tmp_path))
    watchdog.host.ended, watchdog.host.programs = {"podman --version": host.Ended(0, "podman version 4.9.3", "")}, ["conmon"]
    job = next(job for job in watchdog.jobs if job.name == "outside")
    for now in range(9):
        job.take(job.run(), 1000 + now)
    assert watchdog.cure is None and watchdog.notices.open["way out"].told
