"""What a browser would block of a page: one line of HTML, one policy, and which directive the browser's console would name."""

import base64
import hashlib
import time
import types

import pytest
from hostlib import senex_host  # noqa: F401  (it puts senex_host on the path)
from nginx_door import evaluated

from senex_host import page_policy  # isort: skip

ADDRESS = "https://www.example.com/shop/"
SCRIPT = "let a = '<b onclick=x>';"
HASH = "'sha256-" + base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode() + "'"
LONG = "'sha512-" + base64.urlsafe_b64encode(hashlib.sha512(b"go()").digest()).decode() + "'"
SELF = "default-src 'self'"


def names(html, policy=SELF):
    return [(one.use.directive, one.by) for one in page_policy.blocked(ADDRESS, html, policy)]


@pytest.mark.parametrize(
    ("html", "policy", "directive", "by"),
    [
        # Code in the page
        (f"<script>{SCRIPT}</script>", SELF, "script-src-elem", "default-src"),
        (f"<script type=module>{SCRIPT}</script>", f"script-src 'self'; {SELF}", "script-src-elem", "script-src"),
        (f"<script type='text/javascript; charset=utf-8'>{SCRIPT}</script>", SELF, "script-src-elem", "default-src"),
        ("<style>a {}</style>", f"style-src 'self'; {SELF}", "style-src-elem", "style-src"),
        ("<p style='color: red'>", "style-src-attr 'none'; style-src 'unsafe-inline'", "style-src-attr", "style-src-attr"),
        ("<p style='color: red'>", f"style-src 'self'; {SELF}", "style-src-attr", "style-src"),
        ("<p style='color: red'>", SELF, "style-src-attr", "default-src"),
        ("<style>a {}</style>", SELF, "style-src-elem", "default-src"),
        ("<a onclick='go()'>", SELF, "script-src-attr", "default-src"),
        ("<a onclick='go()'>", f"script-src 'self'; {SELF}", "script-src-attr", "script-src"),
        ("<BODY ONLOAD='go()'>", SELF, "script-src-attr", "default-src"),
        ("<a href=' JavaScript:go()'>", SELF, "script-src-elem", "default-src"),
        # A nonce or a hash takes the force of 'unsafe-inline', which is for old browsers
        (f"<script>{SCRIPT}</script>", "script-src 'unsafe-inline' 'nonce-abc'", "script-src-elem", "script-src"),
        (f"<script nonce=ABC>{SCRIPT}</script>", "script-src 'nonce-abc'", "script-src-elem", "script-src"),
        (f"<script>{SCRIPT} </script>", f"script-src {HASH}", "script-src-elem", "script-src"),
        ("<a onclick='go()' nonce=abc>", "script-src 'nonce-abc'", "script-src-attr", "script-src"),
        ("<a onclick='go()'>", f"script-src {LONG}", "script-src-attr", "script-src"),
        ("<script src=/x.js></script>", "script-src 'self' 'strict-dynamic' 'nonce-abc'", "script-src-elem", "script-src"),
        # What comes from elsewhere
        ("<script src=https://cdn.example.net/x.js></script>", SELF, "script-src-elem", "default-src"),
        ("<script src=//cdn.example.net/x.js></script>", "script-src https://cdn.example.net/y/", "script-src-elem", "script-src"),
        ("<link rel='alternate stylesheet' href=https://fonts.example.net/a>", "style-src 'self'", "style-src-elem", "style-src"),
        ("<link rel=preload as=font href=https://fonts.example.net/a>", SELF, "font-src", "default-src"),
        ("<link rel='shortcut icon' href=https://cdn.example.net/a>", SELF, "img-src", "default-src"),
        ("<img src=https://bucket.example.net/a.png>", "img-src 'self' data:", "img-src", "img-src"),
        ("<img src='data:image/png;base64,AA'>", "img-src *", "img-src", "img-src"),
        ("<img src=http://www.example.com/a.png>", SELF, "img-src", "default-src"),
        ("<img src=https://example.com/a.png>", "img-src *.example.com", "img-src", "img-src"),
        ("<img src=https://www.example.com:8443/a.png>", SELF, "img-src", "default-src"),
        ("<iframe src=https://video.example.net/></iframe>", f"child-src 'self'; {SELF}", "frame-src", "child-src"),
        ("<iframe src=https://video.example.net/></iframe>", SELF, "frame-src", "default-src"),
        ("<video src=https://video.example.net/a.mp4>", SELF, "media-src", "default-src"),
        ("<object data=/a.swf></object>", "object-src 'none'", "object-src", "object-src"),
        ("<form action=https://pay.example.net/>", "form-action 'self'", "form-action", "form-action"),
        ("<base href=https://cdn.example.net/>", "base-uri 'self'", "base-uri", "base-uri"),
        ("<base href=https://cdn.example.net/><img src=a.png>", SELF, "img-src", "default-src"),
        # Each of several policies has to allow it, and of a directive the first counts
        ("<img src=/a>", "img-src *, img-src 'none'", "img-src", "img-src"),
        ("<img src=/a>", "img-src 'none'; img-src *", "img-src", "img-src"),
    ],
)  # fmt: skip
def test_blocked(html, policy, directive, by):
    assert names(html, policy) == [(directive, by)]


