"""Real runs of Ansible's commands on this machine alone, for the tests that need no host."""

import os
import pathlib
import shutil
import subprocess
import sys

import forked
import yaml

ROOT = pathlib.Path(__file__).parents[2]
BIN = pathlib.Path(sys.executable).parent
# The clients of the other vaults are programs; for runs that need no vault
NO_CLIENTS = {"ANSIBLE_VAULT_IDENTITY_LIST": f"demo@{ROOT}/inventory/demo/vault-password"}
PARTS = ("podman", "postgresql", "redis", "django", "celery", "nginx", "pitr", "backup", "operator_cli", "watchdog")
# A role that only says that it was there, and takes its host from the network where a test wants it
STUB_ROLE = """---
- name: Say that it was here
  ansible.builtin.shell: |
    echo "{{ inventory_hostname }} {{ rotate_stage | default('') }} ROLE" >> "{{ stub_log }}"
    if [ "{{ stub_lost | default('') }}" = "{{ inventory_hostname }} {{ rotate_stage | default('') }} ROLE" ]; then touch "{{ stub_log }}.lost"; fi
  changed_when: false

# A host that is lost is so in the middle of the role
- name: Go on
  ansible.builtin.raw: "true"
  changed_when: false
  when: stub_lost | default('') | length > 0
"""
# As a connection that a network drops: from some moment on nothing of this host answers
VANISHING = '''"""A local connection that is gone when a file says so."""
from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection.local import Connection as Local

DOCUMENTATION = """
name: vanishing
short_description: for tests
description: for tests
options: {}
"""
import os


class Connection(Local):
    transport = "vanishing"

    def exec_command(self, *given, **named):
        if os.path.exists(os.environ["STUB_LOST"]) and self._play_context.remote_addr == os.environ["STUB_HOST"]:
            raise AnsibleConnectionFailure("Failed to connect to the host: no route to host")
        return super().exec_command(*given, **named)
'''
LOOK = """- name: Ask each host for something
  hosts: all
  gather_facts: false
  any_errors_fatal: true
  tasks:
    - name: Ask
      ansible.builtin.raw: "true"

    - name: Make the group of the primary
      ansible.builtin.add_host:
        name: "{{ groups['postgresql'] | default(['none']) | first }}"
        groups: [postgresql_primary]
      changed_when: false
"""
STUB_RELEASE = """from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        done = self._low_level_execute_command("true")
        return {"failed": done["rc"] != 0, "changed": True, "rc": 0, "held": True}
"""


def run(*argv, cwd=ROOT, **environment):
    if argv[0] in ("ansible-playbook", "ansible-vault"):
        return forked.run(argv, cwd, surroundings(**environment))
    return subprocess.run([str(word) for word in argv], cwd=cwd, env=surroundings(**environment), capture_output=True, text=True, check=False)


