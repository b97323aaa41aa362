"""Before the public comes: the application's own settings, and what a browser would see of the site."""

from __future__ import annotations

import json
import re
import socket
import ssl
import time

from senex_host import bounded

from .findings import Check, Finding, fail, ok, warn
from .golive_page import PAGE

YEAR = 31_536_000
# What the application thinks of itself. Passwords are compared by the hasher alone: check_password of a user may save a new hash.
APPLICATION = """
import json
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import check_password
from django.core import checks
said = ["%s %s" % (one.id, one.msg) for one in checks.run_checks(include_deployment_checks=True) if one.level >= checks.WARNING and not one.is_silenced()]
weak = []
for user in get_user_model()._default_manager.filter(is_superuser=True, is_active=True)[:20]:
    words = {user.get_username(), "admin", "password", "changeme", "senex", "secret"}
    weak += [user.get_username()] if any(check_password(word, user.password) for word in words) else []
print(json.dumps({"debug": settings.DEBUG, "said": said, "weak": weak, "hosts": settings.ALLOWED_HOSTS}))
"""


def read_application(host, config) -> dict:
    """Asked of the first instance that runs."""
    states = host.units("user", [one.unit for one in config.web.instances])
    running = [unit for unit, state in states.items() if state.get("ActiveState") == "active"]
    if not running:
        raise OSError("no web instance runs")
    container = running[0].removesuffix(".service")
    done = host.inside(container, *host.entry_point(container), *config.manage, "shell", "--command", APPLICATION, timeout=120)
    rows = [line for line in done.out.split("\n") if line.startswith("{")]
    if done.code or not rows:
        raise OSError(done.said)
    return json.loads(rows[-1])


def judge_application(data: dict, config, now: float) -> list[Finding]:
    """DEBUG off, Django's own deployment check content, no password that anybody would guess."""
    found = []
    if data["debug"]:
        found.append(fail("debug", "DEBUG is on: an error page shows settings and code", "DEBUG: 'False' in the environment, and no setting over it"))
    if "*" in data["hosts"]:
        found.append(fail("allowed hosts", "ALLOWED_HOSTS takes every name", "the application should read it from its environment (senex_domain)"))
    if data["weak"]:
        found.append(fail("passwords", f"anybody would guess the password of {', '.join(data['weak'])}", "senex manage changepassword NAME"))
    if data["said"]:
        found.append(warn("check --deploy", "; ".join(data["said"]), "change the settings, or name the check in SILENCED_SYSTEM_CHECKS with a reason"))
    return found or [ok("application settings", "DEBUG is off, check --deploy is content, no administrator has a password that is guessed")]


def connect(public, port: int, context: ssl.SSLContext) -> socket.socket:
    """A connection to the site that needs no name resolution."""
    return bounded.connect(public.address, port, time.monotonic() + 10, context, public.domain)


def ask(public, port: int, context: ssl.SSLContext | None = None) -> tuple[int, dict[str, str]]:
    """Status and headers of the front page."""
    headers = {"Host": public.domain, "User-Agent": "senex-golive"}
    answer = bounded.ask(public.address, port, "/", headers, 10, context, public.domain, whole=False)
    return answer.status, answer.headers


def takes_old_tls(public) -> bool:
    """Whether anything below TLS 1.2 gets a connection."""
    context = bounded.unverified()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    try:
        connect(public, public.port, context).close()
    except OSError:
        return False
    return True


def read_site(host, config) -> dict:
    """What a browser would see."""
    public, untrusted = config.public, ""
    try:
        connect(public, public.port, ssl.create_default_context()).close()
    except ssl.SSLCertVerificationError as error:
        untrusted = error.verify_message
    _, headers = ask(public, public.port, bounded.unverified())
    plain, plain_headers = ask(public, 80)
    found = {"headers": headers, "plain": plain, "location": plain_headers.get("location", "")}
    return {**found, "untrusted": untrusted, "old": takes_old_tls(public)}


def judge_site(data: dict, config, now: float) -> list[Finding]:
    """HTTPS alone, with the headers and versions that raters ask for."""
    found, headers, run = [], data["headers"], "run the playbook with --tags nginx"
    if data["untrusted"]:
        found.append(warn("trust", f"a browser would refuse the certificate: {data['untrusted']}", "nginx_tls_mode: letsencrypt or provided for a public site"))
    if not (data["plain"] in (301, 308) and data["location"].startswith(f"https://{config.public.domain}")):
        found.append(fail("http", f"port 80 answers {data['plain']} in place of sending everybody to https", run))
    if data["old"]:
        found.append(fail("tls", "a protocol below TLS 1.2 is taken", run))
    age = re.search(r"max-age=(\d+)", headers.get("strict-transport-security", ""))
    if not age or int(age[1]) < YEAR:
        found.append(fail("header strict-transport-security", "is missing or holds for less than a year", "nginx_hsts_*; " + run))
    for name, word in (("content-security-policy", ""), ("x-content-type-options", "nosniff"), ("referrer-policy", "")):
        if name not in headers or word not in headers[name]:
            found.append(fail(f"header {name}", "is missing", run))
    if "x-frame-options" not in headers and "frame-ancestors" not in headers.get("content-security-policy", ""):
        found.append(fail("header x-frame-options", "is missing, and the content-security-policy has no frame-ancestors", run))
    if re.search(r"\d", headers.get("server", "")):
        found.append(warn("header server", f"tells the version: {headers['server']}", "server_tokens off; " + run))
    return found or [ok("site", "https alone, TLS 1.2 and later, all headers")]


SITE = [
    Check("application settings", read_application, judge_application, lambda config: config.web),
    Check("site", read_site, judge_site, lambda config: config.public),
    PAGE,
]
