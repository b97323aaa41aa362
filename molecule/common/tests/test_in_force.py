"""Configuration beside the role's that overrides it: seen by the module with which each run ends, and by the program that `senex status` runs."""

import json
import os
import subprocess
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[3] / "plugins/module_utils/host/in_force.py"
OVERRIDES = {
    "/etc/systemd/journald.conf.d/zz-other.conf": "[Journal]\nStorage=volatile\n",
    "/etc/sysctl.d/99-zz-other.conf": "net.core.somaxconn = 128\n",
    "/etc/fail2ban/jail.d/zz-other.local": "[sshd]\nbantime = 60\n",
    "/etc/apt/apt.conf.d/99other": 'APT::Periodic::Unattended-Upgrade "0";\n',
}
SENTENCES = [
    "sshd PasswordAuthentication is yes, not no; /etc/ssh/sshd_config does not read /etc/ssh/sshd_config.d/00-senex.conf: put the line",
    "journald.conf Storage is volatile, not persistent; /etc/systemd/journald.conf.d/zz-other.conf sets it",
    "sysctl net.core.somaxconn is 4096, and 128 after the next boot; /etc/sysctl.d/99-zz-other.conf sets it",
    "fail2ban bantime is 60, not 1h; /etc/fail2ban/jail.d/zz-other.local names it",
    "apt APT::Periodic::Unattended-Upgrade is 0, not 1; /etc/apt/apt.conf.d/99other names it",
    "ufw incoming is allow, not deny; /etc/default/ufw says so",
]


def verify():
    """As role common verifies."""
    command = ["ansible", "all", "-i", os.environ["MOLECULE_INVENTORY_FILE"], "-m", "senex.trader.in_force"]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "ANSIBLE_NOCOLOR": "1"})


def watch(host):
    """As `senex status` watches: outside of any sandbox, the program alone."""
    done = host.run("systemd-run --quiet --pipe --wait --collect /usr/bin/python3 -IS -c %s", PROGRAM.read_text(encoding="utf-8"))
    assert done.rc == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def overridden(host):
    for path, text in OVERRIDES.items():
        host.run_expect([0], "printf %s >%s", text, path)
    host.check_output("sed -i.kept 's/^Include/#Include/' /etc/ssh/sshd_config && fail2ban-client reload && ufw default allow incoming")
    try:
        yield
    finally:
        host.run(f"rm {' '.join(OVERRIDES)}; mv /etc/ssh/sshd_config.kept /etc/ssh/sshd_config; fail2ban-client reload; ufw default deny incoming")


def test_what_overrides_is_named(host, overridden):
    verified, watched = verify(), [f"{one['setting']} {one['says']}; {one['origin']}" for one in watch(host)]
    assert verified.returncode != 0
    for sentence in SENTENCES:
        assert sentence in verified.stdout, verified.stdout
        assert any(line.startswith(sentence) for line in watched), watched


def test_all_is_in_force_again(host):
    done = verify()
    assert done.returncode == 0, done.stdout
    assert watch(host) == []


def test_a_file_that_is_put_back_is_told_to_its_program(host):
    """Somebody let passwords in and reloaded sshd: a file that is right again closes nothing while sshd goes on with what it has read."""
    # 255 would be the lost connection of the test itself
    asked = "ssh -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o PreferredAuthentications=none nobody@127.0.0.1 || true"
    file, timer = "/etc/ssh/sshd_config.d/00-senex.conf", "apt-daily-upgrade.timer"
    host.check_output(f"sed -i 's/^PasswordAuthentication .*/PasswordAuthentication yes/' {file} && systemctl reload ssh && systemctl disable {timer}")
    assert "password" in host.run(asked).stderr
    playbook = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"], "molecule/shared/converge.yml")
    command = ["ansible-playbook", "-i", os.environ["MOLECULE_INVENTORY_FILE"], str(playbook)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "ANSIBLE_NOCOLOR": "1"})
    assert done.returncode == 0, done.stdout
    assert "publickey" in host.run(asked).stderr and "password" not in host.run(asked).stderr
    assert host.check_output(f"systemctl is-enabled {timer}") == "enabled"
