"""The disk is full at each step of a dump, a base backup, a restore and a release's end: the site serves, no row is lost, the reason is told, and the same
command does it once there is room."""

import json
import time

import pytest
from disks import filled_at, full
from releases import HOLDER, deploy, records, unlocked, versions
from stack import AS_USER, HOME, wait

pytestmark = pytest.mark.faults
NO_ROOM = "o space left on device"
DUMPS, BARMAN = f"{HOME}/backups/postgresql", f"{HOME}/backups/barman/main"
MB = 1 << 20
# What is said of a disk that would not do, before anything is begun
REFUSED = {"backups": "make room", "data": "MB free"}


def at_step(step):
    """The operation that has the lock has come to this."""
    return f'grep -qs \'"step": "{step}"\' {HOLDER}'


class Ledger:
    """Rows that the site has acknowledged."""

    def __init__(self, stack):
        self.stack, self.numbers = stack, set()

    def write(self):
        self.numbers.add(self.stack.post("/api/rows/", {"text": "acknowledged"})["number"])

    def rows(self):
        query = "select id from probe_row"
        return set(map(int, self.stack.user("podman", "exec", "postgres", "psql", "-XAtU", "postgres", "-d", "senex", "-c", query).split()))

    def whole(self):
        """The site answers and takes rows, and every acknowledged one is there."""
        self.stack.ready(120)
        assert self.stack.get("/version/")[0] == 200
        self.write()
        lost = self.numbers - self.rows()
        assert not lost, f"acknowledged rows are lost: {sorted(lost)}"
        assert unlocked(self.stack)


def databases(stack):
    return stack.user("podman", "exec", "postgres", "psql", "-XAtU", "postgres", "-c", "select datname from pg_database").split()


@pytest.fixture
def ledger(stack):
    found = Ledger(stack)
    found.write()
    yield found
    # Room for the next one: what this one kept aside
    stack.sh(f"{AS_USER} podman unshare sh -c 'rm -rf {HOME}/data/postgres.before-restore-*'")
    for name in databases(stack):
        if name.startswith("senex_before_restore_"):
            stack.user("podman", "exec", "postgres", "psql", "-XAtU", "postgres", "-c", f'drop database "{name}" with (force)')


def status(stack, job):
    return json.loads(stack.sh(f"cat {HOME}/backups/status/{job}.json"))


def fails(stack, command, *words, timeout=300):
    done = stack.ssh(command, timeout=timeout)
    said = done.stdout + done.stderr
    assert done.returncode, f"{command} took no notice: {said}"
    assert any(word in said for word in words), said[-3000:]
    print(said)
    return said


# -- a dump


@pytest.mark.parametrize("step", ["begin", "write", "describe"])
def test_a_dump(stack, ledger, step):
    before = stack.sh(f"ls {DUMPS}")
    command = "senex backup dump"
    if step == "begin":
        with full(stack, "backups", 4 * MB):
            fails(stack, command, REFUSED["backups"])
    else:
        with filled_at(stack, "backups", f"ls {DUMPS}/*.part", 0 if step == "write" else None):
            fails(stack, command, NO_ROOM)
    assert stack.sh(f"ls {DUMPS}") == before, "a half of a dump is left"
    ledger.whole()
    if step == "begin":
        assert status(stack, "dump")["result"] == "failed"
    stack.sh(command, timeout=120)
    assert status(stack, "dump")["result"] == "ok"
    newest = stack.sh(f"ls -t {DUMPS}/*.sql.gz | head -1").strip()
    name = newest.rpartition("/")[2]
    assert name not in before and f"good    {name}" in stack.sh("senex backup verify", timeout=120)


# -- a base backup


def archived(stack):
    """The receiver is on its way back after a disk that was full, or a change of history; no restore to the latest goes without it."""
    wait(lambda: stack.ssh("senex pitr check", timeout=120).returncode == 0, 180, "an archive that is well", pause=3)


def bases(stack):
    return [one["id"] for one in json.loads(stack.sh("senex pitr list --json"))["base_backups"]]


