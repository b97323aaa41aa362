"""The environments of this repository that are nobody's yet: their placeholders get what the lab has, as a user fills them in."""

import os
import shutil
import subprocess

import yaml
from stack import LAB_DIRECTORY, ROOT, environment

PLACEHOLDERS = {
    "registry.your-domain.com": "registry.senex.test:5000",
    "your-domain.com": "senex.test",
    "senex_image_tag: CHANGE_ME": 'senex_image_tag: "1"',
    "username: CHANGE_ME": "username: lab",
    "host_user: CHANGE_ME": "host_user: senex",
}
# What follows from the lab's images and hosts, and from there being nobody outside
LAB = {
    "ansible_ssh_private_key_file": f"{LAB_DIRECTORY}/ssh/id_ed25519",
    "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
    "senex_image": "demo",
    "senex_django_settings_module": "demo.settings",
    "postgresql_image": "registry.senex.test:5000/library/postgres:15",
    "redis_image": "registry.senex.test:5000/library/redis:7",
    "nginx_tls_mode": "ownca",
    "nginx_health_networks": ["10.203.0.0/24"],
    "django_log_directory": "/var/log/app", "celery_log_directory": "/var/log/app",
    "postgresql_health_interval": 30, "redis_health_interval": 30, "django_health_interval": 30,
}  # fmt: skip


def _vault(verb, *words, text=None):
    done = subprocess.run(["ansible-vault", verb, *map(str, words)], cwd=ROOT, env=environment(), input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def filled(name, directory, inputs=None):
    """An inventory of the environment, with the demo's secrets in a vault of its own, which opens with a password of its own."""
    place = directory / name
    shutil.copytree(ROOT / "inventory" / name, place)
    variables = place / "group_vars/all"
    for path in (place / "hosts.yml", variables / "main.yml"):
        text = path.read_text(encoding="utf-8")
        for old, new in PLACEHOLDERS.items():
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")
    # Read after main.yml, so it counts
    (variables / "tested.yml").write_text(yaml.safe_dump({**LAB, **(inputs or {})}), encoding="utf-8")
    os.environ[f"SENEX_VAULT_PASSWORD_{name.upper()}"] = f"the password of {name} in tests"
    given = {
        "vault_registry_password": (LAB_DIRECTORY / "registry/password").read_text(encoding="utf-8").strip(),
        "vault_email_host_password": "nobody-reads-mail-in-the-lab",
        "vault_tastytrade_client_id": "lab",
        "vault_tastytrade_client_secret": "lab",
    }
    text = _vault("view", ROOT / "inventory/demo/group_vars/all/vault.yml") + yaml.safe_dump(given)
    _vault("encrypt", "--encrypt-vault-id", name, "--output", variables / "vault.yml", "-", text=text)
    return place


def domain(inventory):
    return yaml.safe_load((inventory / "group_vars/all/main.yml").read_text(encoding="utf-8"))["senex_domain"]
