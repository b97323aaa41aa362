"""A controller sleeps for an hour in the middle of an operation; its lock runs out, another controller takes over without a word and does its work. The
first one wakes up: it changes nothing any more, on no host and in no vault, and says who has the lock.

The hosts share the machine's clock, so it is the lock that is an hour older: its age is all that is ever asked.
"""

import shlex
import signal

import pytest
from operation import Attempt
from releases import HOLDER
from stack import AS_USER, HOME, wait
from stages import ONE, TWO, Moment

pytestmark = pytest.mark.faults
HOUR = 3600
OLDER = f"""
import json
lock = json.load(open("{HOLDER}"))
seconds = max({HOUR}, lock.get("lease") or 0) + 60
for clock in ("renewed", "uptime"):
    lock[clock] -= seconds
json.dump(lock, open("{HOLDER}", "w"))
"""
# All that an operation changes on a host: files, what runs and since when, databases, who serves
SEEN = f"""
find /etc/nginx /etc/systemd {HOME}/.config {HOME}/config /var/lib/senex.trader -type f -exec sha256sum {{}} + 2>/dev/null | sort -k 2
{AS_USER} podman ps --no-trunc --format '{{{{.Names}}}} {{{{.ID}}}} {{{{.StartedAt}}}}' | sort
ls {HOME}/data /run/senex.trader/out 2>/dev/null || true
if [ -d {HOME}/data/postgres ]; then {AS_USER} podman exec postgres psql -XAtU postgres -c 'select oid, datname from pg_database order by 1'; fi
"""
ASLEEP = [
    Moment("deploy", "web", "Replace the web instances", 1, "", TWO),
    Moment("rotate", "accept, web", "Update the web instances for this stage", 1, "", TWO),
    Moment("rotate", "refuse, serves", "Update PostgreSQL, Redis and backups for this stage", 3, "Put PostgreSQL in place", ONE),
    Moment("restore", "switch", "Swap the restored copy with the production data", 1, "", ONE),
    Moment("upgrade", "switch", "Copy the data and switch to the new cluster", 1, "", ONE),
]


def asleep(attempt, moment):
    """The run at its moment, stopped; whatever it had sent has come to its end, and its locks are an hour older."""
    pair = attempt.pair
    at = {"play": moment.play, "round": moment.round, "task": moment.task, "host": moment.host, "signal": int(signal.SIGSTOP)}
    run = attempt.begin(at)
    wait(lambda: pair.mark.exists() or run.process.poll() is not None, 240, "the moment")
    assert pair.mark.exists(), run.end().output[-3000:]
    attempt.no_module_runs()
    held = [pair.host(name) for name in pair.locked()]
    assert held, "it has no lock at this moment"
    for host in held:
        pair.inside(host, f"python3 -c {shlex.quote(OLDER)}")
    return run


def state(pair):
    return {host.name: pair.inside(host, SEEN).splitlines() for host in pair.hosts} | {"vault": pair.secrets()}


@pytest.mark.parametrize("moment", ASLEEP, ids=str)
def test_whoever_wakes_up_does_nothing_more(pair, moment):
    attempt = Attempt(pair, moment.operation)
    run = asleep(attempt, moment)
    try:
        # Somebody releases something else meanwhile, or gives the same command once more; nobody says that the first one is dead
        if moment.operation == "deploy":
            pair.play("deploy", postgresql_version=pair.major(), django_image_tag=attempt.other_tag()).expect()
        else:
            attempt.begin().end().expect()
        pair.ready(90)
        before = state(pair)
    finally:
        run.signal(signal.SIGCONT)
    run.end()
    print(run.output[-1500:])
    assert run.code != 0 and "lock of this release is gone" in run.said, run.output[-3000:]
    after = state(pair)
    assert after == before, {name: sorted(set(map(str, before[name])) ^ set(map(str, after[name])))[:20] for name in before if before[name] != after[name]}
    assert pair.locked() == []
    attempt.serves()
    attempt.nothing_is_lost()
