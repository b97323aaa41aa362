"""Both hosts, their inventory, and a client that keeps a ledger of what was acknowledged."""

import json
import os
import re
import subprocess
import time

import yaml
from own_host import KEPT
from runs import Run
from stack import AS_USER, DEMO, LAB, ROOT, SSH_CONFIG, Stack, environment

ONE, TWO = "move-one", "move-two"
LAB_KEY = "{{ lookup('ansible.builtin.env', 'SENEX_LAB_DIR') | default('/var/lib/senex-lab', true) }}/ssh/id_ed25519"
EVERYTHING = ("web", "celery", "celery_beat", "nginx", "backup", "watchdog", "pgbouncer")
# Runs in a web instance: rows through the pooler, each in a connection of its own, and when each was acknowledged
CLIENT = """
import json, os, sys, threading, time, psycopg
words = {"host": os.environ["DB_HOST"], "port": os.environ["DB_PORT"], "dbname": os.environ["DB_NAME"], "user": os.environ["DB_USER"],
         "password": os.environ["DB_PASSWORD"], "sslmode": os.environ["DB_SSLMODE"], "connect_timeout": 60, "autocommit": True}
stop, lock, acked, errors, ends, slow = threading.Event(), threading.Lock(), [], [], [], []
def work(number):
    count, due = 0, time.monotonic()
    while not stop.is_set():
        count += 1
        key, begin = number * 10000000 + count, time.monotonic()
        try:
            with psycopg.connect(**words) as base:
                base.execute("insert into move_ledger (id) values (%s)", [key])
            now = time.monotonic()
            with lock:
                acked.append(key); ends.append(now); slow.append(now - begin)
        except psycopg.Error as error:
            with lock:
                errors.append(f"{type(error).__name__}: {str(error).splitlines()[0]}")
        due = max(due + 0.16, time.monotonic() - 1)
        time.sleep(max(0, due - time.monotonic()))
threads = [threading.Thread(target=work, args=(number + 1 + 100 * int(sys.argv[1]),)) for number in range(8)]
[one.start() for one in threads]
print("writing", flush=True)
sys.stdin.read()
stop.set()
[one.join() for one in threads]
ends.sort()
print(json.dumps({"acked": acked, "errors": errors, "gap": max((b - a for a, b in zip(ends, ends[1:])), default=0), "slowest": max(slow, default=0)}))
"""


