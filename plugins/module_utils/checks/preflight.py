"""What a host can ask of the world around it before anything is installed: names, registry, mail server, certificate authority, bucket."""

from __future__ import annotations

import base64
import ctypes
import http.client
import json
import os
import re
import smtplib
import socket
import ssl
import urllib.parse
from collections.abc import Callable, Mapping, Sequence

from ansible_collections.senex.trader.plugins.module_utils.host import bounded, data_directory, mail_login, storage, untrusted

MANIFESTS = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in ("oci.image.index.v1", "oci.image.manifest.v1", "docker.distribution.manifest.list.v2", "docker.distribution.manifest.v2")
)
LEAST_MEMORY = 3.6 * 1024**3  # a host sold with 4 GB, whose kernel keeps some of it
TIMEOUT = 15


def finding(key: str, level: str, says: str, do: str = "") -> dict[str, str]:
    """One line of the screen, as `senex status --json` has it; whoever's words they are, each is printable."""
    return {"key": untrusted.plain(key, 150), "level": level, "says": untrusted.plain(says, 1000), "do": untrusted.plain(do, 500)}


def names(domains: Sequence[str], addresses: Sequence[str], wanted: bool, resolve: Callable = socket.getaddrinfo) -> list[dict]:
    """Each public name leads to one of the addresses. Where nothing depends on it yet (`wanted`), it is a warning."""
    found = []
    for domain in domains:
        key, do = f"name {domain}", f"make an A record (with IPv6, AAAA too) of {domain} with the host's public address; senex_domain, senex_domain_aliases"
        try:
            seen = sorted({str(entry[4][0]) for entry in resolve(domain, 443, type=socket.SOCK_STREAM)})
        except OSError as error:
            found.append(finding(key, "FAIL" if wanted else "WARN", f"does not resolve: {error.strerror or error}", do))
            continue
        if set(seen) & set(addresses):
            found.append(finding(key, "OK", f"leads to {', '.join(seen)}"))
        else:
            says = f"leads to {', '.join(seen)}, none of which is the host's ({', '.join(addresses)})"
            found.append(finding(key, "WARN", says, f"right behind NAT or a load balancer; else {do}"))
    return found


def machine(cores: int | None = None, memory: int | None = None) -> list[dict]:
    """Cores, bytes of memory, clock. What is too little to begin with, and the disk, are the common role's matter."""
    cores = cores or os.cpu_count() or 1
    memory = memory or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    size = f"{memory / 1024**3:.1f} GB"
    state = ctypes.create_string_buffer(512)  # struct timex, asked and not set
    synchronised = ctypes.CDLL(None).adjtimex(state) != 5
    return [
        finding("cores", "OK", str(cores)) if cores >= 2 else
        finding("cores", "WARN", "1: a release and users' requests share it", "take a host with two or more"),
        finding("memory", "OK", size) if memory >= LEAST_MEMORY else
        finding("memory", "WARN", f"{size}: tight for all components together", "4 GB or more; docs/user/configure.md has what each component gets"),
        finding("time", "OK", "synchronised") if synchronised else
        finding("time", "WARN", "the clock is not synchronised", "the common role installs systemd-timesyncd; common_time_servers where UDP 123 is closed"),
    ]  # fmt: skip


def fetch(url: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> tuple[int, Mapping[str, str], bytes]:
    """Status, headers (lower case) and body; OSError where there is no answer. No redirect leads a password elsewhere."""
    try:
        answer = bounded.fetch(url, {"User-Agent": "senex-preflight", **(headers or {})}, TIMEOUT, method=method, whole=False)
    except http.client.HTTPException as error:
        raise OSError(str(error) or type(error).__name__) from None
    return answer.status, answer.headers, answer.body


def authorization(challenge: str, user: str, password: str) -> str:
    """What the registry wants to see, from its challenge; a bearer token is fetched where it asks for one."""
    basic = f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}" if user else ""
    kind, _, rest = challenge.partition(" ")
    if kind.lower() != "bearer":
        return basic
    words = dict(re.findall(r'(\w+)="([^"]*)"', rest))
    if not words["realm"].startswith("https://"):
        raise ValueError(f"it wants the password at {words['realm']}, unencrypted")
    query = urllib.parse.urlencode({name: words[name] for name in ("service", "scope") if name in words})
    status, _, body = fetch(f"{words['realm']}?{query}", {"Authorization": basic} if basic else {})
    if status != 200:
        return ""
    answer = json.loads(body)
    if not isinstance(answer, dict):
        raise ValueError("its token is none")
    return f"Bearer {answer.get('token') or answer.get('access_token')}"


