"""The work of senex.trader.vault, on the controller: no secret leaves its process."""

from __future__ import annotations

import os
import subprocess

from ansible import constants
from ansible.parsing.vault import VaultSecret
from ansible.plugins.action import ActionBase
from ansible_collections.senex.trader.plugins.plugin_utils import vault_text
from ansible_collections.senex.trader.plugins.plugin_utils.kept_place import thrown_away_here


class ActionModule(ActionBase):
    """Looks whether a vault can be written, and writes it."""

    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        """See plugins/modules/vault.py."""
        super().run(tmp, task_vars)
        arguments = self._task.args
        path = os.path.realpath(str(arguments["path"]))
        try:
            return self._run(path, arguments, task_vars or {})
        except (vault_text.VaultRefused, OSError) as problem:
            return {"failed": True, "changed": False, "msg": f"{path}: {problem}. It is as it was."}

    def _run(self, path, arguments, task_vars):
        if not arguments.get("place_is_kept"):
            for place in [path, *arguments.get("places", [])]:
                lost = thrown_away_here(str(place), task_vars)
                if lost:
                    return {"failed": True, "changed": False, "msg": f"Nothing was written. {lost}"}

        old = None
        if os.path.exists(path):
            with open(path, "rb") as file:
                old = file.read()
        there = old is not None and old.strip() not in (b"", b"---")
        given = vault_text.usable(self._loader._vault.secrets)
        if there and not vault_text.is_vault(old):
            name = arguments["vault_id"]
            raise vault_text.VaultRefused(f"it is not encrypted; encrypt it first: ansible-vault encrypt --encrypt-vault-id {name} {path}")

        if there:
            found = vault_text.opened(old, given)
            if found is None:
                raise vault_text.VaultRefused("no password that this run was given opens it (--vault-id, a password file, a prompt, inventory/vault-client)")
            before, name, secret = found
            vault_id = vault_text.label(old)
        else:
            before, vault_id = "", str(arguments["vault_id"])
            name, secret, reason = self._password(vault_id, given, str(arguments.get("client", "")))
            if secret is None and "text" in arguments:
                raise vault_text.VaultRefused(reason)
        if "text" not in arguments:
            return {"changed": False, "has_password": secret is not None, "reason": "" if secret else reason}

        text = str(arguments["text"])
        if there and before.rstrip() != str(arguments.get("was", "")).rstrip():
            raise vault_text.VaultRefused("it was changed by somebody else meanwhile; run the same command again")
        if there and text.rstrip() == before.rstrip():
            return {"changed": False, "kept": ""}
        if self._task.check_mode:
            return {"changed": True, "kept": ""}
        data = vault_text.sealed(text, vault_id, name, secret)
        # A new one for which the client was asked now is opened by it alone; an old one by what this run was given
        kept = vault_text.replace(path, data, old, given if there else [(name, secret)], text)
        return {"changed": True, "kept": kept}

    @staticmethod
    def _password(vault_id, given, client):
        """What a new vault is encrypted with: what this run was given for it, else what the client has by now."""
        fits = [one for one in given if one[0] == vault_id]
        if not fits and not constants.config.get_config_value("DEFAULT_VAULT_ID_MATCH"):
            fits = [one for one in given if one[0] == constants.config.get_config_value("DEFAULT_VAULT_IDENTITY")]
        if fits:
            return *fits[0], ""
        if not client:
            return vault_id, None, f"this run was given no password for {vault_id}"
        asked = subprocess.run([client, "--write", "--vault-id", vault_id], capture_output=True, check=False)
        password = asked.stdout.strip(b"\r\n")
        if asked.returncode != 0 or not password or password.startswith(vault_text.NO_PASSWORD):
            return vault_id, None, asked.stderr.decode(errors="replace").strip() or f"{client} has no password for {vault_id}"
        return vault_id, VaultSecret(password), ""
