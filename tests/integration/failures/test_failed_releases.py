"""Releases that fail: the version from before serves, the lock is free, and the message says what went wrong."""

import contextlib
import json
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from load import Load
from own_host import KEPT
from releases import HOLDER, SETTINGS, applied, deploy, records, release, unlocked, versions
from stack import HOME, ROOT, UID, environment, wait, within


@pytest.fixture(scope="module")
def served(stack):
    stack.play(variables=SETTINGS, tags="nginx").expect()
    if versions(stack) != {"1"}:
        deploy(stack, "1").expect()
    undo = "alter table probe_row drop column if exists note; delete from django_migrations where app = 'probe' and name = '0003_row_note'"
    stack.user("podman", "exec", "postgres", "psql", "-XqAt", "-U", "senex", "-d", "senex", "-c", undo)  # where a test before failed half-way
    yield stack
    if KEPT:
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
def registry_away(stack):
    """For this host alone: other tests pull meanwhile."""
    route = f"unreachable {stack.sh('getent ahostsv4 registry.senex.test').split()[0]}/32"
    stack.sh(f"ip route add {route}")
    try:
        yield
    finally:
        stack.sh(f"ip route del {route}")


@contextlib.contextmanager
def registry_login_wrong(stack):
    place = "/opt/senex-trader/.config/containers/auth.json"
    stack.sh(f'cp -p {place} {place}.kept && sed -i \'s/"auth": *"[^"]*"/"auth": "bm9ib2R5Om5vdGhpbmc="/\' {place} && ! cmp -s {place} {place}.kept')
    try:
        yield
    finally:
        stack.sh(f"mv {place}.kept {place}")


STORAGE = f"{HOME}/.local/share/containers/storage/overlay"
# A small file system, as full as can be, over the one that holds the layers; those that are there are mounted into it. So nothing has to stop, and
# what a pull leaves behind shows. Podman has its own view of this directory, and gets it there too.
WITHIN = f"nsenter --mount --target $(cat /run/user/{UID}/libpod/tmp/pause.pid)"
FILL = f"""set -e; cd {STORAGE}; full=/run/storage-full; mkdir $full
mount -t tmpfs -o size=1M,mode=0700,uid={UID},gid={UID} full $full; cp -p .has* $full
for layer in *; do mkdir $full/$layer; mount --bind $layer $full/$layer; done
head -c 1M /dev/zero >$full/.filled 2>/dev/null || true; truncate -s -16K $full/.filled
mount --rbind $full {STORAGE}; {WITHIN} mount --rbind $full {STORAGE}"""
# One by one: umount -R would take Podman's own mounts below with them
EMPTY = f"""for layer in $(ls /run/storage-full); do {WITHIN} umount {STORAGE}/$layer; done; {WITHIN} umount {STORAGE}
umount -R {STORAGE}; umount -R /run/storage-full; rmdir /run/storage-full"""


@contextlib.contextmanager
def storage_full(stack):
    stack.user("podman", "image", "rm", "--ignore", "registry.senex.test:5000/senex/demo:2")
    layers = stack.sh(f"ls -A {STORAGE}")
    try:
        stack.sh(FILL)
        yield
        # Podman takes away what it had of a layer as its pull ends
        wait(lambda: stack.sh(f"ls -A {STORAGE}").replace(".filled\n", "") == layers, 20, "no half of the image is left", pause=1)
    finally:
        stack.sh(EMPTY)


@pytest.mark.parametrize(
    ("trouble", "tag", "words"),
    [
        (contextlib.nullcontext, "no-such-tag", ["django_image_tag", "no-such-tag cannot be pulled"]),
        pytest.param(registry_away, "2", ["cannot be pulled", "registry.senex.test"], marks=pytest.mark.faults),
        pytest.param(registry_login_wrong, "2", ["cannot be pulled", "senex_registry_login"], marks=pytest.mark.faults),
        (storage_full, "2", ["cannot be pulled", "the disk is full", f"{STORAGE} has 0 of 1 MB free", "senex-prune-images"]),
    ],
    ids=["no such tag", "registry down", "registry login", "disk full"],
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
        pytest.param("crash", ["web-1.service did not come up", "Last lines of web-1.service"], marks=pytest.mark.faults),
        ("halfway", ["release.service", "migrate"]),
        ("sick", ["requests of the traffic probe failed"]),
    ],
)
def test_an_image_that_does_not_serve(served, tag, words):
    """Crashes at once; its migration fails half-way; healthy, but errors on traffic: users get version 1. Never healthy: see changes/test_changes."""
    with Load(served) as load:
        play = deploy(served, tag)
    refused(served, play, *words)
    newest = records(served)[-1]
    assert newest["result"] == "switched back" and newest["tag"] == tag and newest["reason"]
    if tag != "sick":  # that one has to be met by traffic to be known
        load.expect_none_failed()


