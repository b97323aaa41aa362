"""What an upgrade remembers on the host: how far it is, where the other cluster lies, and what belongs to that."""

from __future__ import annotations

import base64
import os

from ansible_collections.senex.trader.plugins.module_utils.host import fileset, untrusted
from ansible_collections.senex.trader.plugins.module_utils.host.fileset import Manifest
from ansible_collections.senex.trader.plugins.module_utils.host.operation_state import OperationState
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import ServiceUser

NAME = "postgresql-upgrade"
STATE = f"{NAME}.state"
PART = "postgresql"
RECOVERY = "config/pitr/pitr.json"  # names the image too
PATIENCE = 120  # seconds for the process of a run that died to notice it


class State(OperationState):
    """`phase` is empty, making (a new cluster beside the old), exchanging, or finishing (it serves, and not all is done)."""

    def __init__(self, directory: str = fileset.MANIFESTS):
        super().__init__(NAME, "an upgrade of PostgreSQL is at work on this host: wait for its end", PATIENCE, directory)

    @property
    def kept(self) -> dict:
        """The cluster that served before, as long as it lies where it was put."""
        found = self.data.get("kept") or {}
        return found if found and untrusted.kind(found["data"]) == "directory" else {}

    @property
    def aside(self) -> list[str]:
        """New clusters that a server had run on before they were taken out of the way again."""
        return [path for path in self.data.get("aside", []) if untrusted.kind(path) == "directory"]


def snapshot(user: ServiceUser) -> dict:
    """The files that go with a data directory: unit, configuration, and what the engine knows of them."""
    manifest = Manifest(PART)
    there = fileset.read_all([*manifest.files, manifest.path, os.path.join(user.home, RECOVERY)])
    return {path: [base64.b64encode(content).decode(), *owner] for path, (content, owner) in there.items() if content is not None}


def put_back(user: ServiceUser, files: dict) -> None:
    """Files as they were when their data directory served; of now, only what belongs to the part goes."""
    manifest = Manifest(PART)
    gone = [(path, None, (0, 0, 0)) for path in manifest.files if path not in files]
    there = [(path, base64.b64decode(kept[0]), tuple(kept[1:])) for path, kept in files.items()]
    mine = [item for item in (*there, *gone) if item[0].startswith(user.home + "/")]
    user.writes(fileset.swap, mine)
    fileset.swap([item for item in there if item not in mine])
    user.systemctl("daemon-reload")


def major_of(data: str) -> int | None:
    """The major version that wrote a data directory; None where there is none."""
    path = os.path.join(data, "PG_VERSION")
    answer = untrusted.read([path])[path]
    if trouble := untrusted.problem(answer):
        raise trouble
    found = untrusted.major(answer.get("content"))
    if answer.get("content") and found is None:
        raise OSError(f"{path} holds no version of PostgreSQL: see what lies there")
    return found


def free(path: str) -> int:
    """Bytes that may be written where a path will be."""
    above = os.path.dirname(path)
    seen = untrusted.space([above])[above]
    if trouble := untrusted.problem(seen):
        raise trouble
    return seen["bavail"] * seen["frsize"]
