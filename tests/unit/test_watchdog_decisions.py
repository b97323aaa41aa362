"""When a part is restarted, and when it is left alone: the truth table, with the clock in the test's hand."""

import json

import pytest
from watched import Fake, config, host, settings

from senex_ops import checks_release, decide, remediation  # isort: skip

LIMITS = config.Restart(pause=300, per_hour=3)
ACTIVE = decide.Situation("active")


def part(failures=3, restarts=()):
    return decide.Part("web-1", failures=failures, says="no answer", restarts=list(restarts))


@pytest.mark.parametrize(
    ("known", "situation", "what"),
    [
        (part(2), ACTIVE, decide.WAIT),
        (part(3), ACTIVE, decide.RESTART),
        (part(3), decide.Situation("failed"), decide.RESTART),
        (part(3), decide.Situation("inactive"), decide.RESTART),
        (part(9), decide.Situation("activating"), decide.WAIT),
        (part(9), decide.Situation("deactivating"), decide.WAIT),
        (part(9), decide.Situation(decide.GONE), decide.WAIT),
        (part(9), decide.Situation("active", release=True), decide.WAIT),
        (part(9), decide.Situation("active", paused=True), decide.WAIT),
        (part(9), decide.Situation("inactive", maintenance=True), decide.WAIT),
        (part(9), decide.Situation("active", starved=True), decide.WAIT),
        (part(3, [9_800]), ACTIVE, decide.WAIT),
        (part(3, [9_600]), ACTIVE, decide.RESTART),
        (part(3, [9_000, 9_600]), ACTIVE, decide.WAIT),
        (part(3, [9_000, 9_300]), ACTIVE, decide.RESTART),
        (part(3, [7_000, 8_000, 9_000]), ACTIVE, decide.ESCALATE),
        (part(3, [5_000, 5_100, 9_600]), ACTIVE, decide.RESTART),
        (part(3, [20_000, 20_001, 20_002]), ACTIVE, decide.RESTART),
    ],
)
def test_table(known, situation, what):
    assert decide.decide(known, 10_000, 3, LIMITS, situation).what == what


def test_a_day_of_a_part_that_no_restart_cures():
    """Every five seconds it fails: never more than the limit in any hour, and the pauses grow."""
    known, done = decide.Part("web-1"), []
    for now in range(0, 86_400, 5):
        known.failed(now, "no answer")
        if decide.decide(known, now, 3, LIMITS, ACTIVE).what == decide.RESTART:
            known.restarts.append(now)
            known.restarted(now, now)
            done.append(now)
    assert done[0] == 10
    assert [later - one for one, later in zip(done[:3], done[1:3], strict=False)] == [300, 600]
    assert all(sum(start < moment <= start + 3600 for moment in done) <= 3 for start in range(0, 86_400, 60))


def test_a_single_failure_now_and_then_restarts_nothing():
    known = decide.Part("web-1")
    for now in range(0, 86_400, 5):
        known.passed() if now % 15 == 0 else known.failed(now, "no answer")
        assert decide.decide(known, now, 3, LIMITS, ACTIVE).what == decide.WAIT


def test_an_hour_without_restarts_allowed_only_calls_somebody():
    assert decide.decide(part(3), 10_000, 3, config.Restart(per_hour=0), ACTIVE).what == decide.ESCALATE


@pytest.fixture
def here(monkeypatch, tmp_path):
    monkeypatch.setattr(checks_release, "LOCK", str(tmp_path / "deploy.lock"))
    monkeypatch.setattr(remediation, "PAUSE", str(tmp_path / "paused"))
    return Fake(), tmp_path


CURE = remediation.Remediation("web-1", "user", "web-1.service", "web-1")


def test_a_hung_container_is_killed_and_its_unit_started(here):
    fake, _ = here
    outcome = remediation.attempt(fake, settings(), part(), CURE, False, 10_000)
    assert outcome.good
    assert fake.done == [("kill", "web-1"), ("systemctl", "user", "start", "web-1.service")]


def test_one_that_is_down_is_restarted_without_a_kill(here):
    fake, _ = here
    fake.states["web-1.service"] = {"ActiveState": "failed"}
    assert remediation.attempt(fake, settings(), part(), CURE, False, 10_000).good
    assert fake.done == [("systemctl", "user", "restart", "web-1.service")]


