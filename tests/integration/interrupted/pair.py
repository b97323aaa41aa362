"""Two hosts that run one site, the playbooks on them, and what may happen to a run on its way."""

import json
import re
import shlex
import ssl
import subprocess
from pathlib import Path

import yaml
from ansible.parsing.vault import VaultLib, VaultSecret
from releases import HOLDER, RECORDS
from runs import IMPATIENT, Run
from stack import AS_USER, HOME, LAB, LAB_DIRECTORY, ROOT, Https, environment, wait
from two_hosts import PREFIX, both

SCENARIO = ROOT / "molecule/two_web_hosts/molecule.yml"
SHARED = ROOT / ".config/molecule/config.yml"
SECRETS = ("secret_key", "field_encryption_key", "database_password", "redis_password")
PASSWORD = "of the two hosts in tests"  # noqa: S105
# In this process: ansible-vault takes a second of a processor to start
VAULT = VaultLib([("molecule", VaultSecret(PASSWORD.encode()))])


def _molecule(path):
    """A molecule file with the lab's places and numbers filled in."""
    known = {"SENEX_LAB_DIR": str(LAB_DIRECTORY), "SENEX_LAB_PREFIX": PREFIX}
    text = re.sub(r"\$\{(\w+)(?::-([^}]*))?\}", lambda found: known.get(found[1], found[2] or ""), path.read_text(encoding="utf-8"))
    return yaml.safe_load(text)


def inventory(directory):
    """The scenario's inventory with a vault beside it, as rotations need one."""
    shared, own = _molecule(SHARED), _molecule(SCENARIO)
    place = directory / "molecule"
    variables = place / "group_vars/all"
    variables.mkdir(parents=True)
    groups = {}
    for platform in own["platforms"]:
        for group in platform["groups"]:
            groups.setdefault(group, {"hosts": {}})["hosts"][platform["name"]] = {}
    (place / "hosts.yml").write_text(yaml.safe_dump({**groups, "all": {"hosts": own["provisioner"]["inventory"]["host_vars"]}}), encoding="utf-8")
    values = {
        **shared["provisioner"]["inventory"]["group_vars"]["all"], **own["provisioner"]["inventory"]["group_vars"]["all"],
        **shared["provisioner"]["connection_options"], **own["provisioner"]["connection_options"],
        "postgresql_version": 15, "postgresql_image": "registry.senex.test:5000/library/postgres:{{ postgresql_version }}",
    }  # fmt: skip
    secrets = {f"vault_{name}": values[f"senex_{name}"] for name in SECRETS}
    values |= {f"senex_{name}": f"{{{{ vault_{name} }}}}" for name in SECRETS}
    (variables / "main.yml").write_text(yaml.safe_dump(values), encoding="utf-8")
    (directory / "password").write_text(f"{PASSWORD}\n", encoding="utf-8")
    (variables / "vault.yml").write_text(yaml.safe_dump(secrets), encoding="utf-8")
    return place


