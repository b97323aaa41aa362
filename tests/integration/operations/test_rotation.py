"""Every secret that the application shares with its servers is replaced under load, in one rotation that is killed half-way."""

import json
import os
import shlex
import signal
import subprocess
import time

import pytest
from doors import DOORS
from releases import SETTINGS, unlocked
from rotations import manage
from stack import AS_USER, ROOT, environment, wait
from traffic import Traffic

# Requests a second. Beside two other stacks two cores have room for no more; on a quiet machine SENEX_TEST_RATE asks for more
RATE = int(os.environ.get("SENEX_TEST_RATE", "20"))
NAMES = ("database_password", "redis_password", "secret_key", "field_encryption_key")
SIGNED = "from django.core import signing; print(signing.dumps('by the old key'))"
ACCEPTED = """
from django.core import signing
try:
    print(signing.loads({token!r}))
except signing.BadSignature:
    print("refused")
"""
READABLE = """
from cryptography.fernet import Fernet, InvalidToken
from probe.models import Row
def reads(key, text):
    try:
        return bool(Fernet(key).decrypt(text.encode()))
    except InvalidToken:
        return False
rows = list(Row.objects.values_list("sealed", flat=True))
print(len(rows), *(sum(reads(key, row) for row in rows) for key in {keys!r}))
"""


class Rotated:
    """What was before, what happened, and what was seen."""


@pytest.fixture(scope="module")
def rotated(stack, env):
    """One rotation of all of them under load, killed with kill -9 when everything has begun to present the new ones, and begun again."""
    seen = Rotated()
    seen.before = env.vault()
    stack.play(inventory=env.inventory, variables=SETTINGS, tags="nginx,podman,watchdog").expect()
    stack.post("/api/rows/", {"text": "written before"})
    seen.signed, seen.redis = manage(stack, SIGNED), stack.show("MainPID")["redis"]["MainPID"]
    settings = env.rotation(NAMES, rotate_finish=True)
    with Traffic(stack, rate=RATE, sockets=20, tasks_per_second=2, limit=900) as traffic:
        first = subprocess.Popen(stack.command(**settings), cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, text=True, start_new_session=True)  # fmt: skip
        try:
            wait(lambda: "use" in env.stages().values() or first.poll() is not None, 600, "the stage in which the new ones are presented")
            assert first.poll() is None, first.stdout.read()[-4000:]
            seen.mid = env.vault()
            seen.mid_signed = accepted(stack, seen.signed)
        finally:
            os.killpg(first.pid, signal.SIGKILL)
            seen.output = first.communicate()[0]
        began = time.monotonic()
        seen.play = stack.play(timeout=900, **settings)
        seen.seconds = time.monotonic() - began
        seen.output += seen.play.output
        seen.play.expect()
    seen.traffic, seen.after = traffic, env.vault()
    return seen


def accepted(stack, token):
    return manage(stack, ACCEPTED.format(token=token))


def test_nothing_failed_and_no_task_was_lost(rotated):
    print(f"the second run took {rotated.seconds:.0f} s; {rotated.traffic.result()}")
    rotated.traffic.expect_nothing_lost(least=1000, gap=10)


def test_the_vault_has_new_ones_and_knows_when(rotated):
    after, before = rotated.after, rotated.before
    assert after.pop("vault_rotated").keys() == set(NAMES)
    (kept,) = after.pop("vault_retired_keys")
    assert (kept["secret"], kept["key"]) == ("field_encryption_key", before["vault_field_encryption_key"]), "older copies need it"
    changed = {name for name in before if after.get(name) != before[name]}
    assert changed == {f"vault_{name}" for name in NAMES} and after.keys() == before.keys()


def test_killed_half_way_the_vault_knew_both(rotated):
    for name in NAMES:
        entry = rotated.mid["vault_rotation"][name]
        assert entry["stage"] == "use"
        assert entry["other"] == rotated.before[f"vault_{name}"]
        assert rotated.mid[f"vault_{name}"] == rotated.after[f"vault_{name}"], "the run after the kill went on with the same value"


def test_database_and_redis_take_the_new_ones_alone(stack, rotated):
    """Asked over the network."""
    database, redis = ([rotated.after[f"vault_{name}"], rotated.before[f"vault_{name}"]] for name in NAMES[:2])
    asked = json.dumps({"database": database, "redis": redis})
    answer = json.loads(stack.sh(f"echo {shlex.quote(asked)} | {{ {AS_USER} podman exec -i web-1 python -c {shlex.quote(DOORS)}; }}"))
    assert answer == {"database": ["open", "refused"], "redis": ["open", "refused"], "told": True}


def test_no_role_stands_in_any_more(stack, rotated):
    roles = stack.user("podman", "exec", "postgres", "psql", "-XqAt", "-U", "postgres", "-d", "senex", "-c", "select rolname from pg_roles where rolcanlogin")
    assert sorted(roles.split()) == ["barman", "postgres", "senex"]


def test_redis_did_not_restart_and_its_own_clients_are_logged_in(stack, rotated):
    assert stack.show("MainPID")["redis"]["MainPID"] == rotated.redis
    assert stack.sh("senex redis-cli ping").strip() == "PONG"
    stack.sh("systemctl --user -M senex@ start backup-redis.service", timeout=120)


def test_redis_starts_with_the_new_one(stack, rotated):
    stack.sh("systemctl --user -M senex@ restart redis.service", timeout=120)
    assert stack.sh("senex redis-cli ping").strip() == "PONG"
    stack.ready(120)


def test_what_the_old_key_signed_was_accepted_meanwhile_and_is_not_now(stack, rotated):
    assert rotated.mid_signed == "by the old key"
    assert accepted(stack, rotated.signed) == "refused"


def test_fields_are_read_with_the_new_key_alone(stack, rotated):
    keys = [rotated.after["vault_field_encryption_key"], rotated.before["vault_field_encryption_key"]]
    rows, by_new, by_old = map(int, manage(stack, READABLE.format(keys=keys)).split())
    assert rows > 10 and (by_new, by_old) == (rows, 0)


def test_no_value_in_the_output_or_on_the_host_in_the_open(stack, rotated):
    values = {vault[f"vault_{name}"] for vault in (rotated.before, rotated.after) for name in NAMES}
    assert [name for name in values if name in rotated.output] == []
    old = [rotated.before[f"vault_{name}"] for name in NAMES]
    words = " ".join(f"-e {shlex.quote(value)}" for value in old)
    assert stack.sh(f"grep -rlF {words} /etc /opt/senex-trader/.config /opt/senex-trader/config /var/lib/senex.trader 2>/dev/null || true") == ""


def test_afterwards_nothing_is_left_to_do(stack, env, rotated):
    assert unlocked(stack)
    play = stack.play(inventory=env.inventory, variables=SETTINGS).expect()
    env.converged = True
    assert play.changed == [] and play.restarts() == []
    assert stack.healthy()
    stack.task_runs()


def test_what_is_refused(stack, env, rotated):
    before = env.file.read_bytes()
    wrong = stack.play(**env.rotation(["nobody"]))
    assert wrong.code != 0 and "secret: nobody cannot be rotated here" in "\n".join(wrong.errors)
    assert env.file.read_bytes() == before
    assert unlocked(stack)