def surroundings(home=None, **environment):
    """The environment of a program."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "SENEX_VAULT", "XDG_CONFIG", "AWX_", "JOB_ID"))}
    found = {"PATH": f"{BIN}:{os.environ['PATH']}", "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CALLBACKS_ENABLED": "ansible.posix.timer"}
    if "SENEX_LAB_DIR" in os.environ:  # as for the other runs of the tests, see tests/runner/jobs.py
        found["ANSIBLE_CALLBACK_PLUGINS"] = str(ROOT / "tests/plugins/callback")
    return {**kept, **found, **({"HOME": str(home)} if home else {}), **environment}


def view(vault, *identities, **environment):
    result = run("ansible-vault", "view", vault, ANSIBLE_VAULT_IDENTITY_LIST=",".join(identities), **environment)
    return yaml.safe_load(result.stdout) if result.returncode == 0 else None


class Stubbed:
    """The collection's playbooks and plugins with roles that change nothing, an inventory of its own and a vault."""

    def __init__(self, home, hosts, secrets, identity=None):
        self.home, self.hosts = home, hosts
        self.tree = home / "ansible_collections" / "senex" / "trader"
        for part in ("playbooks", "plugins", "meta", "roles/senex", "templates"):
            shutil.copytree(ROOT / part, self.tree / part, symlinks=True)
        shutil.copy(ROOT / "galaxy.yml", self.tree)
        (self.tree / "inventory").mkdir()
        shutil.copy(ROOT / "inventory/vault-client", self.tree / "inventory")
        (self.tree / "playbooks/validate.yml").write_text(LOOK)
        (self.tree / "plugins/action/release.py").write_text(STUB_RELEASE)
        (self.tree / "plugins/connection").mkdir()
        (self.tree / "plugins/connection/vanishing.py").write_text(VANISHING)
        for part in PARTS:
            (self.tree / "roles" / part / "tasks").mkdir(parents=True)
            (self.tree / "roles" / part / "tasks/main.yml").write_text(STUB_ROLE.replace("ROLE", part))
        bin = home / "bin"
        bin.mkdir()
        for name in ("systemd-run",):
            (bin / name).write_text("#!/bin/sh\ncat > /dev/null\n")
            (bin / name).chmod(0o755)
        # As in the checkout's own
        (home / "ansible.cfg").write_text("[defaults]\nforks = 20\ninternal_poll_interval = 0.01\n[connection]\npipelining = True\n")
        self.log = home / "log"
        self.inventory = home / "inventory" / "canary"
        self.vault = self.inventory / "group_vars/all/vault.yml"
        self.vault.parent.mkdir(parents=True)
        groups = {group: {"hosts": {host: {} for host in members}} for group, members in hosts.items()}
        (self.inventory / "hosts.yml").write_text(yaml.safe_dump(groups))
        variables = {name.replace("vault_", "senex_"): f"{{{{ {name} }}}}" for name in secrets}
        settled = {
            "senex_environment": "canary", "senex_domain": "www.example.com", "senex_registry": "registry.example.com", "senex_image_tag": "1",
            "senex_image": "senex-trader", "senex_django_settings_module": "shop.settings",
            "ansible_connection": "senex.trader.vanishing", "ansible_python_interpreter": sys.executable, "stub_log": str(self.log),
            "ansible_remote_tmp": str(home / "remote"),
        }  # fmt: skip
        (self.vault.parent / "main.yml").write_text(yaml.safe_dump({**settled, **variables}))
        self.password = home / "password"
        self.password.write_text("of the vault\n")
        self.identity = identity or f"canary@{self.password}"
        self.write(secrets)

    def write(self, secrets):
        self.vault.write_text("# by hand\n" + yaml.safe_dump(secrets))
        done = run("ansible-vault", "encrypt", "--encrypt-vault-id", "canary", self.vault, ANSIBLE_VAULT_IDENTITY_LIST=f"canary@{self.password}")
        assert done.returncode == 0, done.stderr

    def secrets(self):
        return view(self.vault, f"canary@{self.password}")

    def copies(self):
        return sorted(self.vault.parent.glob("vault.yml.*.old"))

    def command(self, playbook, *words, lost="", **environment):
        """What a run is, and its environment."""
        environment = {
            "ANSIBLE_VAULT_IDENTITY_LIST": self.identity, "ANSIBLE_COLLECTIONS_PATH": f"{self.home}:{ROOT}", "HOME": str(self.home),
            "PATH": f"{self.home / 'bin'}:{BIN}:{os.environ['PATH']}", "STUB_LOST": f"{self.log}.lost", "STUB_HOST": lost.split(" ")[0],
            "ANSIBLE_ROLES_PATH": str(self.home), **environment,
        }  # fmt: skip
        words = ["-i", self.inventory, "-e", "vault_place_is_kept=true", "-e", f"stub_lost='{lost}'", *words]
        return ["ansible-playbook", self.tree / "playbooks" / playbook, *words], environment

    def play(self, playbook, *words, **more):
        words, environment = self.command(playbook, *words, **more)
        result = run(*words, cwd=self.home, **environment)
        self.said = result.stdout + result.stderr
        return result

    def rotate(self, *names, words=(), **more):
        return self.play("rotate.yml", *self.rotation(*names), *words, **more)

    @staticmethod
    def rotation(*names):
        return ["-e", f"secret={','.join(names)}", "-e", "rotate_confirm=true"]

    def visits(self):
        return self.log.read_text().splitlines() if self.log.exists() else []


ONE = {group: ["one"] for group in ("postgresql", "redis", "web", "celery", "celery_beat", "nginx", "backup", "watchdog")}
