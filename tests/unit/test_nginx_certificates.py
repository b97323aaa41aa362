"""Let's Encrypt for the names that lead here, and what is said of the others."""
import pathlib

import pytest
import yaml
from nginx_door import evaluated

ROOT = pathlib.Path(__file__).parents[2]
INPUTS = {"nginx_tls_mode": "letsencrypt", "senex_admin_email": "a@senex.test", "senex_domain_aliases": ["senex.test", "absent.senex.test"]}
SERVED = "issuer=CN=R10\nsubject=CN=www.senex.test\nX509v3 Subject Alternative Name: \n    DNS:senex.test, DNS:www.senex.test\n"
FAILED = """Saving debug log to /var/log/letsencrypt/letsencrypt.log
Certbot failed to authenticate some domains (authenticator: webroot). The Certificate Authority reported these problems:
  Domain: absent.senex.test
  Type:   unauthorized
  Detail: 203.0.113.9: Invalid response from http://absent.senex.test/.well-known/acme-challenge/x: 404

Some challenges have failed."""


def trouble(served=SERVED, nowhere=(), certbot=""):
    told = {"__nginx_served": {"stdout": served}, "__nginx_nowhere": {"stdout_lines": list(nowhere)}}
    return evaluated("__nginx_trouble", **INPUTS, **told, __nginx_certbot={"stdout": "", "stderr": certbot, "rc": 0})


def test_a_name_that_does_not_resolve_is_not_asked_for_and_named():
    assert evaluated("__nginx_asked", **INPUTS, __nginx_nowhere={"stdout_lines": ["absent.senex.test"]}) == ["www.senex.test", "senex.test"]
    (said,) = trouble(nowhere=["absent.senex.test"])
    assert "absent.senex.test has no certificate" in said and "does not resolve" in said and "nginx_domain_aliases" in said


def test_a_name_that_leads_elsewhere_is_named_with_what_the_authority_said():
    (said,) = trouble(certbot=FAILED)
    assert "absent.senex.test has no certificate" in said and "Invalid response" in said and "\n" not in said


def test_all_is_well():
    assert trouble(SERVED.replace("DNS:senex.test", "DNS:senex.test, DNS:absent.senex.test")) == []


def test_a_placeholder_proves_no_name():
    names = ", ".join(f"DNS:{name}" for name in ("www.senex.test", "senex.test", "absent.senex.test"))
    placeholder = f"issuer=CN = placeholder\nsubject=CN = placeholder\nX509v3 Subject Alternative Name: \n    {names}\n"
    assert len(trouble(placeholder, certbot="An unexpected error occurred: too many certificates")) == 3


@pytest.mark.parametrize("playbook", ["site", "scale"])
def test_a_run_goes_on_to_the_other_parts_and_fails_at_its_end(playbook):
    plays = yaml.safe_load((ROOT / f"playbooks/{playbook}.yml").read_text())
    (door,) = [play for play in plays if "senex.trader.nginx" in str(play)]
    assert door["vars"]["nginx_fail_at_once"] is False
    assert plays.index(door) < len(plays) - 2 and "trouble.yml" in str(plays[-1]) and plays[-1]["hosts"] == "nginx"
    assert plays[-1].get("tags") == door.get("tags")
