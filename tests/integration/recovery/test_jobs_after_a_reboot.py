"""A machine that was off at the hour of its backups makes up for them when it is back, under the same timers."""

import json
import re
import subprocess

import pytest
from stack import AS_USER, HOME, LAB, UID, wait

pytestmark = pytest.mark.faults
JOBS = {
    "backup-dump": "dump", "backup-redis": "redis", "backup-media": "media", "backup-offsite": "offsite", "pitr-base": "base", "pitr-drill": "drill",
}  # fmt: skip
TIMERS = f"{HOME}/.config/systemd/user"
STAMPS = f"{HOME}/.local/share/systemd/timers"


def statuses(stack):
    """Of those with an hour, and of the one that goes by the clock of the machine."""
    jobs = (*JOBS.values(), "offsite-wal")
    text = stack.sh(f"cd {HOME}/backups/status && for job in {' '.join(jobs)}; do cat $job.json; echo ,; done")
    return {one["job"]: one for one in json.loads(f"[{text.rstrip().rstrip(',')}]")}


@pytest.mark.parametrize("job", ["offsite", "offsite-wal"])
def test_not_twice_at_once(stack, storage, job):
    done = stack.ssh(f"{AS_USER} flock {HOME}/backups/status/.{job}.lock {HOME}/bin/backup {job} --wait 1")
    assert done.returncode and f"another backup of {job} is under way" in done.stderr


# A restic of a certain number, as of before a boot, in the middle of a copy
CUT = f"""#!/bin/sh
exec 3<>/run/lab-fifo
echo $(($1 - 1)) >/proc/sys/kernel/ns_last_pid
{HOME}/bin/backup restic backup --stdin --host elsewhere <&3 &
wait"""


def test_a_lock_is_no_matter_whoever_has_the_number_of_its_restic_now(stack, storage):
    """As after a power cut. restic alone would ask the other process, by SIGHUP, and then wait for it."""

    def locks():
        return stack.sh("senex backup restic list locks --no-lock --quiet").split()

    def cut(identity):
        # One of the timer's runs may have gone meanwhile
        return re.search(rf'"pid": {number}\b', stack.ssh(f"senex backup restic cat lock {identity} --no-lock --quiet").stdout)

    stack.sh("senex backup offsite", timeout=300)  # begins the repository where none was sent yet
    stack.sh(f"mkfifo -m 666 /run/lab-fifo; cat >/run/lab-cut <<'END'\n{CUT}\nEND\nchmod 755 /run/lab-cut")
    stack.sh("systemd-run --quiet --unit=lab-other --uid=senex sleep infinity")
    number = stack.sh("systemctl show --property=MainPID --value lab-other").strip()
    try:
        stack.sh(f"systemd-run --quiet --unit=lab-cut sh -c '{AS_USER} podman unshare unshare --pid --fork --kill-child /run/lab-cut {number}'")
        wait(lambda: any(map(cut, locks())), 60, "a lock with that number")
        stack.sh("pkill -KILL -f '[r]estic .*--host elsewhere'")
        wait(lambda: stack.ssh("pgrep -f '[r]estic .*--host elsewhere'").returncode == 1, 10, "its end")
        assert any(map(cut, locks()))
        stack.sh(f"{AS_USER} timeout 150 {HOME}/bin/backup offsite", timeout=180)
        assert not any(map(cut, locks()))
        assert stack.sh("systemctl show --property=MainPID --value lab-other").strip() == number, "another process got a signal"
    finally:
        stack.ssh("systemctl stop lab-other lab-cut; systemctl reset-failed lab-other lab-cut; rm -f /run/lab-fifo /run/lab-cut")


def test_missed_jobs_are_made_up_for(stack, storage):
    stack.sh("senex pitr base --first", timeout=300)
    # Put off by minutes at random, which a test does not wait for; and off since before the last run of the weekly one
    for timer in JOBS:
        drop_in = f"{TIMERS}/{timer}.timer.d"
        stack.user("sh", "-c", f"mkdir -p {drop_in} && printf '[Timer]\\nRandomizedDelaySec=0\\n' >{drop_in}/at-once.conf")
    try:
        before = statuses(stack)
        stack.sh(f"{AS_USER} systemctl --user stop {' '.join(f'{timer}.timer' for timer in JOBS)}")
        stack.user("touch", "-d", "9 days ago", *(f"{STAMPS}/stamp-{timer}.timer" for timer in JOBS))
        subprocess.run([LAB, "stop", stack.name], check=True, capture_output=True, timeout=120)
        subprocess.run([LAB, "start", stack.name], check=True, capture_output=True, timeout=120)
        wait(lambda: all(one["finished"] != before[job]["finished"] for job, one in statuses(stack).items()), 300, "every job's run", pause=2)
        after = statuses(stack)
        assert {job: (one["result"], one["error"]) for job, one in after.items()} == {job: ("ok", None) for job in after}
        units = "|".join(JOBS)
        runs = stack.sh(f"journalctl -b -q --no-pager -o cat _UID={UID} | grep -cE '^Starting ({units}).service' || true")
        assert int(runs) == len(JOBS), "once each"
    finally:
        stack.sh(f"rm -rf {' '.join(f'{TIMERS}/{timer}.timer.d' for timer in JOBS)}; {AS_USER} systemctl --user daemon-reload")
    stack.ready(240)
    listed = stack.user("systemctl", "--user", "list-timers", "--no-legend", "--output=json")
    coming = {one["unit"]: one["next"] for one in json.loads(listed)}
    assert all(coming.get(f"{timer}.timer") for timer in JOBS), coming
