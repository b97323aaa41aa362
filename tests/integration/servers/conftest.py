"""Real PostgreSQL servers of this machine, without a host: too slow for unit tests, whose means they use."""

import sys

from stack import ROOT

sys.path.insert(0, str(ROOT / "tests" / "unit"))
import collection  # noqa: E402, F401  (the path above must come first)
