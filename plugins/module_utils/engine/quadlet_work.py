"""What the steps of one change share: what is wanted, what was there, how far it has come, and how it fails."""

from __future__ import annotations

import copy
import re
import time

from ansible_collections.senex.trader.plugins.module_utils.engine.quadlet_plan import Component, Plan, make_plan
from ansible_collections.senex.trader.plugins.module_utils.host import untrusted
from ansible_collections.senex.trader.plugins.module_utils.host.fileset import Manifest
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import ServiceUser


class ApplyError(Exception):
    """The wanted state could not be reached. What ran before goes on running."""

    def __init__(self, message: str, plan: list[str]):
        super().__init__(message)
        self.plan = plan


SECRET_NAME = re.compile(r"PASS|SECRET|KEY|TOKEN|AUTH|CREDENTIAL|DSN|URL|BACKEND", re.IGNORECASE)


def secret_words(component: Component) -> set[str]:
    """What no message may hold: values of secrets, and in secret files the lines and what variables of a secret's name are set to."""
    words = set(component.secrets.values())
    for item in component.files:
        if item.secret:
            lines = untrusted.records(item.content.decode(errors="replace"))
            words.update(line for line in lines if "=" in line or ":" in line)
            pairs = [line.split("=", 1) for line in lines if "=" in line]
            words.update(value.strip("\"' ") for name, value in pairs if SECRET_NAME.search(name))
    return {word.strip() for word in words if len(word.strip()) >= 8}


class Work:
    """One component on its way to its wanted state."""

    plan: Plan

    def __init__(self, component: Component, user: ServiceUser, present: bool, manifest: Manifest | None = None):
        self.component = component if present else Component(component.name)
        self.user, self.present = user, present
        self.manifest = manifest or Manifest(component.name)
        self.before = copy.deepcopy(self.manifest)
        self.redact = sorted(secret_words(component), key=len, reverse=True)
        self.surge_units = [unit["surge_unit"] for unit in self.component.units if unit.get("surge_unit")]
        self.unit, self.began = "", time.time()  # the unit that is being started, and since when

    def look(self) -> None:
        """Compare it with the host."""
        self.plan = make_plan(self.component, self.manifest, self.user)

    def starts(self, unit: str) -> None:
        """Which unit is at fault should it fail now; none where the name is empty."""
        self.unit, self.began = unit, time.time()

    def fail(self, message: str) -> None:
        """End it."""
        for value in self.redact:
            message = message.replace(value, "********")
        raise ApplyError(f"{self.component.name}: {message}", self.plan.sentences())
