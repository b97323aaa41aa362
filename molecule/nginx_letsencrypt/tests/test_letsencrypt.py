"""The first certificate, and its renewal, as a visitor and the host show them."""

import re
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "shared"))

from parts import apply  # noqa: E402  (the path above must come first)

DOMAIN = "www.senex.test"


def served(host, what="-serial"):
    connection = f"openssl s_client -connect 127.0.0.1:443 -servername {DOMAIN} </dev/null 2>/dev/null"
    return host.run(f"{connection} | openssl x509 -noout {what}").stdout.strip()


def test_the_authoritys_certificate_is_served(host):
    assert "Pebble Intermediate" in served(host, "-issuer")
    assert set(re.findall(r"DNS:([a-z.]+)", served(host, "-ext subjectAltName"))) == {DOMAIN, "senex.test"}


def test_the_chain_is_complete(host):
    host.run("curl -sk https://localhost:15000/roots/0 > /tmp/root.pem")
    checked = host.run(f"curl --silent --output /dev/null --cacert /tmp/root.pem --resolve {DOMAIN}:443:127.0.0.1 https://{DOMAIN}/")
    assert checked.rc == 0, checked.stderr


def test_renewal_runs_by_timer_and_is_served_at_once(host):
    assert host.service("certbot.timer").is_enabled
    assert host.service("certbot.timer").is_running
    before, main = served(host), host.run("systemctl show --property=MainPID --value nginx.service").stdout
    host.run(f"sed -i 's/^# renew_before_expiry.*/renew_before_expiry = 9999 days/' /etc/letsencrypt/renewal/{DOMAIN}*.conf")
    renewed = host.run("systemctl start certbot.service")
    assert renewed.rc == 0, host.run("journalctl -u certbot.service -n 30 --no-pager").stdout
    host.run(f"sed -i 's/^renew_before_expiry.*/# renew_before_expiry = 30 days/' /etc/letsencrypt/renewal/{DOMAIN}*.conf")
    assert served(host) != before, host.run("tail -n 30 /var/log/letsencrypt/letsencrypt.log").stdout
    assert host.run("systemctl show --property=MainPID --value nginx.service").stdout == main


def test_key_is_for_root_alone(host):
    key = host.file("/etc/nginx/senex/tls/letsencrypt.key")
    assert (key.user, key.mode) == ("root", 0o600)


def names(host):
    return set(re.findall(r"DNS:([a-z.]+)", served(host, "-ext subjectAltName")))


@pytest.mark.faults
def test_a_name_without_dns_costs_the_others_nothing(host):
    """From nothing, as on a first run; then with what there is, which is asked for no second time."""
    inputs = {"nginx_acme_ca_certificate": host.file("/etc/pebble/ca.crt").content_string, "senex_domain_aliases": ["senex.test", "nowhere.senex.test"]}
    host.check_output("rm -rf /etc/letsencrypt/live /etc/letsencrypt/archive /etc/letsencrypt/renewal /etc/nginx/senex/tls/letsencrypt.*")
    ended = apply(inputs, check=False, role="nginx")
    assert ended.rc and "nowhere.senex.test has no certificate" in ended.message
    assert names(host) == {DOMAIN, "senex.test"} and "Pebble Intermediate" in served(host, "-issuer")
    before = served(host)
    went_on = apply({**inputs, "nginx_fail_at_once": "false"}, role="nginx")
    assert went_on.rc == 0 and served(host) == before
    # It resolves, but the authority does not reach this host under it
    host.check_output("rm -rf /etc/letsencrypt/live /etc/letsencrypt/archive /etc/letsencrypt/renewal /etc/nginx/senex/tls/letsencrypt.*")
    host.check_output("echo 'fd00::1 nowhere.senex.test' >>/etc/hosts")
    ended = apply(inputs, check=False, role="nginx")
    assert ended.rc and "nowhere.senex.test has no certificate" in ended.message
    assert names(host) == {DOMAIN, "senex.test"}
    host.check_output("sed 's/^fd00::1 /127.0.0.1 /' /etc/hosts >/root/hosts && cat /root/hosts >/etc/hosts")
    apply(inputs, role="nginx")
    assert names(host) == {DOMAIN, "senex.test", "nowhere.senex.test"}
