"""The library of the programs on a host (senex_host), as role common installs it."""

import shutil
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
OWN = ROOT / "roles/common/files/senex_host"
UTILS = ROOT / "plugins/module_utils"

sys.path.insert(0, str(OWN.parent))
import senex_host  # noqa: E402  (the path above must come first)

senex_host.__path__.append(str(UTILS / "host"))


def modules():
    """Sources of what is installed, by name."""
    known = yaml.safe_load((ROOT / "roles/senex/defaults/main.yml").read_text(encoding="utf-8"))
    own = {name: OWN / f"{name}.py" for name in known["__senex_library_modules"]}
    return own | {name: UTILS / f"host/{name}.py" for name in known["__senex_library_shared_modules"]}


def install(place):
    """A copy for a program that a test starts, in a directory of its path."""
    (Path(place) / "senex_host").mkdir()
    for source in modules().values():
        shutil.copy(source, Path(place) / "senex_host")
