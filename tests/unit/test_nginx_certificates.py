"""Let's Encrypt for the names that lead here, and what is said of the others."""

import pathlib
import time

import pytest
import yaml
from nginx_door import evaluated

ROOT = pathlib.Path(__file__).parents[2]
INPUTS = {"nginx_tls_mode": "letsencrypt", "senex_admin_email": "a@senex.test", "senex_domain_aliases": ["senex.test", "absent.senex.test"]}
SERVED = "issuer=CN=R10\nsubject=CN=www.senex.test\nX509v3 Subject Alternative Name: \n    DNS:senex.test, DNS:www.senex.test\n"
WHOLE = SERVED.replace("DNS:senex.test", "DNS:senex.test, DNS:absent.senex.test")
FAILED = """Saving debug log to /var/log/letsencrypt/letsencrypt.log
Certbot failed to authenticate some domains (authenticator: webroot). The Certificate Authority reported these problems:
  Domain: absent.senex.test
  Type:   unauthorized
  Detail: 203.0.113.9: Invalid response from http://absent.senex.test/.well-known/acme-challenge/x: 404

Some challenges have failed."""


def trouble(served=SERVED, nowhere=(), certbot="", rc=0):
    told = {"__nginx_served": {"stdout": served}, "__nginx_nowhere": {"stdout_lines": list(nowhere)}}
    return evaluated("__nginx_trouble", **INPUTS, **told, __nginx_certbot={"stdout": "", "stderr": certbot, "rc": rc})


def test_a_name_that_does_not_resolve_is_not_asked_for_and_named():
    assert evaluated("__nginx_asked", **INPUTS, __nginx_nowhere={"stdout_lines": ["absent.senex.test"]}) == ["www.senex.test", "senex.test"]
    (said,) = trouble(nowhere=["absent.senex.test"])
    assert "absent.senex.test has no certificate" in said and "does not resolve" in said and "nginx_domain_aliases" in said


def test_a_name_that_leads_elsewhere_is_named_with_what_the_authority_said():
    (said,) = trouble(certbot=FAILED)
    assert "absent.senex.test has no certificate" in said and "Invalid response" in said and "\n" not in said


def test_all_is_well():
    assert trouble(WHOLE) == []


def test_a_certificate_that_ends_soon_and_does_not_come_anew_is_told():
    """Every name is in the one from before, so nothing is missing yet."""
    (said,) = trouble(WHOLE, certbot="An unexpected error occurred: the authority is away", rc=1)
    assert said.startswith("nginx_domain: the certificate from before stays") and "the authority is away" in said


def test_a_placeholder_proves_no_name():
    names = ", ".join(f"DNS:{name}" for name in ("www.senex.test", "senex.test", "absent.senex.test"))
    placeholder = f"issuer=CN = placeholder\nsubject=CN = placeholder\nX509v3 Subject Alternative Name: \n    {names}\n"
    assert len(trouble(placeholder, certbot="An unexpected error occurred: too many certificates")) == 3


@pytest.mark.parametrize("playbook", ["site", "scale"])
def test_a_run_goes_on_to_the_other_parts_and_fails_at_its_end(playbook):
    plays = yaml.safe_load((ROOT / f"playbooks/{playbook}.yml").read_text())
    *before, door = [play for play in plays if "senex.trader.nginx" in str(play)]
    assert all(play["vars"]["nginx_fail_at_once"] is False for play in [*before, door])
    assert plays.index(door) < len(plays) - 2 and "trouble.yml" in str(plays[-1]) and plays[-1]["hosts"] == "nginx"
    assert plays[-1].get("tags") == door.get("tags")


# A profile of the authority's
PROFILE = {"nginx_tls_mode": "letsencrypt", "senex_admin_email": "a@senex.test", "nginx_acme_profile": "shortlived"}


def with_certificate(days, *lineages):
    one = {"not_after": time.time() + days * 86400, "sans": ["www.senex.test"], "issuer_key_id": "aa", "key_id": "bb"}
    paths = ["/etc/nginx/senex/tls/letsencrypt.crt", *(f"/etc/letsencrypt/live/{name}/fullchain.pem" for name in lineages)]
    return {"__nginx_facts": {"certificates": dict.fromkeys(paths, one)}}


def test_a_certificate_of_another_profile_is_asked_for_once():
    assert evaluated("__nginx_acme_lineage", **PROFILE) == "www.senex.test-shortlived"
    assert not evaluated("__nginx_acme_good", **PROFILE, **with_certificate(60, "www.senex.test"))
    there = with_certificate(3, "www.senex.test", "www.senex.test-shortlived")
    assert evaluated("__nginx_acme_good", **PROFILE, **there), "three days are many of six"
    assert evaluated("__nginx_acme_good", **PROFILE | {"nginx_acme_profile": ""}, **with_certificate(60)), "as before without one"
    assert not evaluated("__nginx_acme_good", **PROFILE | {"nginx_acme_profile": ""}, **with_certificate(3))


@pytest.mark.parametrize(("said", "good"), [("certbot 2.9.0", False), ("certbot 4.0.0", True), ("certbot 10.1", True), ("", False)])
def test_certbot_has_to_know_profiles(said, good):
    found = evaluated("__nginx_certbot_version is version('4.0', '>=')", **PROFILE, __nginx_certbot_build={"stdout": said})
    assert found is good


def test_the_profile_reaches_certbot_and_what_it_refuses_is_said():
    (task,) = [task for task in yaml.safe_load((ROOT / "roles/nginx/tasks/letsencrypt.yml").read_text()) if "Ask Let's" in task["name"]]
    argv = task["ansible.builtin.command"]["argv"].strip().removeprefix("{{").removesuffix("}}")
    nowhere = {"__nginx_nowhere": {"stdout_lines": []}, **task["vars"]}
    words = evaluated(argv, **PROFILE, **nowhere, **with_certificate(60, "www.senex.test"))
    assert words[words.index("--required-profile") + 1] == "shortlived" and "--allow-subset-of-names" in words
    assert "--required-profile" not in evaluated(argv, **PROFILE | {"nginx_acme_profile": ""}, **nowhere, **with_certificate(60))
    told = {"__nginx_served": {"stdout": SERVED}, "__nginx_certbot": {"stdout": "", "stderr": "An unexpected error occurred: no such profile", "rc": 1}}
    (said,) = evaluated("__nginx_trouble", **PROFILE, **nowhere, **told)
    assert said.startswith("nginx_acme_profile:") and "no such profile" in said
