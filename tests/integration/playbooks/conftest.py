"""Short runs of playbooks on this machine alone, by forks of one process (tests/unit/forked.py): too slow for unit tests, whose means they use."""

import sys

from stack import ROOT

sys.path.insert(0, str(ROOT / "tests" / "unit"))
import collection  # noqa: E402, F401  (the path above must come first)
