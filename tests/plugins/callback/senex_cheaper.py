"""What makes a run of ansible-playbook cost less in the tests, which start some hundreds: about a sixth of the processor's time on this side.

Ansible packs each module with all that it imports once a run, at 0.1 to 0.2 s each. Modules packed by an earlier run are used again: Ansible's own and this
collection's, under a digest of all that goes into them. And Python's collector of cycles is off: it looks through all that was parsed again and again, in
every worker too, and a run ends before there is much to collect.
"""

import gc
import hashlib
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from ansible import constants
from ansible.plugins.callback import CallbackBase
from ansible.release import __version__
from ansible.utils.collection_loader._collection_finder import _get_collection_path

DOCUMENTATION = """
name: senex_cheaper
type: aggregate
short_description: Use modules again that an earlier run packed
description: For the tests of this collection alone.
"""

KEPT = ("ansible.modules.", "ansible_collections.senex.trader.")
PARTS = ("modules", "module_utils")
OLD_SECONDS = 3 * 86400


def digest(collection):
    """Of Ansible and Python as they are, and of the content of all that the collection's modules can import."""
    found = hashlib.sha256(f"{__version__} {sys.version} {constants.__file__}".encode())
    for path in sorted(path for part in PARTS for path in Path(collection, "plugins", part).rglob("*.py")):
        found.update(f"{path.relative_to(collection)}\0".encode() + path.read_bytes() + b"\0")
    return found.hexdigest()[:20]


def lend(kept, place):
    """Let a run find what is kept where it would put its own."""
    place.mkdir(parents=True, exist_ok=True)
    for path in kept.iterdir() if kept.is_dir() else ():
        if path.name.startswith(KEPT):
            (place / path.name).symlink_to(path)


def keep(place, kept):
    """Keep what a run packed itself. Each file comes whole or not at all, whoever else does the same."""
    if not kept.is_dir():
        kept.mkdir(mode=0o700, parents=True, exist_ok=True)
        _forget_old(kept.parent)
    for path in place.iterdir():
        if path.is_symlink() or path.name.endswith((".lock", "-part")) or not path.name.startswith(KEPT):
            continue
        handle, partial = tempfile.mkstemp(dir=kept, prefix=".")
        os.close(handle)
        shutil.copyfile(path, partial)
        os.replace(partial, kept / path.name)


def _forget_old(all_kept):
    for path in all_kept.iterdir():
        if path.stat().st_mtime < time.time() - OLD_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "senex_cheaper"

    def __init__(self):
        super().__init__()
        gc.disable()
        gc.freeze()
        self.place = Path(constants.DEFAULT_LOCAL_TMP, "ansiballz_cache")
        self.kept = Path(os.environ["SENEX_LAB_DIR"], "modules", digest(_get_collection_path("senex.trader")))
        lend(self.kept, self.place)

    def v2_playbook_on_stats(self, stats):
        keep(self.place, self.kept)