def test_one_that_a_playbook_took_away_is_not_started(here):
    fake, _ = here
    fake.states["web-1.service"] = {"ActiveState": "inactive", "LoadState": "not-found"}
    outcome = remediation.attempt(fake, settings(), part(), CURE, False, 10_000)
    assert outcome.decision.what == decide.WAIT and "no such unit" in outcome.decision.why
    assert fake.done == []


@pytest.mark.parametrize(("renewed", "what"), [(9_000, decide.WAIT), (8_000, decide.RESTART)])
def test_a_release_holds_restarts_until_its_lock_is_stale(here, renewed, what):
    fake, path = here
    (path / "deploy.lock").write_text(f'{{"renewed": {renewed}}}')
    assert remediation.attempt(fake, settings(), part(), CURE, False, 10_000).decision.what == what


@pytest.mark.parametrize(("lock", "what"), [({"passing": True}, decide.RESTART), ({"lease": 21600}, decide.WAIT)], ids=["site.yml", "a restore elsewhere"])
def test_whose_lock_it_is_decides(here, lock, what):
    """A restore stops the application on hosts where no step of its own renews the lock; site.yml restarts only what it changes."""
    fake, path = here
    (path / "deploy.lock").write_text(json.dumps({"renewed": 8_000, **lock}))
    assert remediation.attempt(fake, settings(), part(), CURE, False, 10_000).decision.what == what
    (path / "deploy.lock").write_text(json.dumps({"renewed": 10_000, **lock}))
    assert remediation.attempt(fake, settings(), part(), CURE, False, 10_000).decision.what == what


def test_pause_holds_restarts_until_it_is_over(here):
    fake, path = here
    (path / "paused").write_text('{"until": 10500}')
    assert remediation.attempt(fake, settings(), part(), CURE, False, 10_000).decision.what == decide.WAIT
    assert remediation.attempt(fake, settings(), part(), CURE, False, 10_600).decision.what == decide.RESTART
    assert not (path / "paused").exists()


def test_nginx_is_not_stopped_when_its_configuration_would_not_start(here):
    fake, _ = here
    fake.ended["systemd-run"] = host.Ended(1, "", "unknown directive")
    cure = remediation.Remediation("nginx", "system", "nginx.service", test=("nginx", "-t"))
    outcome = remediation.attempt(fake, settings(), part(), cure, False, 10_000)
    assert outcome.decision.what == decide.ESCALATE
    assert "unknown directive" in outcome.decision.why
    assert not [words for words in fake.done if words[0] == "systemctl"]


def test_an_instance_that_works_hard_gets_more_patience(here, monkeypatch):
    fake, _ = here
    monkeypatch.setattr(remediation, "is_cpu_bound", lambda *_: True)
    cure = remediation.Remediation("web-1", "user", "web-1.service", "web-1", patience=4)
    assert remediation.attempt(fake, settings(), part(4), cure, False, 10_000).decision.what == decide.WAIT
    assert remediation.attempt(fake, settings(), part(12), cure, False, 10_000).decision.what == decide.RESTART


def test_a_user_manager_that_does_not_answer_is_no_reason_to_restart(here):
    fake, _ = here

    def units(*_):
        raise OSError("the user manager does not answer")

    fake.units = units
    assert remediation.attempt(fake, settings(), part(), CURE, False, 10_000).decision.what == decide.WAIT


@pytest.mark.parametrize(
    ("text", "waits"),
    [("maintenance\nweb-1.service\ncelery-worker.service\n", True), ("web-1.service\ncelery-worker.service\n", False), ("maintenance\nweb-1.service\n", False)],
    ids=["of a release in maintenance", "of another operation", "another unit"],
)
def test_what_a_release_in_maintenance_stopped_is_known_by_its_list(tmp_path, text, waits):
    (tmp_path / "list").write_text(text)
    assert remediation.in_maintenance("celery-worker.service", str(tmp_path / "list")) is waits
    assert not remediation.in_maintenance("celery-worker.service", str(tmp_path / "none"))
