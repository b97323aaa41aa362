"""What the service user puts in root's way: root reads no secret through it, waits for nothing, and owns afterwards what it owned before."""

import json
import shlex
import subprocess
import time

import pytest
from stack import AS_USER, HOME

TRAP, SECRET = "/usr/local/lib/senex-trap", "/etc/senex-trader/trap"
WORD = "hunter2-of-root"
# Root asks for the units of role common once when it looks, and again when it is about to work, with the directories compared by then. That second time a link
# takes the place of the directory above the one that is missing
RACE = f"""
import os, time
UNITS = [b"ufw.service", b"fail2ban.service", b"unattended-upgrades.service", b"systemd-timesyncd.service"]
looks, last, end = {{}}, 0, time.monotonic() + 300
while time.monotonic() < end:
    there = [name for name in os.listdir("/proc") if name.isdigit()]
    looks = {{name: looks.get(name, 0) + 1 for name in there}}
    for name in [name for name in there if looks[name] < 50]:  # what is young may become another program yet
        try:
            words = open("/proc/" + name + "/cmdline", "rb").read()
        except OSError:
            continue
        if not words.startswith(b"systemctl\\0show\\0--property=ActiveState,UnitFileState") or words.split(b"\\0")[-2] not in UNITS:
            continue
        if last and time.monotonic() - last > 0.4:
            os.rename("{HOME}/.config", "{HOME}/.config.aside")
            os.symlink("{TRAP}", "{HOME}/.config")
            raise SystemExit
        last = time.monotonic()
raise SystemExit(1)
"""
KINDS = {"link": f"ln -s {SECRET}", "fifo": "mkfifo", "words": "echo hunter3-of-the-user >", "huge": "head -c 70000 /dev/zero >"}
# What leads root elsewhere, and what makes it wait; the others are tried in unit tests too
EACH_KIND = [pytest.param(kind, marks=[pytest.mark.faults] * (kind in ("words", "huge"))) for kind in KINDS]


@pytest.fixture(scope="module", autouse=True)
def grounds(stack):
    """A directory of root's in which nothing may happen, and a file that only root may read."""
    stack.sh(f"install -d -m 755 {TRAP} {TRAP}/user {TRAP}/containers; umask 077; echo {WORD} >{SECRET}")
    yield
    stack.sh(f"rm -rf {TRAP} {SECRET}")


def owned(stack):
    return stack.sh(f"find {TRAP} {SECRET} -printf '%p %U %G %m\\n' | sort")


def as_user(stack, script):
    return stack.sh(f"{AS_USER} bash -c {shlex.quote(script)}")


def play(stack, *options, tags="phase1", timeout=300):
    """A run that has to end; what it printed, whatever came of it."""
    run = stack.play(*options, tags=tags, timeout=timeout)
    assert WORD not in run.output, "a run showed what only root may read"
    return run


def back(stack):
    """The service user's directories as they were."""
    as_user(stack, f"cd {HOME}; test ! -L .config || {{ rm .config; mv .config.aside .config; }}; "
                   f"test ! -d .config/systemd.aside || {{ rm -rf .config/systemd; mv .config/systemd.aside .config/systemd; }}")  # fmt: skip


def test_a_link_in_the_place_of_a_directory_leads_root_nowhere(stack):
    """Root's directory has the mode that is asked for, so that one below it is all there is to make."""
    stack.sh(f"install -d -m 700 {TRAP}/right")
    before = owned(stack)
    as_user(stack, f"cd {HOME}/.config; mv systemd systemd.aside; ln -s {TRAP}/right systemd")
    try:
        run = play(stack, tags="common")
        after = owned(stack)
    finally:
        back(stack)
    assert after == before, f"root worked in a directory of its own for the user (exit {run.code}, {run.errors})"


@pytest.mark.parametrize("attempt", [0, *(pytest.param(number, marks=pytest.mark.faults) for number in (1, 2))])
def test_a_directory_that_becomes_a_link_leads_root_nowhere(stack, attempt):
    before = owned(stack)
    as_user(stack, f"mv {HOME}/.config/systemd {HOME}/.config/systemd.aside")
    racing = subprocess.Popen(stack.ssh_command(f"{AS_USER} timeout 120 python3 -c {shlex.quote(RACE)}"), stdin=subprocess.DEVNULL)
    try:
        time.sleep(2)
        run = play(stack, tags="common")
        after = owned(stack)
        print("exchanged" if racing.poll() == 0 else "no moment for it was seen")
    finally:
        as_user(stack, "pkill -u senex -f [s]enex-trap || true")
        racing.wait(timeout=150)
        back(stack)
    assert after == before, f"root worked in a directory of its own for the user (exit {run.code}, {run.errors})"


@pytest.mark.parametrize("kind", EACH_KIND)
def test_facts_neither_wait_nor_tell(stack, kind):
    as_user(stack, f"cd {HOME}; install -d data/spare config/spare/tls; {KINDS[kind]} data/spare/PG_VERSION; {KINDS[kind]} config/spare/tls/x.crt")
    try:
        said = stack.sh("timeout 30 /etc/ansible/facts.d/senex.fact", timeout=60)
        facts = json.loads(said)
        assert "hunter" not in said and f"{HOME}/data/spare" not in facts["postgresql_majors"] and f"{HOME}/data/postgres" in facts["postgresql_majors"]
        assert play(stack, tags="postgresql,nginx").expect().changed == []
    finally:
        as_user(stack, f"rm -rf {HOME}/data/spare {HOME}/config/spare")


@pytest.mark.parametrize("kind", EACH_KIND)
def test_a_version_of_postgresql_that_is_none_stops_the_run_and_tells_nothing(stack, kind):
    """The database goes on: it reads that file when it starts."""
    place, before = f"{HOME}/data/postgres", stack.starts()
    as_user(stack, f"cd {HOME}/data; podman unshare sh -c {shlex.quote(f'cd {place} && mv PG_VERSION aside && {KINDS[kind]} PG_VERSION')}")
    try:
        run = play(stack, tags="postgresql")
        assert run.code and run.errors and "hunter" not in run.output, run.output[-2000:]
        assert any("PG_VERSION" in error or "PostgreSQL" in error for error in run.errors), run.errors
    finally:
        as_user(stack, f"podman unshare sh -c {shlex.quote(f'cd {place} && rm -f PG_VERSION && mv aside PG_VERSION')}")
    assert stack.moved(before) == []


def test_status_and_watchdog_go_on(stack):
    planted = f"mkdir aside; mv dump.json redis.json aside; mkfifo dump.json; ln -s {SECRET} redis.json; echo 1 >'$(id).json'"
    as_user(stack, f"cd {HOME}/backups/status; {planted}; touch flood-{{1..300}}.json")
    try:
        said = stack.ssh("timeout 100 senex status --json", timeout=120)
        assert said.returncode in (0, 2) and WORD not in said.stdout
        found = {one["key"]: one["says"] for one in json.loads(said.stdout)["findings"]}
        assert found["backup dump"] == found["backup redis"] == "its status file cannot be read" and not [key for key in found if "$" in key or "flood" in key]
        assert "Result=success" in stack.sh("systemctl show -p Result senex-watchdog.service")
    finally:
        as_user(stack, f"cd {HOME}/backups/status; rm -f dump.json redis.json flood-*.json '$(id).json'; mv aside/*.json .; rmdir aside")


def test_a_good_host_has_nothing_to_do_afterwards(stack):
    assert play(stack).expect().changed == []
    stack.ready()
