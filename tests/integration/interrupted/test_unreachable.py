"""One of two hosts is off the network from some moment of an operation on: nothing is lost, what is told of it is true, the site serves by the other, and
the next run with both brings it to its end."""

import pytest
from operation import Attempt
from stages import moments

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("moment", moments(each_host=False), ids=str)
def test_a_host_is_lost(pair, figure, moment):
    attempt = Attempt(pair, moment.operation)
    host = pair.host(moment.host)
    at = {"play": moment.play, "round": moment.round, "task": moment.task, "host": moment.host, "command": pair.cut(host)}
    try:
        run = attempt.begin(at).end()
        assert pair.mark.exists(), f"the moment did not come: {run.output[-3000:]}"
        assert run.code != 0, "a run that has lost a host is no success"
        attempt.judge(run, lost=moment.host)
    finally:
        pair.back()
    attempt.converges()
    figure(f"{moment}: the run that lost it", run.wall)
    figure(f"{moment}: the next", attempt.next)
