"""`make soak`: moderate load for half an hour, in which nothing restarts and nobody is told anything. Not collected by `make test`."""

import json
import os
import time

import pytest
from releases import SETTINGS
from stack import APPLICATION, AS_USER, HOME, wait
from traffic import Traffic

MINUTES = float(os.environ.get("SENEX_SOAK_MINUTES", "30"))
RATE, SOCKETS, TASKS = 20, 10, 1
LOG = "/var/log/senextrader/watchdog.log"
SAID = "restarted because", "given up", "opened: ", "tells: "


@pytest.fixture(scope="module")
def calm(stack):
    """Open for the load of one address; the first copies are made, and what the watchdog had to say of a new host is said."""
    stack.play(variables=SETTINGS, tags="nginx").expect()
    first = f"cat {HOME}/backups/status/base.json"
    wait(lambda: json.loads(stack.sh(first))["result"] == "ok", 300, "the first base backup", pause=5)
    quiet = f"test $(( $(date +%s) - $(stat -c %Y {LOG}) )) -ge 90"
    wait(lambda: stack.ssh(quiet).returncode == 0, 600, "a minute and a half without a word in the watchdog's log", pause=5)
    yield stack
    stack.play(tags="nginx").expect()


def counts(stack):
    """Restarts of every unit as systemd counts them, and who the watchdog is."""
    units = " ".join(f"{name}.service" for name in (*APPLICATION, "postgres", "redis", "pitr-receive"))
    user = stack.sh(f"{AS_USER} systemctl --user show -p Id,NRestarts,InvocationID {units}")
    return user + stack.sh("systemctl show -p Id,NRestarts,InvocationID nginx.service senex-watchdog.service")


def resident(stack):
    """Memory of the watchdog in kB: half an hour shows a leak that a test does not."""
    return int(stack.sh("ps -o rss= -p $(systemctl show -p MainPID --value senex-watchdog.service)"))


def test_half_an_hour_of_nothing(calm, figure):
    stack, end = calm, time.monotonic() + 60 * MINUTES
    before, starts, lines = counts(stack), stack.starts(), int(stack.sh(f"wc -l <{LOG}"))
    memory = [resident(stack)]
    with Traffic(stack, rate=RATE, sockets=SOCKETS, tasks_per_second=TASKS, limit=60 * MINUTES + 60) as traffic:
        while time.monotonic() < end:
            time.sleep(min(60, max(0, end - time.monotonic())))
            memory.append(resident(stack))
    found = traffic.result()
    said = stack.sh(f"tail -n +{lines + 1} {LOG}").splitlines()
    failures = [line for line in said if ": failure " in line]
    print(f"{found}\nwatchdog: {memory[0]} kB, then {memory[-1]} kB; {len(failures)} single failures; it wrote:\n" + "\n".join(said))
    figure("soak: minutes", MINUTES, "min")
    for name, value in (("requests", found.requests), ("failed", len(found.failures)), ("tasks", found.tasks.sent), ("echoes", found.sockets.echoes)):
        figure(f"soak: {name}", value, "")
    figure("soak: watchdog's failed probes", len(failures), "")
    figure("soak: watchdog's memory grew by", memory[-1] - memory[0], "kB")
    traffic.expect_nothing_lost(least=int(0.95 * RATE * 60 * MINUTES))
    assert stack.moved(starts) == [], "units restarted"
    assert counts(stack) == before
    # Of a new host: a copy that is made for the first time, by its timer, ends "has not run yet"
    said = [line for line in said if any(word in line for word in SAID) and "was: has not run yet" not in line]
    assert said == [], "the watchdog did or told something"
    # What Python keeps for later counts too; a leak of the loop, twice a second, would be far beyond
    assert memory[-1] - memory[len(memory) // 2] < 10_000, f"the watchdog grows: {memory}"
