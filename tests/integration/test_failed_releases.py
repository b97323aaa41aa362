"""Releases that fail: the version from before serves, the lock is free, and the message says what went wrong."""

import contextlib
import os
import signal
import subprocess
import time

import pytest
from load import Load
from releases import SETTINGS, applied, deploy, records, release, unlocked, versions
from stack import LAB, ROOT, environment, wait


@pytest.fixture(scope="module")
def served(stack):
    stack.play(variables=SETTINGS, tags="nginx").expect()
    if versions(stack) != {"1"}:
        deploy(stack, "1").expect()
    yield stack
    if versions(stack) != {"1"}:
        deploy(stack, "1").expect()
    stack.play(tags="nginx").expect()


def refused(stack, play, *words):
    """The release failed with these words, version 1 serves, nothing is locked."""
    assert play.code != 0
    said = "\n".join(play.errors)
    for word in words:
        assert word in said, said[-3000:]
    assert versions(stack) == {"1"} and unlocked(stack)
    assert not stack.ssh("systemctl is-active senex-prober.service").stdout.startswith("active")
    assert stack.healthy()
    stack.task_runs()


@contextlib.contextmanager
def registry_stopped(_stack):
    subprocess.run([LAB, "run", "--", "podman", "stop", "--time", "1", "registry"], check=True, capture_output=True, timeout=60)
    try:
        yield
    finally:
        subprocess.run([LAB, "registry"], check=True, capture_output=True, timeout=120)


@contextlib.contextmanager
def registry_login_wrong(stack):
    place = "/opt/senex-trader/.config/containers/auth.json"
    stack.sh(f'cp -p {place} {place}.kept && sed -i \'s/"auth": *"[^"]*"/"auth": "bm9ib2R5Om5vdGhpbmc="/\' {place} && ! cmp -s {place} {place}.kept')
    try:
        yield
    finally:
        stack.sh(f"mv {place}.kept {place}")


@pytest.mark.parametrize(
    ("trouble", "tag", "words"),
    [
        (contextlib.nullcontext, "no-such-tag", ["django_image_tag", "no-such-tag cannot be pulled"]),
        (registry_stopped, "2", ["cannot be pulled", "registry.senex.test"]),
        (registry_login_wrong, "2", ["cannot be pulled", "senex_registry_login"]),
        (contextlib.nullcontext, "latest", ["django_image_tag", "pinned"]),
    ],
    ids=["no such tag", "registry down", "registry login", "latest"],
)
def test_an_image_that_does_not_come(served, trouble, tag, words):
    before = served.starts()
    served.user("podman", "image", "rm", "--ignore", "registry.senex.test:5000/senex/demo:2")
    with trouble(served):
        play = deploy(served, tag)
    refused(served, play, *words)
    assert served.moved(before) == []


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ("crash", ["web-1.service", "Last lines of web-1.service"]),
        ("broken", ["web-1.service did not come up", "Last lines of web-1.service"]),
        ("halfway", ["release.service", "migrate"]),
        ("sick", ["requests of the prober failed"]),
    ],
)
def test_an_image_that_does_not_serve(served, tag, words):
    """Crashes at once; never healthy; its migration fails half-way; healthy, but errors on traffic: users get version 1."""
    variables = {"django_start_timeout": 20} if tag == "broken" else {}
    with Load(served) as load:
        play = deploy(served, tag, **variables)
    refused(served, play, *words)
    newest = records(served)[-1]
    assert newest["result"] == "switched back" and newest["tag"] == tag and newest["reason"]
    if tag != "sick":  # that one has to be met by traffic to be known
        load.expect_none_failed()
    if variables:
        served.play(variables=SETTINGS, tags="django").expect()


def test_a_task_that_is_due_keeps_releases_away(served):
    before = served.starts()
    play = deploy(served, "2", release_window_tasks=["heartbeat"], release_window_minutes=5)
    refused(served, play, "release_window_tasks", "heartbeat in 0 min", "release_force=true")
    assert served.moved(before) == [] and records(served)[-1]["result"] == "refused"


def test_two_releases_at_once(served):
    """The second is told who is at it, and disturbs nothing."""
    command = served.command(playbook="playbooks/deploy.yml", tags="all", variables={**SETTINGS, "django_image_tag": "2"})
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        wait(lambda: not unlocked(served), 60, "the first release has the lock")
        second = deploy(served, "1")
        assert first.wait(timeout=300) == 0
    assert second.code != 0
    assert "a release is under way: deploy of 2 by" in second.errors[-1]
    assert versions(served) == {"2"} and unlocked(served)
    assert [one["result"] for one in records(served)][-1] == "succeeded"


@pytest.mark.parametrize(("tag", "step"), [("1", "web-1"), ("2", "celery-worker-next")])
def test_a_killed_deploying_machine(served, tag, step):
    """kill -9 of ansible-playbook; the next run takes over the lock, tells of it in the records, and ends well."""
    before, old = served.starts(), versions(served)
    command = served.command(playbook="playbooks/deploy.yml", tags="all", variables={**SETTINGS, "django_image_tag": tag})
    with Load(served) as load:
        run = subprocess.Popen(command, cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
        wait(lambda: began(served, step, before), 180, f"{step} begins", pause=0.1)
        os.killpg(run.pid, signal.SIGKILL)
        run.wait(timeout=30)
        time.sleep(2)
        assert not unlocked(served) and versions(served) <= old | {tag}
        deploy(served, tag).expect()
    load.expect_none_failed()
    assert versions(served) == {tag} and unlocked(served) and not served.inactive()
    assert [one["result"] for one in records(served)][-2:] == ["interrupted", "succeeded"]
    assert served.ssh("systemctl --user -M senex@ is-active celery-worker-next.service").stdout.strip() != "active"
    served.task_runs()


def began(stack, unit, before):
    shown = stack.ssh(f"systemctl --user -M senex@ show -p ActiveState,ActiveEnterTimestampMonotonic {unit}.service").stdout
    found = dict(line.split("=", 1) for line in shown.split())
    return found["ActiveState"] != "active" if unit in before else found["ActiveState"] in ("activating", "active")


def test_nothing_of_it_all_is_left(served):
    """After every failure: no half release in the records, the database as version 1 knows it, or 2 left it."""
    if versions(served) != {"1"}:
        release(served, "rollback", release_undo_migrations=True).expect()
    assert applied(served)[-1] in ("0002_heartbeat_schedule", "0003_row_note")
    assert {one["result"] for one in records(served)} <= {"succeeded", "switched back", "refused", "interrupted"}
