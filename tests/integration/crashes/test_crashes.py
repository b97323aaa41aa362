"""What breaks comes back by itself: killed containers, a killed user manager, a killed playbook, a reboot."""

import json
import os
import re
import signal
import subprocess
import time

import pytest
from load import Load
from stack import APPLICATION, AS_USER, HOME, LAB, ROOT, UID, UNITS, WEB, busy, environment, wait, within

CONTAINERS = (*APPLICATION, "postgres", "redis")
RECOVERY_SECONDS, MANAGER_SECONDS, REBOOT_SECONDS, NETWORK_WAIT_SECONDS = 30, 60, 60, 10
# The lab's container engine writes them anew at each start of the host
OF_THE_LAB = {"/etc/hosts", "/etc/resolv.conf", "/etc/hostname"}
PATIENCE = 4  # a busy machine is waited for longer than the bound that counts on a quiet one


def rows(stack):
    return json.loads(stack.get("/api/rows/")[1])["count"]


def unacknowledged(stack):
    """Tasks that a worker has taken and not ended."""
    return int(stack.sh("senex redis-cli -n 2 hlen unacked").split()[-1])


def well(stack, unit, before):
    """A killed unit has another start, and is active: that is, its own health check has passed."""
    found = stack.show("ActiveState", "ActiveEnterTimestampMonotonic")[unit]
    return found["ActiveState"] == "active" and int(found["ActiveEnterTimestampMonotonic"]) > before[unit]


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_killed_container_comes_back(stack, figure, name):
    starts, count = stack.starts(), rows(stack)
    stack.post("/api/rows/", {})
    with Load(stack) as load:
        begin = time.monotonic()
        stack.sh(f"kill -9 {stack.main_pid(name)}")
        wait(lambda: well(stack, name, starts) and stack.healthy(), PATIENCE * RECOVERY_SECONDS, f"{name} and the site well again")
        taken = time.monotonic() - begin
        figure(f"{name} killed: well again after", taken)
    if name in WEB:
        figure(f"{name} killed: failed", len(load.failures), f"of {load.requests} requests")
        figure(f"{name} killed: slowest request", load.slowest)
        load.expect_none_failed()
        assert name in json.loads(stack.instance(WEB.index(name) + 1))["instance"]
    # On a machine without a free core a health check may run out of time, which is another matter
    assert stack.moved(starts) == [name] or busy(), "other units were drawn in"
    assert rows(stack) == count + 1, "a row that was acknowledged is lost"
    stack.task_runs()
    within(taken, RECOVERY_SECONDS, f"{name} well again")


def test_a_killed_user_manager_comes_back_with_everything(stack, figure):
    starts, count = stack.starts(), rows(stack)
    stack.post("/api/rows/", {})
    begin = time.monotonic()
    stack.sh(f"kill -9 $(systemctl show -p MainPID --value user@{UID}.service)")
    everything = {*UNITS} - {"nginx"}
    wait(lambda: set(stack.moved(starts)) == everything and not stack.inactive(), PATIENCE * MANAGER_SECONDS, "every unit anew")
    stack.ready()
    taken = time.monotonic() - begin
    figure("user manager killed: well again after", taken)
    assert rows(stack) == count + 1, "a row that was acknowledged is lost"
    stack.task_runs()
    within(taken, MANAGER_SECONDS, "everything well again")


ENV = f"{HOME}/.config/containers/systemd/.env"
# A run is killed when its files are written and nothing has restarted yet, and when instance 1 is on its way up
MOMENTS = {
    "files written": "[ $(stat -c %Y.%i $env) != $before ]",
    "first restart": f"[ $({AS_USER} systemctl --user is-active web-1.service) != active ]",
}
# With pipelining the remote side is a Python without arguments, and what it has called
KILL = r"""
    env=ENV; before=$(stat -c %Y.%i $env); end=$((SECONDS + 240))
    until MOMENT; do [ $SECONDS -lt $end ] || exit 1; sleep 0.05; done
    module=$(pgrep -u root -x -f '/usr/bin/python3[.0-9]*') || exit 1
    kill -9 $module $(pgrep -P $module); echo killed $module"""


