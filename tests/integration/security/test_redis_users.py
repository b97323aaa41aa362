"""The application at Redis: it does its work and administers nothing; and a host from before it had a name is converted under load."""

import json
import os
import re

import pytest
from libraries import WORK
from releases import SETTINGS
from rotations import manage
from stack import HOME
from traffic import Traffic

# As a host was before: an address without a name, and the user default with the application's rights
BEFORE = {"senex_redis_user": "default", "senex_redis_url": "redis://:{{ senex_redis_client_password | senex.trader.quote_url }}@redis:6379"}
RATE = int(os.environ.get("SENEX_TEST_RATE", "20"))
ADMINISTRATIVE = [
    ["REPLICAOF", "127.0.0.1", "1"], ["CONFIG", "SET", "dir", "/tmp"], ["CONFIG", "GET", "*"], ["ACL", "LIST"], ["ACL", "SETUSER", "other", "on"],  # noqa: S108
    ["SHUTDOWN", "NOSAVE"], ["DEBUG", "SLEEP", "0"], ["MODULE", "LIST"], ["FLUSHALL"], ["MONITOR"], ["CLIENT", "KILL", "TYPE", "normal"], ["SAVE"],
    ["EVAL", "return redis.call('FLUSHALL')", "0"],
]  # fmt: skip
ASK = """
import json, os, redis
server = redis.from_url(os.environ["CELERY_BROKER_URL"])
def ask(words):
    try:
        return "done: " + repr(server.execute_command(*words))
    except redis.RedisError as error:
        return type(error).__name__ + " " + str(error)
print(json.dumps([ask(words) for words in {words!r}] + [server.execute_command("ACL", "WHOAMI").decode()]))
"""


def python(stack, script):
    return manage(stack, script).splitlines()[-1]


def without_a_name(stack):
    """What Redis answers to a password alone."""
    ask = 'import os, redis, urllib.parse; p = urllib.parse.unquote(urllib.parse.urlsplit(os.environ["CELERY_BROKER_URL"]).password)\n'
    return python(stack, f'{ask}try:\n    print(redis.Redis(host="redis", password=p).ping())\nexcept redis.AuthenticationError:\n    print("refused")\n')


def test_the_application_administers_nothing(stack):
    began = stack.starts()["redis"]
    *answers, who = json.loads(python(stack, ASK.format(words=ADMINISTRATIVE)))
    refused = re.compile("NoPermission|ACL failure|can't run this command|DEBUG command not allowed")
    assert [pair for pair in zip(ADMINISTRATIVE, answers, strict=True) if not refused.search(pair[1])] == []
    assert who == "senex" and stack.starts()["redis"] == began and without_a_name(stack) == "refused"


def test_its_libraries_work(stack):
    assert python(stack, WORK) == "worked"
    stack.task_runs()


@pytest.fixture
def before(stack):
    """The host as it was, and as it is in the end."""
    stack.play(variables=BEFORE).expect()
    stack.sh("rm -f /etc/senex-trader/redis-named /var/lib/senex.trader/redis_named.*")
    assert without_a_name(stack) == "True"
    yield
    stack.play().expect()


@pytest.mark.faults
def test_a_host_from_before_is_converted_without_a_failed_request(stack, before):
    """A run that reaches Redis alone leaves the old way open; the one that replaces the application closes it."""
    first = stack.play(tags="redis").expect()
    assert "stays on" in first.output and "web-1" in first.output and without_a_name(stack) == "True"
    redis = stack.starts()["redis"]
    stack.play(variables=SETTINGS, tags="nginx").expect()
    with Traffic(stack, rate=RATE, sockets=10, tasks_per_second=2, limit=600) as traffic:
        run = stack.play(variables=SETTINGS).expect()
    traffic.expect_nothing_lost(least=200, gap=10)
    assert "stays on" not in run.output and stack.starts()["redis"] == redis
    assert without_a_name(stack) == "refused"
    assert "senex:" in stack.sh(f"grep ^REDIS_URL= {HOME}/.config/containers/systemd/.env").partition("@")[0]
    assert stack.play(variables=SETTINGS).expect().changed == []
    stack.play(tags="nginx").expect()
