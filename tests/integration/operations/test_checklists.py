"""The checklists before a deployment and before going live: the stack as it is, and with things broken on purpose, all at once."""

import json
import subprocess

import pytest
from stack import HOME, ROOT, environment

# The clock is the machine's; the demo's name is known to no resolver, and perhaps to the machine's hosts file
NAMES = {"time", "name demo.senex.test"}
NOWHERE = "nowhere.invalid"  # no resolver and no hosts file may know such a name (RFC 6761)
# What the demo leaves to whoever owns a site: a bucket, an address for mail, a public certificate, an outside monitor
# What the demo leaves open; and the host has just booted, so whoever asked before the application was up got 502
LEFT = {"nginx errors", "time", "trust", "boot", "notices", "copies dump", "copies base", "copies drill", "copies offsite"}


def checklist(stack, name, expect, **variables):
    """{key: finding} of the one host."""
    command = stack.command(playbook=f"playbooks/{name}.yml", variables={f"{name}_json": True, **variables}, tags="all")
    done = subprocess.run(command, cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False)
    assert (done.returncode == 0) == expect, done.stdout[-4000:] + done.stderr
    text = done.stdout
    data, _ = json.JSONDecoder().raw_decode(text, text.index("{\n"))
    said = [
        result["msg"] for play in data["plays"] for task in play["tasks"] if task["task"]["name"] == "Show the findings" for result in task["hosts"].values()
    ]
    (host,) = json.loads(next(message for message in said if message))
    found = {}
    for one in host["findings"]:
        found.setdefault(one["key"], []).append(one)
    return found


def bad(found):
    """{key: sentences} of what fails."""
    said = {key: " ".join(one["says"] for one in rows if one["level"] == "FAIL") for key, rows in found.items()}
    return {key: says for key, says in said.items() if says}


def test_preflight_of_a_good_environment(stack):
    before = stack.files()
    found = checklist(stack, "preflight", True)
    assert bad(found) == {}
    assert {key for key, rows in found.items() for one in rows if one["level"] == "WARN"} <= NAMES
    assert {"inventory", "common", "host", "nginx", "backup", "watchdog"} <= set(found)
    assert sum(key.startswith("image ") for key in found) == 3
    assert stack.files() == before


def test_preflight_names_everything_that_is_wrong_at_once(stack):
    broken = {
        "senex_domain_aliases": [NOWHERE],
        "common_min_memory_mb": 10_000_000,
        "senex_database_password": "short",
        "senex_memory_overrides": {"postgresql": 900_000},
        "senex_registry_login": {"username": "lab", "password": "wrong-password"},
        "nginx_tls_mode": "letsencrypt",
        "nginx_acme_directory_url": "https://127.0.0.1:1/directory",
        "backup_offsite_repository": "s3:https://127.0.0.1:2/bucket/path",
        "backup_offsite_access_key": "",
        "senex_email": {"host": "127.0.0.1", "port": 3, "use_tls": True, "host_user": "u", "host_password": "p", "from": "a@demo.senex.test"},
        "watchdog_restart_timeout": 180,
        "watchdog_mail_to": ["nobody"],
    }
    before = stack.files()
    found = bad(checklist(stack, "preflight", False, **broken))
    for key, says in {
        "inventory": "senex_database_password: is shorter",
        "common": "common_min_memory_mb asks for 10000000",
        "host": "senex_memory_overrides",
        "backup": "backup_offsite_access_key",
        "watchdog": "nobody is no mail address",
        "image registry.senex.test:5000/senex/demo:1": "does not take the login",
        f"name {NOWHERE}": "does not resolve",
        "certificate authority": "127.0.0.1:1",
        "bucket": "127.0.0.1:2",
        "mail 127.0.0.1:3": "does not answer",
    }.items():
        assert says in found.get(key, ""), f"{key}: {found}"
    assert stack.files() == before


def test_golive_of_the_demo(stack):
    found = checklist(stack, "golive", False)
    assert set(bad(found)) <= LEFT, bad(found)
    assert {key for key, rows in found.items() for one in rows if one["level"] == "OK"} >= {
        "application settings", "exposure", "firewall", "ssh", "updates", "secrets", "units",
    }  # fmt: skip


BREAK = {
    "firewall": ("ufw disable", "ufw --force enable", "is off"),
    "exposure": ("systemd-run --quiet --collect --unit=golive-probe python3 -m http.server 18081", "systemctl stop golive-probe", "python3 on port 18081"),
    "ssh": ("echo 'PermitRootLogin yes' >/etc/ssh/sshd_config.d/00-a.conf", "rm /etc/ssh/sshd_config.d/00-a.conf", "permitrootlogin yes"),
    "updates": ("systemctl stop apt-daily-upgrade.timer", "systemctl start apt-daily-upgrade.timer", "timer inactive"),
    "secrets": (f"chmod 644 {HOME}/.config/containers/systemd/.env", f"chmod 600 {HOME}/.config/containers/systemd/.env", ".env"),
    "header strict-transport-security": (
        "cp -p /etc/nginx/conf.d/senex-site.conf /root/golive.conf && sed -i '/add_header Strict-Transport-Security/d' /etc/nginx/conf.d/senex-site.conf"
        " && systemctl reload nginx",
        "cp -p /root/golive.conf /etc/nginx/conf.d/senex-site.conf && rm /root/golive.conf && systemctl reload nginx",
        "is missing",
    ),
    "passwords": (
        "senex manage shell -c \"from django.contrib.auth import get_user_model as u; u().objects.create_superuser('golive', 'a@b.io', 'admin')\"",
        "senex manage shell -c \"from django.contrib.auth import get_user_model as u; u().objects.filter(username='golive').delete()\"",
        "golive",
    ),
    # What systemd-run makes for one command is nobody's service, and not watched
    "unit golive-broken.service": (
        "printf '[Service]\\nExecStart=false\\n' >/etc/systemd/system/golive-broken.service && systemctl daemon-reload"
        " && systemctl start --wait golive-broken; true",
        "rm -f /etc/systemd/system/golive-broken.service; systemctl reset-failed golive-broken; systemctl daemon-reload",
        "failed",
    ),
}  # fmt: skip


@pytest.fixture
def broken(stack):
    """Everything at once: a look takes as long as all checks together."""
    done = []
    try:
        for spoil, mend, _ in BREAK.values():
            done.append(mend)
            stack.sh(spoil, timeout=120)
        yield stack
    finally:
        for mend in done:
            stack.ssh(mend, timeout=120)


def test_golive_names_everything_that_is_broken(broken):
    found = bad(checklist(broken, "golive", False))
    for key, (_, _, says) in BREAK.items():
        assert says in found.get(key, ""), f"{key}: {found}"
    assert set(found) <= LEFT | set(BREAK)
