"""Cases drawn at random: an operation, a stage, a host, and what happens there; judged as the model of the operations is (tests/unit).

SENEX_TEST_CASES says how many, SENEX_TEST_SEED which; the seed is in each test's name.
"""

import os
import random
import signal

import pytest
from operation import Attempt
from stack import wait
from stages import moments

pytestmark = pytest.mark.faults
CASES = int(os.environ.get("SENEX_TEST_CASES", "20"))
SEED = os.environ.get("SENEX_TEST_SEED") or str(random.SystemRandom().randrange(10**6))
KINDS = ("failed", "unreachable", "killed", "suspended")
SPACE = [(kind, moment) for moment in moments() for kind in KINDS]
DRAWN = random.Random(SEED).sample(SPACE, min(CASES, len(SPACE)))  # noqa: S311  (to be drawn again)


def failed(attempt, at, host):
    """The kernel ends a module of it on the host."""
    run = attempt.begin({**at, "command": attempt.pair.no_memory(host)}).end()
    attempt.pair.inside(host, "pkill -f '[p]kill -KILL -u root' || true")
    if run.code:
        attempt.judge(run)
    else:
        attempt.serves()


def unreachable(attempt, at, host):
    run = attempt.begin({**at, "command": attempt.pair.cut(host)}).end()
    try:
        assert run.code != 0, "a run that has lost a host is no success"
        attempt.judge(run, lost=host.name)
    finally:
        attempt.pair.back()


def killed(attempt, at, host):
    """The controller is gone; what it had sent goes on to its end."""
    run = attempt.begin({**at, "signal": int(signal.SIGKILL), "later": 1}).end()
    assert run.code in (-signal.SIGKILL, 0), run.output[-3000:]
    attempt.vault_is_whole()
    attempt.no_module_runs()
    if attempt.stands():
        print("the application rests until the same command is given again")
        return
    attempt.serves()
    attempt.nothing_is_lost()


def suspended(attempt, at, host):
    """The controller sleeps; another one takes over and releases; it wakes up, and leaves that one's work alone."""
    run = attempt.begin({**at, "signal": int(signal.SIGSTOP)})
    try:
        wait(lambda: attempt.pair.mark.exists() or run.process.poll() is not None, 240, "the moment")
        assert attempt.pair.mark.exists(), run.end().output[-3000:]
        tag = attempt.other_tag()
        other = attempt.pair.play("deploy", postgresql_version=attempt.pair.major(), django_image_tag=tag, release_take_over=True)
        print(f"the other one ended with {other.code}")
        taken = other.code == 0
    finally:
        run.signal(signal.SIGCONT)
    run.end()
    if taken:
        versions = [set(attempt.pair.versions(host)) for host in attempt.pair.hosts]
        # It came and went before this one had any lock, or after it had given them up; or this one was told that its lock is gone
        assert versions == [{tag}, {tag}] or (run.code == 0 and versions == [{attempt.new}, {attempt.new}]), f"{versions}: {run.output[-3000:]}"
        if run.code == 0 and attempt.name == "deploy":
            assert {one[-1]["result"] for one in map(attempt.pair.records, attempt.pair.hosts)} == {"succeeded"}
    attempt.vault_is_whole()
    attempt.serves()
    attempt.nothing_is_lost()


@pytest.mark.parametrize(("kind", "moment"), DRAWN, ids=[f"{SEED}-{number}: {kind}, {moment}" for number, (kind, moment) in enumerate(DRAWN)])
def test_a_case(pair, figure, kind, moment):
    print(f"SENEX_TEST_SEED={SEED}")
    attempt = Attempt(pair, moment.operation)
    at = {"play": moment.play, "round": moment.round, "task": moment.task, "host": moment.host}
    globals()[kind](attempt, at, pair.host(moment.host))
    assert pair.mark.exists(), "the moment did not come"
    attempt.converges()
    figure(f"{kind}, {moment}: the next", attempt.next)
