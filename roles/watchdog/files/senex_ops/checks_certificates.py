"""Checks of certificates: as files, and as nginx serves them."""

from __future__ import annotations

import os
import ssl
import time

from senex_host import bounded, untrusted

from .findings import Check, Finding, Sample, age, fail, ok, warn

DAY = 86400
OF_NGINX = "/etc/nginx/senex/tls/*.crt"
CERTIFICATES = 50  # that are looked at: each is a process


def read_certificates(host, config) -> dict:
    """From when to when each certificate holds, in seconds since the epoch, by file and as nginx serves it; text where that cannot be read."""
    texts: dict[str, str] = {}
    found: dict[str, list[float] | str] = {}
    there = sorted(untrusted.matching(config.certificates, follow=True).items())
    if len(there) > CERTIFICATES:
        found[f"number {CERTIFICATES + 1} and later"] = f"not looked at: watchdog_certificates leads to {len(there)} files"
    for path, one in there[:CERTIFICATES]:
        if "content" in one:
            texts[path] = one["content"].decode(errors="replace")
        else:
            found[path] = f"cannot be read: {untrusted.problem(one)}"
    if config.public:
        name = f"{config.public.domain} (served)"
        try:
            texts[name] = served(config.public)
            if files := unread(texts[name], time.time()):
                found[f"{config.public.domain} (in use)"] = f"is not the one of {files}, which nginx has not read: systemctl reload nginx"
        except OSError as error:
            found[name] = f"not served: {error}"
    for name, text in texts.items():
        done = host.run("openssl", "x509", "-passin", "pass:", "-noout", "-dates", stdin=text)
        dates = dict(line.split("=", 1) for line in untrusted.records(done.out) if "=" in line)
        try:
            found[name] = [ssl.cert_time_to_seconds(dates[one]) for one in ("notBefore", "notAfter")]
        except (KeyError, ValueError):  # openssl calls "Bad time value" what somebody made by hand
            found[name] = f"is no certificate: {done.said}"
    return found


def served(public) -> str:
    """The certificate that nginx hands out now, which may be older than the file."""
    with bounded.connect(public.address, public.port, time.monotonic() + 5, bounded.unverified(), public.domain) as secure:
        return ssl.DER_cert_to_PEM_cert(secure.getpeercert(True) or b"")


def unread(served: str, now: float) -> str:
    """The files, where nginx hands out none of them: they were written, and it was not told. A reload takes some seconds."""
    texts = {path: one["content"].decode(errors="replace") for path, one in untrusted.matching([OF_NGINX]).items() if "content" in one}
    if not texts or first_certificate(served) in {first_certificate(text) for text in texts.values()}:
        return ""
    return " and ".join(sorted(texts)) if all(now - os.stat(path).st_mtime > 60 for path in texts) else ""


def first_certificate(text: str) -> str:
    """What is between the first two marks, however its lines are broken."""
    return "".join(text.partition("-----BEGIN CERTIFICATE-----")[2].partition("-----END")[0].split())


def judge_certificates(data: dict, config, now: float) -> list[Finding]:
    """Enough is left of each one's life. A share of it, for some live a week and some a year; and of a long life no more than so many days."""
    found, limits = [], config.limits
    for name, dates in data.items():
        key, do = f"certificate {name}", "run site.yml, which renews the environment's own; with Let's Encrypt: certbot renew, then systemctl reload nginx"
        if os.path.basename(name) == "ca.crt":
            do = "a new authority, for all at once: remove vault_ca_* from the vault, then playbooks/secrets.yml and site.yml (docs/operations/rotation.md)"
        if isinstance(dates, str):
            found.append(warn(key, dates, do))
            continue
        begin, end = dates
        left, life = end - now, end - begin
        says = f"{left / DAY:.0f} days left" if left >= 3 * DAY else f"{left / 3600:.0f} h left" if left >= 0 else f"expired {age(-left)} ago"
        if left < min(life * limits.certificate_fail_share / 100, limits.certificate_fail * DAY):
            found.append(fail(key, says, do))
        else:
            late = left < min(life * limits.certificate_warn_share / 100, limits.certificate_warn * DAY)
            found.append(warn(key, says, do) if late else ok(key, says))
    return found


def measure_certificates(data: dict, now: float) -> list[Sample]:
    """When each one ends."""
    return [Sample("certificate_expires_seconds", dates[1], {"certificate": name}) for name, dates in data.items() if not isinstance(dates, str)]


CHECKS = [
    Check("certificates", read_certificates, judge_certificates, interval=lambda probe: 4 * probe.slow_interval, measure=measure_certificates),
]
