"""What the tests of rotations share."""

import shlex
import shutil
import subprocess

import yaml
from releases import SETTINGS
from stack import ROOT, environment


class Environment:
    """A copy of the demo environment, with its vault, for that is written."""

    def __init__(self, directory, inputs=None, secrets=None):
        self.inventory = directory / "demo"
        shutil.copytree(ROOT / "inventory/demo", self.inventory)
        self.file = self.inventory / "group_vars/all/vault.yml"
        self.values = directory / "values"
        self.converged = False  # whether the host has all of it
        self.read, self.found = None, {}
        # Read after main.yml, so it counts
        (self.inventory / "group_vars/all/tested.yml").write_text(yaml.safe_dump(inputs or {}), encoding="utf-8")
        if secrets:
            text = self._ansible_vault("view") + yaml.safe_dump({f"vault_{name}": value for name, value in secrets.items()})
            self._ansible_vault("encrypt", "--encrypt-vault-id", "demo", "--output", self.file, "-", text=text)

    def _ansible_vault(self, *words, text=None):
        words = words if text else (*words, self.file)
        done = subprocess.run(["ansible-vault", *words], cwd=ROOT, env=environment(), input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def vault(self):
        return yaml.safe_load(self._ansible_vault("view"))

    def stages(self):
        """Asked again and again while a rotation runs; to open the vault costs a second of a processor, so only where it was written."""
        written = self.file.stat().st_mtime_ns
        if written != self.read:
            self.found = {name: entry["stage"] for name, entry in self.vault().get("vault_rotation", {}).items()}
            self.read = written
        return self.found

    def rotation(self, names, *given, **variables):
        """How the playbook is called; what is given stands in a file, a line each."""
        if given:
            self.values.touch(mode=0o600)
            self.values.write_text("\n".join(given) + "\n", encoding="utf-8")
            variables["rotate_value_file"] = str(self.values)
        return {"playbook": "playbooks/rotate.yml", "tags": "all", "inventory": self.inventory,
                "variables": {**SETTINGS, "secret": ",".join(names), "rotate_confirm": True, "vault_place_is_kept": True, **variables}}  # fmt: skip


def manage(stack, script):
    """What a script prints in the application."""
    return stack.sh(f"senex manage shell --verbosity 0 --command {shlex.quote(script)}").strip()
