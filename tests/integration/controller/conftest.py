"""Whole runs of the playbooks on this machine alone, with roles that only say that they were there: no host, but too slow for the unit tests."""

import sys

from ansible.plugins.loader import init_plugin_loader
from stack import ROOT

sys.path.insert(0, str(ROOT / "tests" / "unit"))
init_plugin_loader([str(ROOT)])  # makes the collection importable
