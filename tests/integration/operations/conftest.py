"""Checklists, new values for secrets: on a host of their own."""

import secrets
import socket
import subprocess

import pytest
from mail_server import Mail
from own_host import stack_on
from rotations import Environment
from stack import DOMAIN, LAB


@pytest.fixture(scope="session")
def stack():
    """See own_host."""
    yield from stack_on("operations")


@pytest.fixture(scope="session")
def mail(stack):
    """On this machine, where host and containers reach it."""
    with socket.create_connection((stack.address, 443)) as connection:
        address = connection.getsockname()[0]
    with Mail(address) as found:
        yield found


class Registry:
    """A user of the lab's registry, beside the lab's own, which others log in with meanwhile."""

    USER, FILE = "rotation", "/run/htpasswd"

    def change(self, *options, password=""):
        """The registry reads the file when it is another one, and so as a whole."""
        script = f"cp {self.FILE} {self.FILE}.new && htpasswd {' '.join(options)} {self.FILE}.new {self.USER} && mv {self.FILE}.new {self.FILE}"
        subprocess.run([LAB, "run", "--", "podman", "exec", "--interactive", "registry", "sh", "-c", script], input=password, text=True,
                       capture_output=True, check=True)  # fmt: skip

    def set(self, password):
        self.change("-iB", password=password)


@pytest.fixture(scope="session")
def registry():
    found = Registry()
    try:
        yield found
    finally:
        found.change("-D")


@pytest.fixture(scope="session")
def env(stack, mail, registry, tmp_path_factory):
    """The demo with Flower and with what others issue, so that the first rotation brings it along. Its vault is the host's from then on."""
    given = {name: secrets.token_urlsafe(24) for name in ("registry_password", "email_host_password", "payments_key")}
    registry.set(given["registry_password"])
    mail.accepted = {given["email_host_password"]}
    host, port = mail.server_address
    inputs = {
        "celery_flower_enabled": True,
        "senex_registry_login": {"username": registry.USER, "password": "{{ vault_registry_password }}"},
        "senex_email": {"host": host, "port": port, "use_tls": False, "host_user": "senex", "host_password": "{{ vault_email_host_password }}",
                        "from": f"noreply@{DOMAIN}"},
        "senex_application_secrets": ["payments_key"],
        "senex_extra_environment": {"PAYMENTS_KEY": "{{ vault_payments_key }}"},
        "watchdog_mail_to": [f"ops@{DOMAIN}"],
        "watchdog_smtp_security": "starttls",  # it sends no password in the clear; here it has nothing to send
    }  # fmt: skip
    return Environment(tmp_path_factory.mktemp("environment"), inputs, given)