def image(reference: str, login: Mapping[str, str], what: str) -> dict:
    """The registry answers, takes the login and has the image."""
    key, name = f"image {reference}", reference
    name, _, digest = name.partition("@")
    registry, _, path = name.partition("/")
    path, _, tag = path.rpartition(":") if ":" in path else (path, "", "latest")
    login = login if login.get("registry") == registry else {}  # a password is its own registry's business
    registry = "registry-1.docker.io" if registry == "docker.io" else registry
    url = f"https://{registry}/v2/{path}/manifests/{digest or tag}"
    try:
        status, headers, _ = fetch(url, {"Accept": MANIFESTS}, "HEAD")
        if status == 401 and "www-authenticate" in headers:
            token = authorization(headers["www-authenticate"], login.get("username", ""), login.get("password", ""))
            status, headers, _ = fetch(url, {"Accept": MANIFESTS, **({"Authorization": token} if token else {})}, "HEAD")
    except (OSError, ValueError, KeyError, RecursionError) as error:
        return finding(key, "FAIL", f"the registry does not answer: {error}", f"{what}: name, network, and a certificate that the host trusts")
    if status in (401, 403):
        says = "the registry does not take the login" if login else "the registry wants a login"
        return finding(key, "FAIL", says, "senex_registry_login: username, password")
    if status == 404:
        return finding(key, "FAIL", "the registry has no such image", f"push it, or correct {what}")
    return finding(key, "OK", "can be pulled") if status == 200 else finding(key, "FAIL", f"the registry answers {status}", what)


def mail(host: str, port: int, security: str, user: str, password: str, ca_file: str = "") -> dict:
    """The mail server answers, encrypts and takes the login. Nothing is sent. smtplib waits for each line alone, and for as many as there come."""
    key, do = f"mail {host}:{port}", "senex_email, or watchdog_smtp_*: host, port, user and password; is the port open on the way out?"
    try:
        told = untrusted.run(os.geteuid(), os.getegid(), _log_in, host, port, security, user, password, ca_file, patience=3 * TIMEOUT)
    except OSError as error:
        told = str(error)
    if told:
        return finding(key, "FAIL", told, do)
    return finding(key, "OK", f"takes the login of {user}" if user else "answers; no login is asked for")


def _log_in(host: str, port: int, security: str, user: str, password: str, ca_file: str) -> str:
    """What is wrong with the mail server, or nothing."""
    context = ssl.create_default_context(cafile=ca_file or None)
    try:
        server = smtplib.SMTP_SSL(host, port, timeout=TIMEOUT, context=context) if security == "tls" else smtplib.SMTP(host, port, timeout=TIMEOUT)
        with server:
            if security == "starttls":
                server.starttls(context=context)
            if user:
                mail_login.log_in(server, user, password)
    except smtplib.SMTPAuthenticationError as error:
        return f"does not take the login of {user} ({error.smtp_code})"
    except (OSError, smtplib.SMTPException) as error:
        return f"does not answer as it should: {error}"
    return ""


def answers(key: str, url: str, do: str) -> dict:
    """Something answers there by HTTPS; what it says of a stranger does not matter."""
    try:
        status, _, _ = fetch(url)
    except (OSError, ValueError) as error:
        return finding(key, "FAIL", f"{url} does not answer: {error}", do)
    return finding(key, "OK", f"answers ({status})") if status < 500 else finding(key, "FAIL", f"{url} answers {status}", do)


def server(what: str, host: str, port: int, says: str) -> dict:
    """A server of somebody else's takes a connection from here."""
    key = f"{what} {host}:{port}"
    try:
        socket.create_connection((host, port), timeout=TIMEOUT).close()
    except (OSError, UnicodeError) as error:
        return finding(key, "FAIL", f"takes no connection: {error}", f"senex_{what}_host, senex_{what}_port; does its firewall let this host in?")
    return finding(key, "OK", f"takes connections; {says}")


def directory(path: str, marker: str, what: str) -> dict:
    """A data directory can be filled, or is."""
    reason = data_directory.trouble(os.path.join(path, marker))
    return finding(f"directory {path}", "FAIL", *reason.split(": ", 1)) if reason else finding(f"directory {path}", "OK", f"{what} finds it good, or makes it")


def images_below(home: str) -> dict:
    """Images can lie below the home."""
    level, says = storage.finding(home)
    do = "" if level == "OK" else "senex_home on a local file system (ext4, xfs, btrfs), such as a disk of its own mounted there (docs/user/host.md)"
    return finding("storage", level, says, do)


def ask(wanted: Mapping) -> list[dict]:
    """All that this host is to ask."""
    found = machine()
    if wanted.get("names"):
        found += names(wanted["names"]["domains"], wanted["names"]["addresses"], bool(wanted["names"]["needed"]))
    found += [images_below(wanted["storage"])] if wanted.get("storage") else []
    found += [image(one["reference"], one.get("login") or {}, one["input"]) for one in wanted.get("images") or []]
    found += [mail(**one) for one in wanted.get("mail") or []]
    found += [directory(one["path"], one["marker"], one["component"]) for one in wanted.get("directories") or []]
    found += [server(**one) for one in wanted.get("servers") or []]
    found += [answers(one["key"], one["url"], one["do"]) for one in wanted.get("addresses") or []]
    return found
