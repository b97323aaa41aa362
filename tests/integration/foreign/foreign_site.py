"""An application that is not the demo on a host of its own: its inventory, its secrets, and what an operator does with it."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import yaml
from stack import LAB, LAB_DIRECTORY, ROOT, Https, Play, Stack, environment, failures, wait

INVENTORIES = Path(__file__).parent / "inventory"
# What follows from the lab's images and hosts
OF_THE_LAB = {
    "ansible_ssh_private_key_file": f"{LAB_DIRECTORY}/ssh/id_ed25519",
    "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
    "postgresql_image": "registry.senex.test:5000/library/postgres:15",
    "redis_image": "registry.senex.test:5000/library/redis:7",
    "nginx_tls_mode": "ownca",
    "nginx_health_networks": ["10.203.0.0/24"],
    "nginx_rate_limit_exempt_networks": ["10.203.0.0/24"],
    "secrets_given": [],
    "rotate_confirm": True, "restore_confirm": True, "vault_place_is_kept": True,
    "postgresql_health_interval": 30, "redis_health_interval": 30, "django_health_interval": 30,
}  # fmt: skip


class Site:
    """`name` is that of its inventory, its environment and its test host."""

    def __init__(self, name, directory):
        self.name, self.inventory = name, directory / name
        shutil.copytree(INVENTORIES / name, self.inventory)
        password = (LAB_DIRECTORY / "registry/password").read_text(encoding="utf-8").strip()
        self.write("lab", {**OF_THE_LAB, "senex_registry_login": {"username": "lab", "password": password}})
        os.environ[f"SENEX_VAULT_PASSWORD_{name.upper()}"] = f"the password of {name} in tests"
        os.environ["ANSIBLE_VAULT_IDENTITY_LIST"] = f"{name}@{ROOT}/inventory/vault-client"
        self.lab("down", name)
        self.address = self.lab("up", name, "--image", "host-ready").strip().splitlines()[-1]
        self.stack = None

    @staticmethod
    def lab(*words):
        done = subprocess.run([LAB, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, done.stdout + done.stderr[-4000:]
        return done.stdout

    def write(self, name, values):
        """Variables of the inventory, read after its main.yml."""
        path = self.inventory / "group_vars/all" / f"of_{name}.yml"
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        path.chmod(0o600)

    def play(self, playbook, *words, tags="all", timeout=900, **variables):
        """A run as an operator starts it."""
        command = Stack.command_at(self.address, *words, variables=variables, tags=tags, playbook=playbook, inventory=self.inventory)
        done = subprocess.run(command, cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=timeout, check=False)  # fmt: skip
        return Play(done.returncode, done.stdout, 0)

    def converged(self):
        """site.yml without an error; what it changed."""
        return self.play("site.yml", tags="phase1").expect().changed

    def first_deploy(self):
        self.play("playbooks/secrets.yml").expect()
        self.converged()
        self.stack = Stack(self.name, f"{self.name}.senex.test", self.inventory)

    def json(self, path):
        status, body = self.stack.get(path)
        assert status == 200, f"{path}: {status} {body[:300]}"
        return json.loads(body)

    def send(self, path, text):
        connection = Https(self.stack.address, self.stack.context, domain=self.stack.domain)
        try:
            connection.request("POST", path, text)
            answer = connection.getresponse()
            assert answer.status in (201, 202), f"POST {path}: {answer.status} {answer.read()[:300]}"
        finally:
            connection.close()

    def secret(self, name):
        path = self.inventory / "group_vars/all/vault.yml"
        done = subprocess.run(["ansible-vault", "view", path], cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return yaml.safe_load(done.stdout)[f"vault_{name}"]

    def query(self, statement):
        return self.stack.user("podman", "exec", "postgres", "psql", "-XqAt", "-U", "postgres", "-d", "senex", "-c", statement).split()

    def status_is_well(self):
        """`senex status` has nothing to report, once all has come up."""
        wait(lambda: not failures(self.stack.ssh("senex status").stdout), 120, "a status without a failure", pause=3)


def started(site):
    """Fixture: the site until its tests are over."""
    try:
        site.first_deploy()
        yield site
    finally:
        os.environ.pop("ANSIBLE_VAULT_IDENTITY_LIST", None)
        subprocess.run([LAB, "down", site.name], capture_output=True, check=False)
