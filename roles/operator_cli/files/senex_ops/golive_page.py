"""Before the public comes: what a browser would block of the start page, which looks well to everything that is no browser."""

from __future__ import annotations

import contextlib
import http.client
from urllib.parse import urljoin, urlsplit

from senex_host import bounded, page_policy

from .findings import Check, Finding, ok, warn

START = "/"
HEADER = "content-security-policy"
REDIRECTS = 3


def whole(path: str) -> str:
    """Path and query of an address."""
    split = urlsplit(path)
    return (split.path or "/") + (f"?{split.query}" if split.query else "")


def read_page(host, config) -> dict:
    """The start page as a visitor gets it, where it leads within the site, and whether the policy is the application's own."""
    public, address = config.public, f"https://{config.public.domain}{START}"
    for _ in range(REDIRECTS + 1):
        answer = bounded.ask(public.address, public.port, whole(address), asking(public.domain), 10, bounded.unverified(), public.domain, whole=False)
        if answer.status not in (301, 302, 303, 307, 308):
            break
        leads = urljoin(address, answer.headers.get("location", ""))
        if urlsplit(leads).hostname != public.domain:
            break
        address = leads
    return {"address": address, "status": answer.status, "type": answer.headers.get("content-type", ""), "policy": answer.headers.get(HEADER, ""),
            "html": answer.body.decode(errors="replace"), "own": sends_one(config, whole(address))}  # fmt: skip


def asking(domain: str) -> dict[str, str]:
    """Headers of a request."""
    return {"Host": domain, "User-Agent": "senex-golive", "Accept": "text/html"}


def sends_one(config, path: str) -> bool:
    """Whether an instance, asked without nginx, has a policy in its answer. One that is on another host is not asked."""
    for one in config.web.instances if config.web else ():
        with contextlib.suppress(OSError, http.client.HTTPException):
            headers = {**asking(config.public.domain), "X-Forwarded-Proto": "https"}
            return HEADER in bounded.ask(one.address, one.port, path, headers, 10, whole=False).headers
    return False


def judge_page(data: dict, config, now: float) -> list[Finding]:
    """A browser blocks nothing of it. What is meant to be blocked is said too, for nobody here knows that."""
    path = whole(data["address"])
    if data["status"] != 200 or not data["type"].lower().startswith("text/html"):
        kind = data["type"].partition(";")[0] or "nothing"
        return [ok("page", f"{path} answers {data['status']} with {kind}, so what a browser would block was not looked at")]
    whose = "the application's own Content-Security-Policy" if data["own"] else "nginx_content_security_policy"
    try:
        found = page_policy.blocked(data["address"], data["html"], data["policy"])
    except page_policy.Unreadable as error:
        return [warn("page", f"{path} cannot be looked through: {error}", "look at it in a browser, whose console says what it blocks")]
    lines = page_policy.described(found, whose)
    said = [warn(f"page {name}", f"a browser blocks on {path}: {what}", change) for name, what, change in lines]
    return said or [ok("page", f"{path} has nothing in its HTML that its Content-Security-Policy blocks")]


PAGE = Check("page", read_page, judge_page, lambda config: config.public)
