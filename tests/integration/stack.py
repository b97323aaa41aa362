"""The running stack as tests see it: over ssh, over HTTPS, and through the playbook that made it."""

import http.client
import json
import os
import re
import shlex
import socket
import ssl
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LAB = ROOT / "tests" / "lab" / "lab"
LAB_DIRECTORY = Path(os.environ.get("SENEX_LAB_DIR") or "/var/lib/senex-lab")
SSH_CONFIG = LAB_DIRECTORY / "ssh" / "config"
DEMO, DOMAIN = ROOT / "inventory/demo", "demo.senex.test"
HOME, UID = "/opt/senex-trader", 987
WEB = ("web-1", "web-2")
APPLICATION = (*WEB, "celery-worker", "celery-beat")
UNITS = (*APPLICATION, "postgres", "redis", "nginx")
AS_USER = f"cd /; runuser -u senex -- env XDG_RUNTIME_DIR=/run/user/{UID} DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/{UID}/bus"


def failures(said):
    """Lines of `senex status` that report a failure, but for errors of nginx: it tells of those of a boot, or of an earlier test, for five minutes."""
    return [line for line in said.splitlines() if line.startswith("FAIL") and not line.startswith("FAIL  nginx errors")]


def wait(condition, timeout, what, pause=0.25):
    """Seconds until `condition` is true; whatever it raises while the host is away counts as not yet."""
    begin, last = time.monotonic(), None
    while True:
        try:
            if condition():
                return time.monotonic() - begin
            last = None
        except (OSError, AssertionError, http.client.HTTPException, subprocess.TimeoutExpired) as error:
            last = error
        assert time.monotonic() - begin < timeout, f"not within {timeout} s: {what} ({last})"
        time.sleep(pause)


# Seconds after which a command on a host hangs. Three jobs share two cores, which can be half as fast as on another day
PATIENCE = 150


def busy():
    """Whether this machine does so much else that a time says nothing of the stack."""
    return os.getloadavg()[0] > 1.5 * os.cpu_count()


def within(seconds, limit, what):
    """A target in seconds: missed, it is said; missed by a factor of two on a machine that is not busy, it is a failure."""
    if seconds > limit:
        print(f"TARGET MISSED: {what}: {seconds:.1f} s, at most {limit} s is wanted")
    assert seconds <= 2 * limit or busy(), f"{what}: {seconds:.1f} s, at most {limit} s is wanted"


class Play:
    """One run of the playbook: exit code, wall time, recap, and what each task said."""

    def __init__(self, code, output, wall):
        self.code, self.output, self.wall = code, output, wall
        try:
            data, _rest = json.JSONDecoder().raw_decode(output, output.index("{\n"))
        except ValueError:
            data = {"plays": [], "stats": {}}
        self.stats = next(iter(data["stats"].values()), {})
        self.results = [
            (task["task"]["name"], result) for play in data["plays"] for task in play["tasks"] for result in task["hosts"].values() if not result.get("skipped")
        ]

    @property
    def changed(self):
        return [name for name, result in self.results if result.get("changed")]

    @property
    def plan(self):
        """Every sentence of the engine's plans, in order."""
        return [line for _, result in self.results for line in result.get("plan") or []]

    @property
    def shown(self):
        """Every difference that --diff would show."""
        diffs = [result.get("diff") or [] for _, result in self.results]
        flat = [one for diff in diffs for one in (diff if isinstance(diff, list) else [diff])]
        return [one for one in flat if one.get("before") != one.get("after") or one.get("prepared")]

    @property
    def errors(self):
        return [str(result.get("msg")) for _, result in self.results if result.get("failed") or result.get("unreachable")]

    def restarts(self):
        return [line.split()[1] for line in self.plan if line.split()[0] in ("restart", "start", "run")]

    def expect(self, code=0):
        assert self.code == code, f"exit {self.code}, wanted {code}; plan {self.plan}; " + ("\n".join(self.errors) or self.output[-4000:])
        return self


class Https(http.client.HTTPSConnection):
    """A connection to an address, for a name that no resolver knows."""

    def __init__(self, address, context, timeout=15, domain=DOMAIN):
        super().__init__(domain, 443, timeout=timeout, context=context)
        self.address, self.tls = address, context

    def connect(self):
        raw = socket.create_connection((self.address, 443), self.timeout)
        self.sock = self.tls.wrap_socket(raw, server_hostname=self.host)