class Pair:
    def __init__(self, directory):
        self.one, self.two = self.hosts = both()
        self.directory, self.inventory = directory, inventory(directory)
        self.file = self.inventory / "group_vars/all/vault.yml"
        self.mark = directory / "mark"
        self.address = self.one.address
        self.file.write_bytes(VAULT.encrypt(self.file.read_bytes(), vault_id="molecule"))

    def ready(self, timeout=120):
        self.one.sh("true")
        self.context = ssl.create_default_context(cadata=self.one.sh("cat /etc/senex-trader/tls/ca.crt"))
        return wait(lambda: self.healthy() and all(not self.down(host) for host in self.hosts), timeout, "the site and all units", pause=1)

    def host(self, name):
        return next(host for host in self.hosts if host.name == name)

    def down(self, host):
        """Units of the application that should run on a host and do not."""
        return host.sh(f"{AS_USER} systemctl --user list-units --no-legend --plain --state=failed,activating,deactivating,inactive"
                       " 'web-*.service' 'celery-*.service' postgres.service redis.service").split("\n")[:-1]  # fmt: skip

    # The site
    def get(self, path, timeout=10):
        connection = Https(self.address, self.context, timeout)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        finally:
            connection.close()

    def healthy(self):
        return self.get("/health/")[0] == 200

    def post(self, text):
        connection = Https(self.address, self.context, 15)
        try:
            connection.request("POST", "/api/rows/", json.dumps({"text": text}), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            body = answer.read().decode(errors="replace")
            assert answer.status in (200, 201), f"{answer.status} {body[:300]}"
            return json.loads(body)["number"]
        finally:
            connection.close()

    def rows(self):
        """The ids that the database has; by its own host's door, which no cut network closes."""
        query = "podman exec postgres psql -XAtU postgres -d senex -c 'select id from probe_row order by id'"
        return {int(line) for line in self.inside(self.one, f"{AS_USER} {query}").split()}

    # The hosts
    def inside(self, host, script, timeout=60, check=True):
        """As whoever stands before the machine: also where no network leads to it."""
        done = subprocess.run(["podman", "exec", host.name, "bash", "-c", script], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=timeout, check=False)  # fmt: skip
        assert done.returncode == 0 or not check, f"{host.name}, exit {done.returncode} from {script}: {done.stdout}{done.stderr}"
        return done.stdout

    def records(self, host):
        return [json.loads(line) for line in self.inside(host, f"cat {RECORDS} 2>/dev/null || true").splitlines()]

    def locked(self):
        return [host.name for host in self.hosts if self.inside(host, f"cat {HOLDER} 2>/dev/null || true")]

    def versions(self, host):
        """The tag of each web instance that runs on a host. Not by its page, which needs the database that a host off the network does not reach."""
        listed = self.inside(host, f"{AS_USER} podman ps --format '{{{{.Names}}}} {{{{.Image}}}}'").split("\n")
        return [line.rpartition(":")[2] for line in listed if line.startswith("web-")]

    def major(self):
        """Of PostgreSQL, as its data says."""
        return int(self.inside(self.one, f"cat {HOME}/data/postgres/PG_VERSION"))

    # What happens to them
    def cut(self, host):
        """The command that takes a host off the network: of the one with the door, ssh alone, for users do not come that way."""
        rules = ["INPUT -p tcp --dport 22 -j DROP"] if host is self.one else ["INPUT ! -i lo -j DROP", "OUTPUT ! -o lo -j DROP"]
        return ["podman", "exec", host.name, "bash", "-c", " && ".join(f"iptables -w -I {rule.replace(' ', ' 1 ', 1)}" for rule in rules)]

    def back(self):
        """Every host on the network again."""
        for host in self.hosts:
            for rule in ("INPUT -p tcp --dport 22 -j DROP", "INPUT ! -i lo -j DROP", "OUTPUT ! -o lo -j DROP"):
                self.inside(host, f"while iptables -w -D {rule} 2>/dev/null; do :; done")
        wait(lambda: all(host.run("true", timeout=10).returncode == 0 for host in self.hosts), 60, "ssh to both")

    def no_memory(self, host):
        """The command that lets the kernel end the next module of a run on a host, as it does where memory is short."""
        module = "/usr/bin/python3[.0-9]*"  # with pipelining an interpreter without arguments
        watch = f"for _ in $(seq 1500); do pkill -KILL -u root -xf '{module}' && break; sleep 0.02; done"
        return ["podman", "exec", "--detach", host.name, "bash", "-c", watch]

    # The playbooks
    def environment(self, **more):
        return {**environment(), "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default", **IMPATIENT, "COLUMNS": "400",
                "ANSIBLE_VAULT_IDENTITY_LIST": f"molecule@{self.directory}/password", **more}  # fmt: skip

    def secrets(self):
        return yaml.safe_load(VAULT.decrypt(self.file.read_bytes()))

    def begin(self, playbook, variables, moment=None, listed=None):
        """Start a playbook; `moment`: what happens to it, and when (callback/senex_moment.py)."""
        if moment:
            self.mark.unlink(missing_ok=True)
        more = {"ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).parent / "callback"), "ANSIBLE_CALLBACKS_ENABLED": "senex_moment"} if moment or listed else {}
        more |= {"SENEX_MOMENT": json.dumps({"mark": str(self.mark), **moment})} if moment else {}
        more |= {"SENEX_MOMENTS": str(listed)} if listed else {}
        words = ["ansible-playbook", f"{ROOT}/playbooks/{playbook}.yml", "-i", str(self.inventory), "-e", json.dumps(variables)]
        return Run(words, self.environment(**more))

    def play(self, playbook, **variables):
        return self.begin(playbook, variables).end()


def molecule(verb, *words):
    """Make or remove the scenario's hosts, from the snapshot of the lab."""
    source = ["--from", "two_web_hosts", *shlex.split("--host molecule-web-one --host molecule-web-two")] if verb == "create" else []
    done = subprocess.run([LAB, "run", *source, "--", "molecule", verb, "-s", "two_web_hosts", *words], cwd=ROOT, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=300, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
