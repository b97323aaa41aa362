"""The power of the one host goes at a random moment of a random operation, while a client writes rows and keeps a ledger of those that were acknowledged.

What stands for the power is the host's container, killed with all that runs in it: what was written and not synced is not lost by that.
SENEX_TEST_POWER_CUTS says how many cuts, SENEX_TEST_SEED which; the seed is in each test's output.
"""

import json
import os
import random
import re
import subprocess
import threading
import time

import pytest
from rotations import Environment
from runs import IMPATIENT, Run
from stack import AS_USER, DOMAIN, HOME, LAB, Https, environment, wait

pytestmark = pytest.mark.faults
CUTS = int(os.environ.get("SENEX_TEST_POWER_CUTS", "20"))
SEED = os.environ.get("SENEX_TEST_SEED") or str(random.SystemRandom().randrange(10**6))
# The playbook, its inputs, and for how many seconds it works, of which one is drawn
OPERATIONS = {
    "deploy": ("deploy", {}, 35),
    "backup": ("backup", {}, 8),
    "base backup": (None, {}, 8),
    "restore of a dump": ("restore", {"restore_dump": "newest", "restore_confirm": True}, 35),
    "restore to the latest": ("restore", {"restore_from": "pitr", "restore_to": "latest", "restore_confirm": True}, 45),
    "rotate": ("rotate", {"secret": "database_password,redis_password", "rotate_confirm": True, "vault_place_is_kept": True}, 60),
}
BASE = f"systemd-run --user -M senex@ --pipe --wait --collect --quiet {HOME}/bin/pitr base"


class Ledger:
    """A client that writes rows, one after the other, and keeps the numbers of those that the site has acknowledged."""

    def __init__(self, stack):
        self.stack, self.numbers, self.stop = stack, set(), threading.Event()
        self.refused = 0
        self.thread = threading.Thread(target=self._write, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join(timeout=30)

    def _write(self):
        connection = None
        while not self.stop.wait(0.1):
            try:
                connection = connection or Https(self.stack.address, self.stack.context, timeout=5, domain=DOMAIN)
                connection.request("POST", "/api/rows/", json.dumps({"text": "acknowledged"}), {"Content-Type": "application/json"})
                answer = connection.getresponse()
                body = answer.read()
                if answer.status in (200, 201):
                    self.numbers.add(json.loads(body)["number"])
                else:
                    self.refused += 1
            except Exception:  # whatever it is, nothing was acknowledged
                self.refused += 1
                connection = None


class Site:
    """The host, what it was asked for, and every row that it has acknowledged and still has to have."""

    def __init__(self, stack, directory):
        self.stack, self.environment = stack, Environment(directory)
        self.ledger, self.tag = set(), "1"

    def psql(self, database, query):
        return self.stack.user("podman", "exec", "postgres", "psql", "-XAtU", "postgres", "-d", database, "-c", query).split("\n")[:-1]

    def rows(self, database="senex"):
        return {int(line) for line in self.psql(database, "select id from probe_row")}

    def asides(self):
        return [name for name in self.psql("postgres", "select datname from pg_database") if name.startswith("senex_before_restore_")]

    def command(self, name):
        playbook, variables, _ = OPERATIONS[name]
        if playbook is None:
            return self.stack.ssh_command(BASE)
        if name == "deploy":
            variables = {"django_image_tag": "1" if self.tag == "2" else "2"}
        return self.stack.command(playbook=f"playbooks/{playbook}.yml", tags="all", inventory=self.environment.inventory, variables=variables)

    def begin(self, name):
        return Run(self.command(name), {**environment(), "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default", **IMPATIENT})

    def cut(self):
        subprocess.run(["podman", "kill", "--signal", "KILL", self.stack.name], check=True, capture_output=True)

    def boot(self):
        done = subprocess.run(
            [LAB, "up", self.stack.name, "--from", "stack"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=180, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]

    def judge(self, name, written):
        """Every acknowledged row is in the database; after a restore of a dump those that came later are in the one that it set aside."""
        self.ledger |= written
        here, asides = self.rows(), self.asides()
        there = set().union(*map(self.rows, asides))
        lost = self.ledger - here - (there if name == "restore of a dump" else set())
        assert not lost, f"{len(lost)} of {len(self.ledger)} acknowledged rows are lost: {sorted(lost)[:10]}"
        self.ledger &= here
        for aside in asides:
            self.psql("postgres", f"drop database {aside} with (force)")
        self.stack.sh(f"{AS_USER} podman unshare sh -c 'rm -rf {HOME}/data/postgres.before-restore-* {HOME}/backups/barman.before-restore-*'")

    def served_again(self, name, timeout=90):
        """Whether it serves by itself; where it does not, the status says what to do, and that works."""
        try:
            return wait(lambda: self.stack.healthy() and not self.stack.inactive(), timeout, "it serves after the cut", pause=1)
        except AssertionError:
            said = self.stack.ssh("senex status", timeout=60).stdout
        print(said)
        assert re.search(r"restore\.yml|rotate\.yml|deploy\.yml|site\.yml|interrupted|again", said), f"no way out is told: {said}"
        self.begin(name).end().expect()
        return self.stack.ready(60)

    def version(self):
        return json.loads(self.stack.instance(1))["version"]


@pytest.fixture(scope="module")
def site(stack, tmp_path_factory):
    found = Site(stack, tmp_path_factory.mktemp("environment"))
    stack.sh(f"{BASE} --first", timeout=300)
    stack.sh("senex backup dump", timeout=120)
    found.ledger = found.rows()
    return found


@pytest.mark.parametrize("number", range(CUTS))
def test_a_power_cut(site, number):
    drawn = random.Random(f"{SEED}-{number}")  # noqa: S311  (to be drawn again)
    name = drawn.choice(list(OPERATIONS))
    moment = drawn.uniform(0, OPERATIONS[name][2])
    print(f"SENEX_TEST_SEED={SEED}: cut {number}, {name}, after {moment:.1f} s")
    site.tag = site.version()
    with Ledger(site.stack) as client:
        run = site.begin(name)
        try:
            time.sleep(moment)
            ended = run.process.poll()
            before = len(client.numbers)
        finally:
            site.cut()
        time.sleep(0.5)
        site.boot()
        run.end(180)
        taken = site.served_again(name)
        wait(lambda: len(client.numbers) > before, 30, "rows are written again")
    print(
        f"it had {'ended with ' + str(ended) if ended is not None else 'not ended'}; {len(client.numbers)} rows acknowledged; well {taken:.0f} s after the boot"
    )
    site.judge(name, client.numbers)


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_works_after_all_of_them(site, name):
    """Whatever the cuts have left is taken over or put in order."""
    site.tag = site.version()
    with Ledger(site.stack) as client:
        site.begin(name).end().expect()
        site.stack.ready(60)
        before = len(client.numbers)
        wait(lambda: len(client.numbers) > before, 30, "rows are written again")
    site.judge(name, client.numbers)
    site.stack.task_runs()


def test_the_vault_is_whole(site):
    held = site.environment.vault()
    assert "vault_rotation" not in held and all(held[f"vault_{name}"] for name in ("database_password", "redis_password", "secret_key"))
