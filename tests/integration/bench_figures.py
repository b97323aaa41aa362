"""`make bench`: the figures of docs/figures.json, each the median of several runs. Not collected by `make test`, which has its own bounds."""

import os
import subprocess
import time

import figures
import pytest
from releases import SETTINGS, deploy, release, versions
from stack import LAB, ROOT, Stack, environment, wait
from traffic import Traffic

RUNS = int(os.environ.get("SENEX_BENCH_RUNS", "3"))
LEAST, RATE = 10000, 200
SITE = "ansible-playbook site.yml --tags phase1"


@pytest.fixture
def keep():
    """See figures.py."""
    return figures.keep


@pytest.fixture(scope="module")
def open_door(stack):
    """The stack with room for the load of one address, on version 1."""
    stack.play(variables=SETTINGS, tags="nginx").expect()
    if versions(stack) != {"1"}:
        deploy(stack, "1").expect()
    yield stack
    stack.play(tags="nginx").expect()


def unchanged(stack):
    play = stack.play().expect()
    assert play.stats["changed"] == 0, play.changed
    return play.wall


def test_no_change(stack, keep):
    keep("no_change_seconds", [unchanged(stack) for _ in range(RUNS)], 10, SITE)


def loaded(stack, action):
    """(wall time, failed requests) of an action under load."""
    with Traffic(stack, rate=RATE) as traffic:
        begin = time.monotonic()
        play = action().expect()
        time.sleep(max(0, LEAST / RATE + 2 - (time.monotonic() - begin)))
    found = traffic.result()
    print(found)
    assert found.requests >= LEAST and not found.tasks.lost
    return play.wall, len(found.failures)


def test_a_value_of_the_environment(open_door, keep):
    pairs = [
        loaded(open_door, lambda number=number: open_door.play(variables={**SETTINGS, "senex_extra_environment": {"CANARY": str(number)}}))
        for number in range(RUNS)
    ]
    open_door.play(variables=SETTINGS, tags="django,celery").expect()
    keep("config_change_seconds", [wall for wall, _ in pairs], 15, f"{SITE}, one value changed, {RATE} requests/s")
    keep("config_change_failed_requests", [failed for _, failed in pairs], 0, f"{SITE}, one value changed, {RATE} requests/s", "requests")


def rollback_that_keeps(stack):
    deploy(stack, "2").expect()
    return release(stack, "rollback", release_keep_migrations=True).expect().wall


def test_releases(open_door, keep):
    there, back, quiet = [], [], []
    for _ in range(RUNS):
        there.append(loaded(open_door, lambda: deploy(open_door, "2")))
        back.append(loaded(open_door, lambda: release(open_door, "rollback", release_undo_migrations=True)))
    for _ in range(RUNS):
        quiet.append((deploy(open_door, "2").expect().wall, release(open_door, "rollback", release_undo_migrations=True).expect().wall))
    kept = [rollback_that_keeps(open_door) for _ in range(RUNS)]
    deploy(open_door, "2").expect()
    open_door.sh("senex manage migrate --no-input probe 0002", timeout=60)  # no record knows of the migration any more
    release(open_door, "rollback").expect()
    command = f"playbooks/%s.yml, {RATE} requests/s"
    keep("deploy_seconds", [wall for wall, _ in there], 30, command % "deploy")
    keep("deploy_failed_requests", [failed for _, failed in there], 0, command % "deploy", "requests")
    keep("rollback_seconds", [wall for wall, _ in back], 15, command % "rollback")
    keep("rollback_failed_requests", [failed for _, failed in back], 0, command % "rollback", "requests")
    keep("deploy_quiet_seconds", [wall for wall, _ in quiet], 30, "playbooks/deploy.yml, no load")
    keep("rollback_quiet_seconds", kept, 15, "playbooks/rollback.yml, no load, no migration undone")
    keep("rollback_undo_quiet_seconds", [wall for _, wall in quiet], 15, "playbooks/rollback.yml -e release_undo_migrations=true, no load")


def killed(stack, name="web-1"):
    before = stack.starts()[name]
    stack.sh(f"kill -9 {stack.main_pid(name)}")
    begin = time.monotonic()
    wait(lambda: stack.starts()[name] > before and not stack.inactive() and stack.healthy(), 60, f"{name} is well again")
    return time.monotonic() - begin


def test_a_killed_instance(stack, keep):
    keep("crash_recovery_seconds", [killed(stack) for _ in range(RUNS)], 10, "kill -9 of web-1's main process")


def hung(stack, name="web-1"):
    begin = time.monotonic()
    stack.sh(f"kill -STOP {stack.main_pid(name)}")
    wait(lambda: stack.instance(1) and not stack.inactive() and stack.healthy(), 180, f"{name} answers again")
    return time.monotonic() - begin


def test_a_hung_instance(stack, keep):
    values = []
    for _ in range(RUNS):
        # One that was restarted a minute ago would have to wait
        stack.sh("systemctl stop senex-watchdog.service; rm -f /var/lib/senex-watchdog/*.json; systemctl start senex-watchdog.service")
        wait(lambda: "web-1" in stack.instance(1), 60, "web-1 answers")
        values.append(hung(stack))
    keep("watchdog_cure_seconds", values, 45, "kill -STOP of web-1's main process")


def rebooted(stack):
    subprocess.run([LAB, "stop", stack.name], check=True, capture_output=True, timeout=120)
    begin = time.monotonic()
    subprocess.run([LAB, "start", stack.name], check=True, capture_output=True, timeout=120)
    stack.ready(120)
    return time.monotonic() - begin


def test_a_reboot(stack, keep):
    keep("reboot_seconds", [rebooted(stack) for _ in range(RUNS)], 60, "the host stopped and started")


def first_deploy(name="bench"):
    """Seconds of the first run on a bare host of its own."""
    subprocess.run([LAB, "up", name], check=True, capture_output=True, timeout=300)
    try:
        address = subprocess.run([LAB, "run", "--", "podman", "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name],
                                 check=True, capture_output=True, text=True, timeout=60).stdout.strip()  # fmt: skip
        command = Stack.command_at(address)
        begin = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stdout[-3000:]
        return time.monotonic() - begin
    finally:
        subprocess.run([LAB, "down", name], check=False, capture_output=True, timeout=120)


def test_a_first_deploy(keep):
    keep("first_deploy_seconds", [first_deploy() for _ in range(RUNS)], 180, f"{SITE} on a bare host, images in a registry near by")
