"""`make bench`: what lynis says of the whole stack. Not collected by `make test`, for which it takes too long."""

import re
import shlex

import pytest
from stack import ROOT

LEAST = 80  # of 100, for what a container can show: lynis.prf names the rest


@pytest.fixture(scope="module")
def lynis(stack):
    """Measures, and is no part of a host."""
    profile = (ROOT / "tests/integration/lynis.prf").read_text(encoding="utf-8")
    install = "apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends lynis"
    stack.sh(f"{install} && printf %s {shlex.quote(profile)} >/etc/lynis/custom.prf", timeout=300)
    yield
    stack.sh("rm -r /etc/lynis; DEBIAN_FRONTEND=noninteractive apt-get purge -qy lynis", timeout=300)


def test_hardening_index(stack, lynis, figure):
    report = stack.sh("lynis audit system --quick --no-colors --quiet >/dev/null 2>&1; cat /var/log/lynis-report.dat", timeout=900)
    index = int(re.search(r"^hardening_index=(\d+)", report, re.M)[1])
    figure("lynis_hardening_index", index, "of 100")
    assert index >= LEAST, "\n".join(re.findall(r"^(?:warning|suggestion)\[\]=.*", report, re.M))
