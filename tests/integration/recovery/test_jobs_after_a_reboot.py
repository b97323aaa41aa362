"""A machine that was off at the hour of its backups makes up for them when it is back, under the same timers."""

import json
import subprocess

from stack import AS_USER, HOME, LAB, UID, wait

JOBS = {"backup-dump": "dump", "backup-redis": "redis", "backup-media": "media", "pitr-base": "base", "pitr-drill": "drill"}
TIMERS = f"{HOME}/.config/systemd/user"
STAMPS = f"{HOME}/.local/share/systemd/timers"


def statuses(stack):
    return {job: json.loads(stack.sh(f"cat {HOME}/backups/status/{job}.json")) for job in JOBS.values()}


def test_missed_jobs_are_made_up_for(stack):
    wait(lambda: statuses(stack)["base"]["result"] == "ok", 180, "the first base backup")
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
        runs = stack.sh(f"journalctl -b -q --no-pager -o cat _UID={UID} | grep -cE '^Starting (backup-(dump|redis|media)|pitr-(base|drill)).service' || true")
        assert int(runs) == len(JOBS), "once each"
    finally:
        stack.sh(f"rm -rf {' '.join(f'{TIMERS}/{timer}.timer.d' for timer in JOBS)}; {AS_USER} systemctl --user daemon-reload")
    stack.ready(240)
    listed = stack.user("systemctl", "--user", "list-timers", "--no-legend", "--output=json")
    coming = {one["unit"]: one["next"] for one in json.loads(listed)}
    assert all(coming.get(f"{timer}.timer") for timer in JOBS), coming
