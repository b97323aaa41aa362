"""A converged host stays as it is: nothing changed, nothing restarted, nothing shown, and quickly."""

import os

import pytest
import yaml
from stack import ROOT, busy, within

NO_CHANGE_SECONDS = 15
FIRST_DEPLOY_SECONDS = 180


def test_the_first_deploy_was_quick(figure):
    measured = os.environ.get("SENEX_FIRST_DEPLOY_SECONDS")
    if not measured:
        pytest.skip("no first deploy in this run: SENEX_FIRST_DEPLOY_SECONDS is not set")
    figure("first deploy", float(measured))
    within(float(measured), FIRST_DEPLOY_SECONDS, "first deploy")


def test_a_second_run_changes_nothing(stack, figure):
    starts, workers, files = stack.starts(), stack.nginx(), stack.files()
    runs = []
    while not runs or (len(runs) == 1 and runs[0].wall > NO_CHANGE_SECONDS and not busy()):
        runs.append(stack.play().expect())
    best = min(runs, key=lambda run: run.wall)
    figure("no change: wall", best.wall)
    figure("no change: tasks executed", len(best.results), "tasks")
    for run in runs:
        assert run.stats["changed"] == 0, f"changed: {run.changed}, plan: {run.plan}"
        assert not run.plan
    assert stack.starts() == starts
    assert stack.nginx() == workers
    assert stack.files() == files
    assert not stack.sh("ls /var/lib/senex.trader/deploy.lock 2>/dev/null || true"), "what was locked for nothing is free"
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]
    assert stack.sh("stat -c '%a %U' /var/lib/senex.trader/collection; cat /var/lib/senex.trader/collection").split() == ["644", "root", version]
    within(best.wall, NO_CHANGE_SECONDS, "a second run")


def test_check_mode_on_a_converged_host_shows_nothing(stack, figure):
    starts, files = stack.starts(), stack.files()
    run = stack.play("--check", "--diff").expect()
    figure("no change, check and diff: wall", run.wall)
    assert run.stats["changed"] == 0, f"changed: {run.changed}, plan: {run.plan}"
    assert not run.shown
    assert stack.starts() == starts
    assert stack.files() == files


def test_check_mode_tells_a_change_and_makes_none(stack):
    """Were check mode blind, the test above would say nothing."""
    starts, files = stack.starts(), stack.files()
    variables = {"postgresql_settings": {"work_mem": "7MB"}, "senex_extra_environment": {"CANARY": "checked"}}
    run = stack.play("--check", "--diff", variables=variables).expect()
    assert any(".env" in line for line in run.plan), run.plan
    assert "restart postgres.service" in " ".join(run.plan)
    assert any("7MB" in str(shown.get("after")) for shown in run.shown), run.shown
    assert not any("checked" in str(shown) for shown in run.shown), "the .env is secret, and was shown"
    assert stack.starts() == starts
    assert stack.files() == files