def test_a_killed_playbook_is_finished_by_the_next(restored, figure):
    restored.parts = "django,celery"
    for moment in MOMENTS:
        killed_and_finished(restored, figure, moment)


def killed_and_finished(stack, figure, moment):
    settings = {"variables": {"senex_extra_environment": {"CANARY": f"killed at {moment}"}}, "tags": "django,celery"}
    with Load(stack, limit=400) as load:
        script = KILL.replace("ENV", ENV).replace("MOMENT", MOMENTS[moment])
        watcher = subprocess.Popen(stack.ssh_command(script), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        time.sleep(1)
        run = subprocess.Popen(stack.command(**settings), cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
        said = watcher.communicate(timeout=300)[0]
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        assert "killed" in said, f"{moment}: the moment did not come"
        second = stack.play(**settings).expect()
        assert second.changed, f"{moment}: the first run had finished: nothing was interrupted"
        for number in (1, 2):
            assert json.loads(stack.instance(number))["canary"] == f"killed at {moment}"
    figure(f"playbook killed, {moment}: failed", len(load.failures), f"of {load.requests} requests")
    load.expect_none_failed()
    assert not stack.inactive(), moment


def test_a_reboot_brings_everything_back(stack, figure):
    count, files = rows(stack), {path: digest for path, digest in stack.files().items() if path not in OF_THE_LAB}
    stack.post("/api/rows/", {})
    begun, queued = unacknowledged(stack), 3
    stack.sh(f"senex manage shell -c 'from probe.tasks import sleep; [sleep.delay(seconds=8) for _ in range({queued})]'")
    wait(lambda: unacknowledged(stack) >= begun + queued, 30, "tasks that run")
    subprocess.run([LAB, "stop", stack.name], check=True, capture_output=True, timeout=120)
    begin = time.monotonic()
    subprocess.run([LAB, "start", stack.name], check=True, capture_output=True, timeout=120)
    stack.ready(PATIENCE * REBOOT_SECONDS)
    taken = time.monotonic() - begin
    figure("reboot: everything healthy after", taken)
    figure("reboot: first task done after", taken + stack.task_runs())
    shown = stack.user("systemctl", "--user", "show", "podman-user-wait-network-online.service", "-p",
                       "Result,InactiveExitTimestampMonotonic,ActiveEnterTimestampMonotonic")  # fmt: skip
    waited = dict(line.split("=", 1) for line in shown.splitlines())
    seconds = (int(waited["ActiveEnterTimestampMonotonic"]) - int(waited["InactiveExitTimestampMonotonic"])) / 1e6
    figure("reboot: waited for the network", seconds)
    assert waited["Result"] == "success"
    assert 0 <= seconds <= NETWORK_WAIT_SECONDS
    within(taken, REBOOT_SECONDS, "everything healthy after a reboot")
    assert rows(stack) == count + 1
    wait(lambda: unacknowledged(stack) == begun, 10, "tasks that ended at the shutdown: the network of the containers went before them otherwise")
    # The lab's hosts keep their journal in memory: this is what PostgreSQL found as it started
    assert re.findall("database system was (shut down|interrupted)", stack.sh("journalctl --boot --no-pager --identifier=postgres")) == ["shut down"]
    assert "-P INPUT DROP" in stack.sh("iptables -S INPUT"), "the firewall is down"
    assert "0 loaded units" in stack.sh("systemctl list-units --failed --no-pager; true") + stack.user(
        "systemctl", "--user", "list-units", "--failed", "--no-pager"
    )
    after = stack.play().expect()
    assert after.stats["changed"] == 0, f"a hand was needed: {after.changed} {after.plan}"
    assert {path: digest for path, digest in stack.files().items() if path not in OF_THE_LAB} == files
