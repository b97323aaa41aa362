"""One site, a client that writes rows to it, and the ledger of what was acknowledged."""

import json
import re
import subprocess
import threading

from rotations import Environment
from runs import IMPATIENT, Run
from stack import AS_USER, DOMAIN, HOME, LAB, Https, environment, wait

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
        # What was cut short goes on by the same command; a rotation comes first, for others are refused until it is at its end
        self.begin("rotate" if self.environment.vault().get("vault_rotation") else name).end().expect()
        return self.stack.ready(60)

    def version(self):
        return json.loads(self.stack.instance(1))["version"]
