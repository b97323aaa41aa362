"""Restores to a moment, undone, to the latest, and twice from one base backup: the right rows each time, by a ledger of what the site acknowledged."""

import json
import time

import pytest
from stack import AS_USER, HOME, wait

pytestmark = pytest.mark.faults


def written(site, count=5):
    return {site.stack.post("/api/rows/", {"text": "in the ledger"})["number"] for _ in range(count)}


def moment(site):
    """A moment with nothing written in the seconds around it, for it is said in whole seconds."""
    time.sleep(1.5)
    said = site.stack.sh("date -u '+%Y-%m-%d %H:%M:%S+00'").strip()
    time.sleep(1.5)
    return said


def restored(site, to, **inputs):
    """Restore the database; where the data from before is."""
    known = set(site.stack.sh(f"ls -d {HOME}/data/postgres.before-restore-* 2>/dev/null || true").split())
    if to != "latest":
        # Until the archive has seen a later moment, this one cannot be proven whole
        wait(lambda: site.stack.ssh(f"senex pitr plan --to '{to}'").returncode == 0, 180, "the archive", pause=2)

    def attempt():
        inputs_of_it = {"restore_from": "pitr", "restore_to": to, "restore_confirm": True, **inputs}
        done = site.stack.play(playbook="playbooks/restore.yml", tags="all", inventory=site.environment.inventory, timeout=600, variables=inputs_of_it)
        # One that would lack the last rows is refused, and changes nothing: the receiver of WAL is on its way back after a change of history
        assert done.code == 0 or "bytes of WAL are missing" in "\n".join(done.errors), done.errors
        return done.code == 0

    wait(attempt, 300, "the archive has all of it", pause=5)
    site.stack.ready()
    (aside,) = set(site.stack.sh(f"ls -d {HOME}/data/postgres.before-restore-*").split()) - known
    return aside


def has(site, *there, without=frozenset()):
    rows = site.rows()
    missing, foreign = set().union(*there) - rows, rows & set(without)
    assert not missing and not foreign, f"missing {sorted(missing)}, and {sorted(foreign)} are of another history"


def test_to_a_moment_undone_and_to_the_latest(site):
    stack = site.stack
    first = site.rows() | written(site)
    to = moment(site)
    later = written(site)
    aside = restored(site, to)
    has(site, first, without=later)
    discarded = written(site)
    assert not discarded & (first | later), "a number was given twice"
    stack.sh(f"senex pitr undo {aside}", timeout=180)
    stack.ready(120)
    has(site, first, later, without=discarded)
    last = written(site)
    assert not last & (first | later), "a number was given twice"
    # A base backup of the timeline that runs again comes by itself
    wait(lambda: stack.ssh("senex pitr plan --to latest").returncode == 0, 240, "a base backup of this timeline", pause=3)
    restored(site, "latest")
    has(site, first, later, last, without=discarded)
    site.stack.task_runs()


def test_twice_from_one_base_backup(site):
    stack = site.stack
    stack.sh("senex pitr base", timeout=300)
    base = max(one["id"] for one in json.loads(stack.sh("senex pitr list --json"))["base_backups"])
    one = site.rows() | written(site)
    to = moment(site)
    two = written(site)
    until = moment(site)
    three = written(site)
    wait(lambda: stack.ssh(f"senex pitr plan --to '{until}'").returncode == 0, 180, "the archive", pause=2)
    restored(site, until, restore_base=base)
    has(site, one, two, without=three)
    four = written(site)
    restored(site, to, restore_base=base)
    has(site, one, without=two | three | four)
    site.stack.task_runs()
    stack.sh(f"{AS_USER} podman unshare sh -c 'rm -rf {HOME}/data/postgres.before-restore-*'")
    site.ledger = site.rows()