def test_a_task_that_is_due_keeps_releases_away(served):
    before = served.starts()
    play = deploy(served, "2", release_window_tasks=["heartbeat"], release_window_minutes=5)
    refused(served, play, "release_window_tasks", "heartbeat in 0 min", "release_force=true")
    assert served.moved(before) == [] and records(served)[-1]["result"] == "refused"


# Where ansible-playbook is killed, as the host shows it; and whether the module at work dies with it, as it does when the host reboots. One that lives
# goes on to its end, so after the one of Beat the next release finds everything replaced.
AT_CELERY = f"""grep -q '"step": "celery"' {HOLDER}"""
MODULE = "/usr/bin/python3[.0-9]*"  # with pipelining an interpreter without arguments
PATIENCE = 240  # seconds for a release to come to a moment, on a machine that does other things
UNIT = "systemctl --user -M senex@ show -P ActiveState {}.service | grep -qE"
KILLED = {
    "image": ("pgrep -f '[p]odman pull --quiet .*demo:2'", False),
    "plan": ("pgrep -f '[p]odman run .*--name release-plan'", False),
    "dump": ("pgrep -x pg_dump", True),
    "migrations": (f"{UNIT.format('release')} ^activating", True),
    "web-2": (f"{UNIT.format('web-2')} -v ^active", True),
    "stand-in": (f"{UNIT.format('celery-worker-next')} ^active", True),
    "beat": (f"{UNIT.format('celery-beat')} -v ^active", False),
    "verify": (f"{AT_CELERY} && ! pgrep -u root -xf '{MODULE}'", False),  # between two modules
    "record": (f"{AT_CELERY} && ! systemctl is-active senex-prober.service", False),
}


def started(stack, tag):
    """A deploy on its way, in a process group of its own."""
    command = stack.command(playbook="playbooks/deploy.yml", tags="all", variables={**SETTINGS, "django_image_tag": tag})
    return subprocess.Popen(command, cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL, start_new_session=True)  # fmt: skip


def killed(stack, moment, die):
    """Deploy 2, kill -9 when the host shows the moment; seconds that took."""
    before = stack.ssh(f"cat {HOLDER}").stdout
    former = json.loads(before)["id"] if before else "none"
    # Looked for on the host: some of these moments last a third of a second. A module that is to die stands still until it does
    halt = f"; pkill -STOP -u root -xf '{MODULE}'" if die else ""
    seen = f"until grep -qv {former} {HOLDER} && {{ {moment}; }}; do [ $SECONDS -lt {PATIENCE} ] || exit 1; sleep 0.02; done"
    watch = f"{{ {seen}{halt}; }} >/dev/null 2>&1"
    begin = time.monotonic()
    with subprocess.Popen(stack.ssh_command(watch), stdin=subprocess.DEVNULL) as watcher, started(stack, "2") as run:
        try:
            wait(lambda: watcher.poll() is not None or run.poll() is not None, PATIENCE, moment, pause=0.01)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)
            code = run.wait(timeout=30)
            watcher.kill()
    assert code == -signal.SIGKILL, f"the release ended with {code} before {moment}"
    if die:
        stack.sh(f"pkill -KILL -u root -xf '{MODULE}'")
    return time.monotonic() - begin