@pytest.mark.parametrize(
    ("moment", "words"),
    [(None, ["MB are free"]), (f"ls -d {BARMAN}/base/*/data/base", [NO_ROOM]), (f"ls {BARMAN}/base/*/data/backup_manifest", [NO_ROOM])],
    ids=["begin", "copy", "end"],
)  # fmt: skip
def test_a_base_backup(stack, ledger, moment, words):
    before = bases(stack)
    there = " ".join(stack.sh(f"ls {BARMAN}/base").split())
    if moment:
        # Of the one that is being taken
        fresh = moment.replace("/*/", "/$new/")
        moment = f"new=$(ls {BARMAN}/base | grep -vxF -f <(printf '%s\\n' {there}) | head -1); [ $new ] && {fresh}"
    with filled_at(stack, "backups", moment) if moment else full(stack, "backups", 4 * MB):
        began = time.monotonic()
        fails(stack, "senex pitr base", *words)
        print(f"told after {time.monotonic() - began:.0f} s")
    ledger.whole()
    # What has no status, for want of room, may still be whole; half a one is not there
    if bases(stack) != before:
        assert moment
        stack.sh("senex pitr verify", timeout=120)
    newest = stack.sh("senex pitr base", timeout=300).split()[-1]
    assert newest not in there and newest in bases(stack)
    assert status(stack, "base")["result"] == "ok"
    assert stack.sh(f"ls {BARMAN}/base").split() == bases(stack), "half a base backup is left"
    archived(stack)


# -- a restore of a dump


def restore(stack, **inputs):
    return stack.play(playbook="playbooks/restore.yml", tags="all", variables={"restore_confirm": True, **inputs}, timeout=600)


def said(play, *words):
    text = "\n".join(play.errors)
    assert play.code != 0 and any(word in text for word in words), text[-4000:] or play.output[-4000:]
    print(text)
    return text


@pytest.mark.parametrize("step", ["begin", "load"])
def test_a_restore_of_a_dump(stack, ledger, step):
    stack.sh("senex backup dump", timeout=120)
    dumped = ledger.rows()
    ledger.write()
    before = stack.sh(f"ls {HOME}/data/postgres/base").split()
    fresh = f"[ $(ls {HOME}/data/postgres/base | wc -l) -gt {len(before)} ]"
    with full(stack, "data", 20 * MB) if step == "begin" else filled_at(stack, "data", fresh, MB):
        said(restore(stack, restore_dump="newest"), *([REFUSED["data"]] if step == "begin" else [NO_ROOM, "Check free disk space"]))
    ledger.whole()
    restore(stack, restore_dump="newest").expect()
    assert not [name for name in databases(stack) if name.startswith("senex_restore_")], "half a database is left"
    stack.ready()
    assert ledger.rows() == dumped


# -- a restore to the latest


def aside(stack):
    return stack.sh(f"ls -d {HOME}/data/postgres.before-restore-* 2>/dev/null || true").split()


STEPS = {
    "begin": ("data", None, ["MB are free"]),
    "copy": ("data", f"ls -d {HOME}/data/postgres.restored/base", [NO_ROOM]),
    "exchange": ("data", at_step("put it in place"), ["make room"]),
    "finish": ("backups", f"{at_step('take a base backup')} && ls -d {BARMAN}/base/*/data", [NO_ROOM, "MB are free"]),
}


@pytest.mark.parametrize("step", list(STEPS))
def test_a_restore_to_the_latest(stack, ledger, step):
    disk, moment, words = STEPS[step]
    latest = {"restore_from": "pitr", "restore_to": "latest"}
    archived(stack)
    known = aside(stack)
    with full(stack, disk, 20 * MB) if moment is None else filled_at(stack, disk, moment):
        said(restore(stack, **latest), *words)
    ledger.whole()
    if step == "finish":
        assert len(aside(stack)) == len(known) + 1, "it was restored"
    else:
        assert aside(stack) == known, "the data from before is not where it was"
    archived(stack)
    known = aside(stack)
    restore(stack, **latest).expect()
    ledger.whole()
    assert len(aside(stack)) == len(known) + 1 and not stack.sh(f"ls {HOME}/data | grep restored || true")


# -- the end of a release


MOMENTS = {
    "replace": at_step("celery"),
    "record": f"{at_step('celery')} && ! systemctl is-active -q senex-prober.service",
}


@pytest.mark.parametrize("step", list(MOMENTS))
def test_a_release(stack, ledger, step):
    new = "2" if versions(stack) == {"1"} else "1"
    before = records(stack)
    with filled_at(stack, "state", MOMENTS[step]):
        play = deploy(stack, new)
    print("\n".join(play.errors) or "it went well")
    ledger.whole()
    found = records(stack)
    assert found[: len(before)] == before, "a record from before is lost"
    if play.code == 0:
        assert versions(stack) == {new} and found[-1]["result"] == "succeeded"
    else:
        assert NO_ROOM in "\n".join(play.errors)
    again = deploy(stack, new).expect()
    print(again.plan)
    assert versions(stack) == {new} and (records(stack)[-1]["tag"], records(stack)[-1]["result"]) == (new, "succeeded")
    ledger.whole()
