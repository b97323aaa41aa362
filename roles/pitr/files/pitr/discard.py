"""What is kept until nobody needs it: data that a restore or an upgrade put aside, a copy that was looked into, the archive of a former cluster.

By name, and never what serves: `rm -rf` with a name that is a little too short removes the database.
"""

from __future__ import annotations

import os
import re

from senex_host import owned

from pitr import kept, removal, restore
from pitr.jobs import PitrError, alone
from pitr.programs import last_words, run
from pitr.settings import Settings

OF_UPGRADES = re.compile(r"\.(\d+|new)-\d{8}T\d{6}Z")  # behind the name of the data (plugins/module_utils/postgresql/cluster_swap.py)


def there(settings: Settings) -> list[str]:
    """All that may go."""
    place, name = os.path.split(settings.data)
    beside = [entry for entry in sorted(os.listdir(place)) if entry.startswith(f"{name}.") and os.path.isdir(os.path.join(place, entry))]
    found = [entry for entry in beside if OF_UPGRADES.fullmatch(entry.removeprefix(name)) or removal.noted(os.path.join(place, entry)) is not None]
    copies = [os.path.join(place, entry) for entry in found]
    return sorted({*restore.kept_aside(settings), *copies, *archives(settings)})


def archives(settings: Settings) -> list[str]:
    """Those of former clusters."""
    return [os.path.join(settings.archive, "kept", name) for name in kept.names(settings)]


def discard(settings: Settings, directory: str) -> None:
    """Remove one of them for good."""
    directory = removal.named(settings, directory)
    # A copy that was made elsewhere, when that was allowed, bears the same mark
    if directory not in there(settings) and not (removal.noted(directory) or {}).get("proven"):
        raise PitrError(f"{directory}: is nothing that is kept; there are: {', '.join(there(settings)) or 'none'}")
    with alone(settings, "restore"):
        if users := removal.working_on(directory):
            raise PitrError(f"{directory}: {', '.join(users)} works on it; stop it first (podman stop)")
        place = os.path.dirname(directory) if directory in archives(settings) else ""
        # The rules of all that is removed: no mount point, nothing that a unit mounts, nobody's data
        try:
            owned.refuse(settings.home, directory, removal.data(settings), place)
        except owned.Refused as refused:
            raise PitrError(str(refused)) from None
        removal.note(directory, {"discarded": True})
        done = run("podman", "unshare", *owned.words("remove", settings.home, directory, data=removal.data(settings), place=place), check=False)
        if done.returncode:
            raise PitrError(last_words(done.stderr, 1))
