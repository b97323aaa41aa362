"""Each alert rule is produced on a host, by what it is about, and told by mail with the section of the runbook. What is shipped is asked: no expression is
another, but one threshold; the patience of all rules is shortened by the same factor."""

import contextlib
import time

import pytest
from monitored import ALERTS
from troubles import LOWERED, NOT_HERE, WAVES

pytestmark = pytest.mark.faults
CASES = [pytest.param(wave, alert, id=alert) for wave, troubles in WAVES.items() for alert in troubles]


def test_each_rule_is_produced_or_says_why_not():
    produced = [alert for troubles in WAVES.values() for alert in troubles]
    assert sorted([*produced, *NOT_HERE]) == sorted(ALERTS)
    for alert, why in {**NOT_HERE, **{alert: one.why for troubles in WAVES.values() for alert, one in troubles.items() if one.why}}.items():
        print(f"{alert}: {'not produced here' if alert in NOT_HERE else 'not as in life'}: {why}")


@pytest.fixture(scope="module")
def short(monitored):
    monitored.put(LOWERED)
    return monitored


@pytest.fixture(scope="module")
def wave(request, short):
    """Everything of a wave begins; {alert: moment}. It ends with the last test of it."""
    troubles = WAVES[request.param]
    short.forget()
    began = {}
    try:
        for alert, trouble in troubles.items():
            began[alert] = time.time()
            short.sh(trouble.begin, timeout=300)
            for _ in range(trouble.visits):
                with contextlib.suppress(OSError):
                    short.stack.get("/version/", timeout=5)
        yield began
    finally:
        for trouble in [troubles[alert] for alert in began]:
            done = short.stack.ssh(trouble.end, timeout=300)
            print(done.stdout, done.stderr)
    short.stack.ready(180)


@pytest.mark.parametrize(("wave", "alert"), CASES, indirect=["wave"], scope="module")
def test_it_is_produced_and_told_by_mail(short, wave, alert, figure):
    trouble = next(troubles[alert] for troubles in WAVES.values() if alert in troubles)
    mail = short.told(alert, trouble.says, wave[alert] + trouble.within)
    assert mail, short.known(alert)
    figure(alert, time.time() - wave[alert])
    assert ALERTS[alert]["annotations"]["runbook"] in mail, mail
