"""What is copied as files: a module each, found by its `WHAT`, so that no list of them has to be kept.

A kind has `WHAT` (for the help of its command), `DIRECTORY` below backups, `NAME` (whose first group is the time), `UNFINISHED` (what a copy that is being
made is called), `make`, `verify`, `copies` and `stamp`, as redis.py has them. Dumps of the database are apart: they have reasons, and facts beside them.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from types import ModuleType

FIRST = ("redis", "media")  # the order in which they are shown; others follow by name


@functools.cache
def every() -> dict[str, ModuleType]:
    """{kind: its module}."""
    package = importlib.import_module(__package__)
    names = sorted((one.name for one in pkgutil.iter_modules(package.__path__) if not one.ispkg), key=lambda name: (*(name != one for one in FIRST), name))
    modules = {name: importlib.import_module(f"{__package__}.{name}") for name in names}
    return {name: module for name, module in modules.items() if hasattr(module, "WHAT")}


def directories() -> list[str]:
    """Of their copies, below backups."""
    return [module.DIRECTORY for module in every().values()]