@pytest.mark.parametrize(
    ("html", "policy"),
    [
        (f"<script>{SCRIPT}</script>", ""),
        (f"<script>{SCRIPT}</script>", "img-src 'none'"),
        (f"<script>{SCRIPT}</script>", "script-src 'unsafe-inline'"),
        (f"<script>{SCRIPT}</script>", f"script-src {HASH}"),
        (f"<script nonce=abc>{SCRIPT}</script>", "script-src 'nonce-abc' 'strict-dynamic'"),
        ("<script nonce=abc src=https://cdn.example.net/x.js></script>", "script-src 'nonce-abc' 'strict-dynamic'"),
        ("<style nonce=abc>a {}</style><link rel=stylesheet nonce=abc href=https://cdn.example.net/a>", "style-src 'nonce-abc'"),
        ("<a onclick='go()'>", f"script-src 'unsafe-hashes' {LONG}"),
        ('<script type="application/ld+json">{}</script><script type=text/template><b onclick=x></script>', SELF),
        ("<noscript><img src=https://tracker.example.net/><style>a {}</style></noscript><template><b style=x></template>", SELF),
        ("<!-- <script>x()</script> --><textarea title=onclick></textarea>", SELF),
        ("<script src=/x.js></script><link rel=stylesheet href=../a.css><img src=a.png srcset=b.png><form action=''><form action=/buy>", SELF),
        ("<img src=https://WWW.example.com:443/a>", SELF),
        ("<img src=https://cdn.example.net/a/b.png>", "img-src https:"),
        ("<img src=https://cdn.example.net/a/b.png>", "img-src http://cdn.example.net/a/"),
        ("<img src=https://a.cdn.example.net:8443/a%20b.png>", "img-src *.cdn.example.net:*/a%20b.png"),
        ("<img src='data:image/png;base64,AA'><img src=blob:x>", "img-src data: BLOB:"),
        ("<iframe></iframe><iframe src=about:blank></iframe>", SELF),
        ("<form action=https://pay.example.net/>", SELF),
        ("<a href=https://elsewhere.example.net/>", SELF),
        ("<img src='http://[bad/'><base href='http://[bad/'>", SELF),
    ],
)  # fmt: skip
def test_allowed(html, policy):
    assert names(html, policy) == []


def test_places_are_those_of_the_page():
    (one,) = page_policy.blocked(ADDRESS, "<p>\r\n<p>\r\n\r\n<script>\r\nx()\r\n</script>", SELF)
    assert (one.use.line, one.use.what, one.use.text) == (4, "inline script", "\nx()\n"), "a browser makes the hash of what has one character at its line ends"


@pytest.mark.parametrize("policy", ["", "script-src 'self' 'nonce-abc'; style-src 'self' 'sha256-AAAA'; ", "default-src 'none'"])
def test_what_is_suggested_is_enough(policy):
    """The default policy with the suggested lines blocks nothing of the page any more."""
    policy = policy or evaluated("nginx_content_security_policy")
    html = f"""<script>{SCRIPT}</script><p style="color: red" onclick="go()"><script src=https://cdn.example.net/x.js></script><style>a {{}}</style>
      <img src=https://bucket.example.net/a.png><img src=blob:x><iframe src=https://video.example.net/></iframe><img src=/own.png>"""
    lines = page_policy.suggested(page_policy.blocked(ADDRESS, html, policy))
    assert {"script-src", "style-src"} <= set(lines) and "frame-src" not in policy
    changed = "; ".join(f"{name} {sources}" for name, sources in lines.items()) + "; " + policy
    assert page_policy.blocked(ADDRESS, html, changed) == [], changed


@pytest.mark.parametrize("html", ["<!--" * 16_384, "<a " * 21_000, "<a b='" * 10_900, "<![x[ " * 10_000])
def test_a_page_that_is_made_to_take_long_is_given_up(monkeypatch, html):
    monkeypatch.setattr(page_policy, "SECONDS", 0.01)  # how long it would take is the machine's
    began = time.monotonic()
    with pytest.raises(page_policy.Unreadable):
        page_policy.blocked(ADDRESS, html, SELF)
    assert time.monotonic() - began < 7


def test_so_is_one_with_so_many_sources_that_to_compare_takes_long(monkeypatch):
    clock, allowed = [0.0], page_policy._allowed
    monkeypatch.setattr(page_policy, "time", types.SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(page_policy, "_allowed", lambda *given: clock.append(clock.pop() + 1) or allowed(*given))
    with pytest.raises(page_policy.Unreadable):
        page_policy.blocked(ADDRESS, "<img src=a>" * 9, SELF)
    assert clock[0] < 5
