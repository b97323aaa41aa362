"""site.yml --check on a host that has had nothing yet, not even lists of packages: a plan of all that would be done, to its end, and nothing is done."""

import subprocess

import environments
import pytest
from stack import LAB, ROOT, SSH_CONFIG, Stack, environment

NAME = "bare-plan"
# What a change of any kind would show in. Not the time of a directory: a home's storage is tried in one that is removed again
FIND = "find /etc /opt /usr/local /var/lib/senex.trader /var/lib/systemd/linger -xdev"
STATE = f"{FIND} '(' -type f -printf '%p %s %m %u %T@\\n' ')' -o -printf '%p %y %m %u %l\\n' 2>/dev/null | sort; dpkg -l; ufw status 2>&1"


@pytest.fixture(scope="module")
def address():
    try:
        yield subprocess.run([LAB, "up", NAME, "--image", "host"], capture_output=True, text=True, check=True).stdout.split()[-1]
    finally:
        subprocess.run([LAB, "down", NAME], capture_output=True, check=False)


def state():
    return subprocess.run(["ssh", "-F", SSH_CONFIG, NAME, STATE], capture_output=True, text=True, check=False).stdout


@pytest.fixture(scope="module")
def staging(tmp_path_factory):
    return environments.filled("staging", tmp_path_factory.mktemp("inventory"))


def plan(address, inventory, tags="phase1", **inputs):
    argv = Stack.command_at(address, tags=tags, variables=inputs, inventory=inventory)
    return subprocess.run([*argv, "--check", "--diff"], cwd=ROOT, env=environment() | {"ANSIBLE_STDOUT_CALLBACK": "default"}, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=400, check=False)  # fmt: skip


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (
            {},
            [
                "/etc/systemd/system/senex-watchdog.service",
                "/etc/nginx/conf.d",
                "pitr : Put the archive in place",
                "would be signed",
                "Create the service user",
                "changed: [staging-1]",
            ],
        ),
        ({"tags": "nginx", "nginx_tls_mode": "letsencrypt", "senex_admin_email": "ops@senex.test"}, ["/etc/nginx/senex/deploy-certificate"]),
    ],
    ids=["all parts", "a certificate of Let's Encrypt's"],
)
def test_a_plan_to_its_end(address, staging, inputs, words):
    """Of the inventory for staging, which no other test takes to a host."""
    before = state()
    done = plan(address, staging, **inputs)
    assert done.returncode == 0, done.stdout[-4000:]
    assert [word for word in words if word not in done.stdout] == []
    assert state() == before