class Stack:
    def __init__(self, name, domain=DOMAIN, inventory=DEMO):
        self.name, self.domain, self.inventory = name, domain, inventory
        self.address = re.search(rf"Host {re.escape(name)}\n\s+HostName (\S+)", SSH_CONFIG.read_text(encoding="utf-8"))[1]
        self.context = ssl.create_default_context(cadata=self.sh("cat /etc/senex-trader/tls/ca.crt"))

    # The host
    def ssh_command(self, script):
        return ["ssh", "-F", SSH_CONFIG, "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", self.name, f"bash -c {shlex.quote(script)}"]

    def ssh(self, script, timeout=PATIENCE):
        return subprocess.run(self.ssh_command(script), stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                              timeout=timeout, check=False)  # fmt: skip

    def sh(self, script, timeout=PATIENCE):
        """Standard output of a script that root runs on the host."""
        done = self.ssh(script, timeout)
        assert done.returncode == 0, f"exit {done.returncode} from {script}: {done.stdout}{done.stderr}"
        return done.stdout

    def user(self, *argv, timeout=PATIENCE):
        """Standard output of a command of the service user."""
        return self.sh(f"{AS_USER} {shlex.join(argv)}", timeout)

    def show(self, *properties):
        """{unit: {property: value}} of every unit of the stack, in one call."""
        wanted = ",".join(("Id", *properties))
        mine = " ".join(f"{unit}.service" for unit in UNITS if unit != "nginx")
        text = self.sh(f"systemctl show -p {wanted} nginx.service; echo; {AS_USER} systemctl --user show -p {wanted} {mine}")
        blocks = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in text.split("\n\n")]
        return {block["Id"].removesuffix(".service"): block for block in blocks if block}

    def starts(self):
        """{unit: when it last became active}."""
        return {unit: int(found["ActiveEnterTimestampMonotonic"]) for unit, found in self.show("ActiveEnterTimestampMonotonic").items()}

    def moved(self, before):
        """Units whose start time is another than in `before`, in the order of their new starts."""
        now = self.starts()
        return sorted((unit for unit in now if now[unit] != before.get(unit)), key=now.get)

    def inactive(self):
        return sorted(unit for unit, found in self.show("ActiveState").items() if found["ActiveState"] != "active")

    def files(self):
        """{path: hash} of configuration, units, secrets and manifests: all that a run may change. Not who had the lock last, which each run may be."""
        places = f"/etc {HOME}/.config {HOME}/config {HOME}/.local/share/containers/storage/secrets /var/lib/senex.trader"
        text = self.sh(f"find {places} -type f -not -name deploy.previous -exec sha256sum {{}} + 2>/dev/null; true")
        return {line[66:]: line[:64] for line in text.splitlines()}

    def data(self):
        """What is in the data directories, with its owner and mode; not the snapshots of Redis, which come as it thinks fit."""
        return set(self.sh(f"find {HOME}/data -maxdepth 2 -not -name '*.rdb' -printf '%P %U %m\\n'").splitlines())

    def main_pid(self, container):
        return int(self.user("podman", "inspect", "--format", "{{.State.Pid}}", container))

    def nginx(self):
        """Main process and workers of nginx."""
        main = self.sh("systemctl show -p MainPID --value nginx").strip()
        return main, set(self.sh(f"pgrep -P {main} || true").split())

    def journal(self, lines=60):
        """The stack's last words, without Podman's notes of each health check."""
        show = f"journalctl _UID={UID} + _SYSTEMD_UNIT=nginx.service -n 600 --no-pager -o short-precise"
        noise = "health_status|<nwarn>|container (init|died|exec)|heartbeat|celery.accumulate"
        return self.ssh(f"{show} | grep -vE '{noise}' | tail -n {lines}; tail -n 10 /var/log/nginx/error.log").stdout

    # The site
    def get(self, path, timeout=15):
        """(status, body)."""
        return self.request("GET", path, timeout=timeout)

    def request(self, method, path, data=None, timeout=15):
        connection = Https(self.address, self.context, timeout, self.domain)
        try:
            body = None if data is None else json.dumps(data)
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        finally:
            connection.close()

    def header(self, name, path="/"):
        connection = Https(self.address, self.context, domain=self.domain)
        try:
            connection.request("GET", path)
            return connection.getresponse().getheader(name)
        finally:
            connection.close()

    def post(self, path, data):
        status, body = self.request("POST", path, data)
        assert status in (200, 201, 202), f"POST {path}: {status} {body[:300]}"
        return json.loads(body)

    def healthy(self):
        return self.get("/health/", timeout=5)[0] == 200

    def instance(self, number, path="/version/"):
        """What one web instance answers, asked at its own port."""
        url = f"http://127.0.0.1:{8000 + number}{path}"
        return self.sh(f"curl -sS --max-time 20 -H 'Host: {self.domain}' -H 'X-Forwarded-Proto: https' {url}")

    def task_runs(self, timeout=PATIENCE):
        """A task is queued, taken and answered; seconds that took."""
        begin = time.monotonic()
        identity = self.post("/api/tasks/", {"kind": "add", "x": 20, "y": 22})["id"]
        wait(lambda: json.loads(self.get(f"/api/tasks/{identity}/")[1]).get("result") == 42, timeout, "a task's result")
        return time.monotonic() - begin

    def ready(self, timeout=PATIENCE):
        """Seconds until the site and every unit of the stack are well."""
        return wait(lambda: self.healthy() and not self.inactive(), timeout, "health and all units")

    # The playbook
    def command(self, *options, **settings):
        return self.command_at(self.address, *options, **{"inventory": self.inventory, **settings})

    @staticmethod
    def command_at(address, *options, variables=None, tags="phase1", root=ROOT, playbook="site.yml", inventory=DEMO):
        """The playbook on the host at an address."""
        extra = json.dumps({"ansible_host": address, **(variables or {})})
        return ["ansible-playbook", f"{root}/{playbook}", "-i", str(inventory), "--tags", tags, "-e", extra, *options]

    def play(self, *options, root=ROOT, timeout=900, **settings):
        """Run site.yml, or another playbook, and wait for its end."""
        begin = time.monotonic()
        done = subprocess.run(self.command(*options, root=root, **settings), cwd=root, env=environment(root), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout, check=False)  # fmt: skip
        return Play(done.returncode, done.stdout, time.monotonic() - begin)


def environment(root=ROOT):
    return {
        **os.environ,
        "ANSIBLE_CONFIG": f"{root}/ansible.cfg",
        "ANSIBLE_COLLECTIONS_PATH": f"{root}:{os.environ.get('ANSIBLE_COLLECTIONS_PATH', '')}".rstrip(":"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        "ANSIBLE_CALLBACKS_ENABLED": "ansible.posix.timer",
        "ANSIBLE_NOCOLOR": "1",
    }
