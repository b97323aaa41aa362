"""Makes the collection importable under its own name, as Ansible loads it: ansible_collections.senex.trader is this very tree. So are the programs of hosts."""

import contextlib
import pathlib
import sys

import yaml
from ansible.plugins.loader import init_plugin_loader

ROOT = pathlib.Path(__file__).parents[2]
# The same documents in a tenth of the time; many tests read every YAML file of the tree
yaml.SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

with contextlib.suppress(Exception):  # a second time is one too many
    init_plugin_loader([str(ROOT)])

sys.path.insert(0, str(ROOT / "roles/pitr/files"))
import hostlib  # noqa: E402, F401  (it puts senex_host on the path)
import pitr  # noqa: E402

pitr.__path__.append(str(ROOT / "plugins/module_utils"))  # the role installs psql.py beside it