@pytest.mark.parametrize("moments", [("migrations", "web-2"), pytest.param(tuple(KILLED), marks=pytest.mark.faults)], ids=["two", "all"])
def test_a_killed_deploying_machine(served, moments):
    """kill -9 at one moment after the other of the same release, each time deployed again: users notice nothing, and the last one ends well.

    Another release meanwhile is told who is at it, and disturbs nothing.
    """
    stack, history = served, len(records(served))
    stack.user("podman", "image", "rm", "--ignore", "registry.senex.test:5000/senex/demo:2")
    with Load(stack, rate=20, limit=1500) as load:
        for name in moments:
            moment, die = KILLED[name]
            print(f"killed at {name} after {killed(stack, moment, die):.1f} s")
            assert not unlocked(stack) and stack.healthy(), name
        dead = stack.sh(f"cat {HOLDER}")
        with started(stack, "2") as last:
            wait(lambda: stack.sh(f"cat {HOLDER}") != dead, 60, "the last release has the lock")
            with ThreadPoolExecutor() as pool:  # side by side, for the last one may be over when one of them is
                site = pool.submit(stack.play, variables={"postgresql_settings": {"work_mem": "7MB"}})
                second = pool.submit(deploy, stack, "1").result()
                site = site.result()
            assert last.wait(timeout=300) == 0
    assert second.code != 0 and "an operation is under way: deploy of 2 by" in second.errors[-1]
    assert site.code != 0 and "deploy of 2 by" in site.errors[-1] and "Nothing was changed." in site.errors[-1] and site.stats["changed"] == 0
    load.expect_none_failed()
    assert {version for *_, version in load.answers} == {"1", "2"}
    assert versions(stack) == {"2"} and unlocked(stack) and not stack.inactive()
    new = records(stack)[history:]
    assert {name for one in new for name in one.get("migrations", [])} == {"probe.0003_row_note"}
    assert [one["result"] for one in new] == ["interrupted"] * len(moments) + ["succeeded"]
    assert new[-1]["previous"]["tag"] == "1", "the way back is to what ran before the first of them"
    # The stand-in may finish its task when the release has ended
    wait(lambda: not {"celery-worker-next", "release-plan"} & set(stack.user("podman", "ps", "-a", "--format", "{{.Names}}").split()), 60, "both are gone")
    assert not stack.sh(f"ls {HOME}/backups/postgresql | grep part || true")
    out = set(stack.sh("ls /run/senex.trader/out").split())  # flags of servers that are there no more mean nothing
    assert not out & {"127.0.0.1:8001", "127.0.0.1:8002"}
    assert not stack.ssh("systemctl is-active senex-prober.service").stdout.startswith("active")
    stack.task_runs()
    asked = release(stack, "rollback")
    assert asked.code != 0 and "probe.0003_row_note" in asked.errors[-1], "what a release migrated before it was killed is not known"
    release(stack, "rollback", release_undo_migrations=True).expect()


@pytest.mark.faults
def test_one_instance_alone(served, figure):
    """Nobody takes over while it restarts: what is asked then fails, and nothing else does. The release is not switched back for that."""
    alone = {"senex_web_instances": 1}
    deploy(served, "2").expect()
    try:
        release(served, "scale", **alone).expect()
        with Load(served, rate=50) as load:
            release(served, "rollback", release_undo_migrations=True, **alone).expect()
    finally:
        release(served, "scale").expect()
    left = max(second for second, *_, version in load.answers if version == "2")
    back = min(second for second, *_, version in load.answers if version == "1")
    figure("one instance alone: failed", len(load.failures), f"of {load.requests} requests at 50/s")
    figure("one instance alone: nobody answers", back - left)
    assert load.failures and not [one for one in load.failures if not left - 0.5 <= one[0] <= back + 0.5], (left, back, load.failures[:3], load.failures[-3:])
    within(back - left, 10, "one instance alone: nobody answers")
    assert versions(served) == {"1"} and records(served)[-1]["result"] == "succeeded" and records(served)[-1]["failed"] > 3


def test_nothing_of_it_all_is_left(served):
    """After every failure: no half release in the records, and the database as version 1 knows it."""
    assert versions(served) == {"1"} and applied(served)[-1] == "0002_heartbeat_schedule"
    assert {one["result"] for one in records(served)} <= {"succeeded", "switched back", "refused", "interrupted"}