class Ledger:
    """`with Ledger(pair) as ledger:` writes 50 rows a second until the block ends."""

    runs = 0

    def __init__(self, pair):
        self.pair = pair
        Ledger.runs += 1

    def __enter__(self):
        words = f"{AS_USER} podman exec -i web-1 python3 -c '{CLIENT.replace(chr(39), chr(34))}' {Ledger.runs}"
        self.process = subprocess.Popen(self.pair.stack.ssh_command(words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline().strip() == "writing"
        time.sleep(2)
        return self

    def __exit__(self, *_):
        time.sleep(2)
        told = json.loads(self.process.communicate(timeout=120)[0])
        self.acked, self.errors, self.gap, self.slowest = told["acked"], told["errors"], told["gap"], told["slowest"]

    def expect_nothing_lost(self, host):
        there = {int(line) for line in self.pair.psql(host, "select id from move_ledger").split()}
        lost = set(self.acked) - there
        print(f"{len(self.acked)} rows acknowledged, {len(lost)} lost, {len(self.errors)} errors, longest gap {self.gap:.2f} s, slowest {self.slowest:.2f} s")
        assert len(self.acked) > 100 and not lost and not self.errors, (len(self.acked), sorted(lost)[:5], self.errors[:5])


class Pair:
    def __init__(self, place):
        self.place, self.on = place, {"postgresql": ONE, "redis": ONE}

    def _lab(self, *words, check=True):
        done = subprocess.run([LAB, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=3600, check=False)
        assert not check or done.returncode == 0, done.stdout + done.stderr[-4000:]

    def up(self):
        if not KEPT:
            self._lab("snapshot", "stack")
            self.down()
            self._lab("up", ONE, "--from", "stack")
            self._lab("up", TWO, "--image", "host-ready")
        self.stack = Stack(ONE)
        self.stack.ready(120)
        os.symlink(DEMO / "group_vars", self.place / "group_vars")
        self.write()
        self.play("site.yml", "--tags", "postgresql,redis,pgbouncer,django,celery,nginx").expect()
        self.psql(ONE, "create table if not exists move_ledger (id bigint primary key, at timestamptz default now()); grant all on move_ledger to senex")

    def down(self):
        if not KEPT:
            for host in (ONE, TWO):
                self._lab("down", host, check=False)

    def address(self, host):
        return re.search(rf"Host {re.escape(host)}\n\s+HostName (\S+)", SSH_CONFIG.read_text(encoding="utf-8"))[1]

    def write(self, more=(), **on):
        """The inventory with components on these hosts."""
        self.on.update(on)
        ssh = {"ansible_user": "root", "ansible_ssh_private_key_file": LAB_KEY,
               "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"}  # fmt: skip
        hosts = {host: {**ssh, "ansible_host": self.address(host), "senex_private_address": self.address(host)} for host in (ONE, TWO)}
        groups = {group: {"hosts": {ONE: None, **({TWO: None} if group in more else {})}} for group in EVERYTHING}
        everywhere = {f"{component}_publish_address": "{{ senex_private_address }}" for component in self.on}
        everywhere["nginx_rate_limit_exempt_networks"] = ["10.203.0.0/24"]  # the lab's: see traffic.py
        alone = {component: {"hosts": {host: None}} for component, host in self.on.items()}
        inventory = {"all": {"hosts": hosts, "vars": everywhere, "children": {**groups, **alone}}}
        (self.place / "hosts.yml").write_text(yaml.safe_dump(inventory))

    def command(self, playbook, *options, **inputs):
        return ["ansible-playbook", f"{ROOT}/{playbook}", "-i", str(self.place / "hosts.yml"), *options, "-e", json.dumps(inputs)]

    def begin(self, playbook, *options, **inputs):
        variables = {**environment(), "ANSIBLE_STDOUT_CALLBACK": "default"}
        return Run(self.command(playbook, *options, **inputs), variables)

    def play(self, playbook, *options, **inputs):
        return self.begin(playbook, *options, **inputs).end(900)

    def move(self, to, component="postgresql", **inputs):
        return self.play("playbooks/move.yml", component=component, to=to, **inputs)

    def sh(self, host, script, check=True):
        words = ["ssh", "-F", SSH_CONFIG, "-o", "BatchMode=yes", host, script]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=150, check=False)
        assert not check or done.returncode == 0, f"{host}: {script}: {done.stdout}{done.stderr}"
        return done.stdout

    def psql(self, host, statement):
        quoted = statement.replace('"', '\\"')
        return self.sh(host, f'{AS_USER} podman exec postgres psql -XAtqU postgres -d senex -v ON_ERROR_STOP=1 -c "{quoted}"').strip()

    def served_by(self):
        """The hosts whose server takes writes."""
        found = []
        for host in (ONE, TWO):
            said = self.sh(host, f"{AS_USER} podman exec postgres psql -XAtqU postgres -c 'select not pg_is_in_recovery()' 2>/dev/null", check=False)
            found += [host] if said.strip() == "t" else []
        return found

    def state(self, host, component="postgresql"):
        return json.loads(self.sh(host, f"cat /var/lib/senex.trader/{component}-move.state 2>/dev/null || echo '{{}}'"))

    def redis(self, host, *words):
        return self.sh(host, f"{AS_USER} podman exec redis redis-cli -e {' '.join(words)} 2>/dev/null", check=False).strip()

    def held(self, run):
        """Seconds for which clients waited, as the run says."""
        return float(re.search(r"Clients waited for ([0-9.]+) s", run.output)[1])
