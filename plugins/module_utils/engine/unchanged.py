"""One look at the host for all components: which of them still are as the last run left them."""

from __future__ import annotations

import base64
import os
import time
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.senex.trader.plugins.module_utils.engine import payload, quadlet_plan, unit_text
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_transaction import Transaction
from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_work import ApplyError
from ansible_collections.senex.trader.plugins.module_utils.engine.system_transaction import SystemTransaction
from ansible_collections.senex.trader.plugins.module_utils.host import fileset
from ansible_collections.senex.trader.plugins.module_utils.host.fileset import Manifest
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import CommandError, ServiceUser


class HostSnapshot(ServiceUser):
    """The service user, whose Podman and systemd were asked once for several parts."""

    def ask(self, references: set[str], secrets: set[str], units: set[str]) -> None:
        """Ask for everything; each question is a program of its own, which takes longer than all else here."""
        self.settle_by = time.monotonic() + quadlet_plan.SETTLE_SECONDS  # for all components together
        with ThreadPoolExecutor() as pool:
            answers = [
                pool.submit(super().image_ids, sorted(references)),
                pool.submit(super().secret_values, sorted(secrets)),
                pool.submit(super().unit_states, sorted(units)),
                pool.submit(super().unhealthy),
            ]
            self.images, self.values, self.states, self.ill = (answer.result() for answer in answers)

    def image_ids(self, references: list[str]) -> dict[str, str]:
        """Ids of images that are on the host, by reference; of the snapshot."""
        return {name: self.images[name] for name in references if name in self.images}

    def secret_values(self, names: list[str]) -> dict[str, str]:
        """Values of Podman secrets, by name; of the snapshot."""
        return {name: self.values[name] for name in names if name in self.values}

    def unit_states(self, units: list[str]) -> dict[str, dict[str, str]]:
        """Properties of units, by name; of the snapshot, but asked again while a unit is activating."""
        states = {name: self.states[name] for name in units if name in self.states}
        return super().unit_states(units) if any(state.get("ActiveState") == "activating" for state in states.values()) else states

    def unhealthy(self) -> set[str]:
        """Names of unhealthy containers; of the snapshot."""
        return self.ill


def _texts(data: dict) -> list[str]:
    return [base64.b64decode(item["content"]).decode(errors="replace") for item in data["files"] if not item["secret"]]


def _units(data: dict) -> list[str]:
    return [item["path"] for item in data["files"] if quadlet_plan.is_unit(item["path"])]


def _snapshot(name: str, home: str, components: list[dict]) -> HostSnapshot:
    user = HostSnapshot(name, home)
    user.check_manager()
    texts = [text for data in components for text in _texts(data)]
    manifests = [Manifest(data["component"]) for data in components]
    user.ask(
        {found for found in map(unit_text.image, texts) if found},
        {item["name"] for data in components for item in data["secrets"]}
        | {found for text in texts for found in unit_text.secrets_read(text)}
        | {found for manifest in manifests for found in manifest.secrets},
        {unit["name"] for data in components for unit in data["units"]}
        | {found for manifest in manifests for found in manifest.units}
        | {unit_text.service_of(name) for data in components for name in map(os.path.basename, _units(data)) if "@." not in name},
    )
    return user


def _quadlet_is_whole(data: dict, user: HostSnapshot) -> bool:
    whole = payload.with_secrets(data, user.values)
    return whole is not None and Transaction(payload.quadlet_component(whole, user, check=True), user, present=True).whole()


def _system_is_whole(data: dict) -> bool:
    whole = payload.with_secrets(data, {})
    return whole is not None and not SystemTransaction(payload.system_component(whole, check=False), present=True).run(check=True)["changed"]


def unchanged_components(directory: str = fileset.MANIFESTS) -> dict[str, str]:
    """Component -> digest of what was handed over for it, for each component that is still so. Trouble of any kind makes a component one that is not."""
    found = payload.load_applied(directory)
    quadlets = [item["data"] for item in found if "home" in item["data"]]
    users = {}
    for who in {(data["user"], data["home"]) for data in quadlets}:
        try:
            users[who] = _snapshot(*who, [data for data in quadlets if (data["user"], data["home"]) == who])
        except (LookupError, CommandError, OSError, ValueError, TypeError):
            continue
    seen = {}
    for item in found:
        data = item["data"]
        try:
            if "home" not in data:
                whole = _system_is_whole(data)
            else:
                user = users.get((data["user"], data["home"]))
                whole = user is not None and _quadlet_is_whole(data, user)
        except (ApplyError, LookupError, CommandError, OSError, ValueError, TypeError, AttributeError):
            continue
        if whole:
            seen[data["component"]] = item["digest"]
    return seen
