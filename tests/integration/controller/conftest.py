"""What needs no host but real programs of this machine: runs of playbooks, an archive that is installed, nginx on loopback. Too slow for unit tests."""

import sys

from ansible.plugins.loader import init_plugin_loader
from stack import ROOT

sys.path.insert(0, str(ROOT / "tests" / "unit"))
init_plugin_loader([str(ROOT)])  # makes the collection importable
