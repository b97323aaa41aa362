"""Every check of the watchdog's and of `senex status`: those of the modules checks_NAME beside this one, so that no list of them has to be kept."""

from __future__ import annotations

import importlib
import pkgutil

from .findings import Check

# In which order they are shown; others follow by name
FIRST = ("web", "public", "ready", "containers", "outside", "dns", "database", "pooler", "redis", "elsewhere", "beat", "rotation", "errors", "server", "units",
         "disk", "memory", "certificates", "backups", "release", "time", "reboot", "settings")  # fmt: skip


def every() -> list[Check]:
    """All of them, whether or not they apply to this host."""
    package = importlib.import_module(__package__)
    names = [one.name for one in pkgutil.iter_modules(package.__path__) if one.name.startswith("checks_")]
    found = [check for name in names for check in importlib.import_module(f"{__package__}.{name}").CHECKS]
    return sorted(found, key=lambda check: (*(check.name != one for one in FIRST), check.name))
