"""Under load: Flower's password, and what others issue. A value that its issuer does not take is refused before anything knows it."""

import base64
import json
import os
import secrets
import shlex

import pytest
from releases import SETTINGS, unlocked
from rotations import manage
from stack import APPLICATION, HOME, wait
from traffic import Traffic

pytestmark = pytest.mark.faults
RATE = int(os.environ.get("SENEX_TEST_RATE", "20"))  # as in test_rotation
QUIET, RESTARTING = ("flower_password", "registry_password"), ("email_host_password", "payments_key")
NAMES = (*QUIET, *RESTARTING)
REFUSED = ("registry_password", "email_host_password")
LOGIN = """
import smtplib
from django.core.mail import get_connection
try:
    get_connection(password={password!r}).open()
    print("open")
except smtplib.SMTPAuthenticationError:
    print("refused")
"""


class Rotated:
    """What was before, what happened, and what was seen."""


def main_pids(stack):
    """{unit: main process} of all that may restart."""
    pids = {unit: found["MainPID"] for unit, found in stack.show("MainPID").items()}
    pids["celery-flower"] = stack.user("systemctl", "--user", "show", "-p", "MainPID", "--value", "celery-flower.service").strip()
    pids["senex-watchdog"] = stack.sh("systemctl show -p MainPID --value senex-watchdog.service").strip()
    return pids


def moved(before, after):
    return {unit for unit in after if after[unit] != before[unit]}


@pytest.fixture(scope="module")
def rotated(stack, env, mail, registry):
    """Refused ones, then two rotations: of what restarts nothing of the application, and of what restarts all of it once."""
    seen, new = Rotated(), {name: secrets.token_urlsafe(24) for name in NAMES}
    if not env.converged:
        stack.play(inventory=env.inventory, variables=SETTINGS, timeout=600).expect()
    seen.before, seen.new = env.vault(), new
    seen.file, pids = env.file.read_bytes(), [main_pids(stack)]
    with Traffic(stack, rate=RATE, sockets=20, tasks_per_second=2, limit=900) as traffic:
        seen.wrong = stack.play(**env.rotation(REFUSED, "not-the-registrys", "not-the-mail-servers"))
        seen.file_then, pids = env.file.read_bytes(), [*pids, main_pids(stack)]
        registry.set(new["registry_password"])
        seen.quiet = stack.play(**env.rotation(QUIET, new["registry_password"]), timeout=600)
        pids.append(main_pids(stack))
        mail.accepted.add(new["email_host_password"])
        seen.restarting = stack.play(**env.rotation(RESTARTING, *(new[name] for name in RESTARTING)), timeout=600)
        pids.append(main_pids(stack))
    seen.traffic, seen.after = traffic, env.vault()
    seen.moved = [moved(*pair) for pair in zip(pids, pids[1:], strict=False)]
    seen.quiet.expect()
    seen.restarting.expect()
    mail.accepted = {new["email_host_password"]}
    return seen


def test_nothing_failed_and_no_task_was_lost(rotated, figure):
    figure("rotation of Flower's and the registry's: wall", rotated.quiet.wall)
    figure("rotation of mail's and an application's own: wall", rotated.restarting.wall)
    print(rotated.traffic.result())
    rotated.traffic.expect_nothing_lost(least=1000, gap=10)


def test_a_value_that_its_issuer_does_not_take_changes_nothing(stack, rotated):
    said = "\n".join(rotated.wrong.errors)
    assert rotated.wrong.code != 0
    assert "registry_password: registry.senex.test:5000 does not take senex_registry_login (user rotation)" in said
    assert "email_host_password: " in said and "does not take the login of senex (535)" in said and "Nothing was changed." in said
    assert rotated.file_then == rotated.file
    assert rotated.moved[0] == set() and not set(rotated.wrong.changed) & {"Acquire the deploy lock", "Write the vault"}


def test_only_what_reads_a_secret_restarted(rotated):
    assert rotated.moved[1:] == [{"celery-flower"}, {*APPLICATION, "celery-flower", "senex-watchdog"}]


def test_the_vault_has_new_ones_and_knows_when(rotated):
    after, before = dict(rotated.after), dict(rotated.before)
    assert after.pop("vault_rotated").keys() - before.pop("vault_rotated", {}).keys() == set(NAMES)
    assert {name for name in before if after.get(name) != before[name]} == {f"vault_{name}" for name in NAMES} and after.keys() == before.keys()
    given = NAMES[1:]
    assert {name: after[f"vault_{name}"] for name in given} == {name: rotated.new[name] for name in given}


def test_flower_takes_the_new_one_alone(stack, rotated):
    def status(vault):
        return stack.sh(f"curl -s -o /dev/null -w '%{{http_code}}' --user admin:{vault['vault_flower_password']} http://127.0.0.1:5555/")

    wait(lambda: status(rotated.after) == "200", 30, "Flower's page")
    assert status(rotated.before) == "401"


def test_the_registry_takes_what_the_host_has(stack, rotated):
    url = "https://registry.senex.test:5000/v2/"
    values = (rotated.new["registry_password"], rotated.before["vault_registry_password"])
    assert [stack.sh(f"curl -s -o /dev/null -w '%{{http_code}}' --user rotation:{value} {url}") for value in values] == ["200", "401"]
    image = json.loads(stack.user("podman", "inspect", "web-1"))[0]["ImageName"]
    stack.user("podman", "pull", "--quiet", image, timeout=120)


def test_the_application_logs_in_at_the_mail_server(stack, rotated):
    assert manage(stack, LOGIN.format(password=None)) == "open"
    assert manage(stack, LOGIN.format(password=rotated.before["vault_email_host_password"])) == "refused"
    told = json.loads(stack.sh("cat /etc/senex-trader/watchdog.secrets.json"))
    assert told["smtp_password"] == rotated.new["email_host_password"]


def test_every_container_of_the_application_is_told(stack, rotated):
    for container in APPLICATION:
        asked = stack.user("podman", "exec", container, "printenv", "EMAIL_HOST_PASSWORD", "PAYMENTS_KEY").split()
        assert asked == [rotated.new[name] for name in RESTARTING], container


def test_no_value_in_the_output_and_no_old_one_on_the_host(stack, rotated):
    values = {vault[f"vault_{name}"] for vault in (rotated.before, rotated.after) for name in NAMES} | {"not-the-registrys", "not-the-mail-servers"}
    output = rotated.wrong.output + rotated.quiet.output + rotated.restarting.output
    assert [value for value in values if value in output] == []
    old = [rotated.before[f"vault_{name}"] for name in NAMES]
    login = base64.b64encode(f"rotation:{rotated.before['vault_registry_password']}".encode()).decode()  # as Podman's file has it
    words = " ".join(f"-e {shlex.quote(value)}" for value in [*old, login])
    assert stack.sh(f"grep -rlF {words} /etc {HOME}/.config {HOME}/config /var/lib/senex.trader 2>/dev/null || true") == ""


def test_afterwards_nothing_is_left_to_do(stack, env, rotated):
    assert unlocked(stack) and stack.healthy()
    play = stack.play(inventory=env.inventory, variables=SETTINGS).expect()
    assert play.changed == [] and play.restarts() == []
