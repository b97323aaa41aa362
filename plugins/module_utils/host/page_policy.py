"""What a browser would not load or run of a page: the page's HTML against the Content-Security-Policy that came with it.

Standard library alone: role common installs this file with the library of the programs on the host (senex_host). What scripts and style sheets load
later is not seen, nor is anything that a page has only after a login.
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import unquote, urljoin, urlsplit

# Directives that a browser looks for instead of one that is not there; without any, all is allowed
INSTEAD = {
    "script-src-elem": ("script-src", "default-src"), "script-src-attr": ("script-src", "default-src"),
    "style-src-elem": ("style-src", "default-src"), "style-src-attr": ("style-src", "default-src"),
    "frame-src": ("child-src", "default-src"), "base-uri": (), "form-action": (),
}  # fmt: skip
# What a person would add to a policy to allow it: the parts of scripts and styles are seldom named
WRITTEN = {name: name.rsplit("-", 1)[0] for name in INSTEAD if name.endswith(("-elem", "-attr"))}
SCRIPTS = re.compile(r"(?:module|importmap|speculationrules|(?:text|application)/(?:x-)?(?:java|ecma)script)?\s*(?:;.*)?", re.IGNORECASE)
PRELOADED = {"script": "script-src-elem", "style": "style-src-elem", "image": "img-src", "font": "font-src", "track": "media-src"}
LINKED = {"stylesheet": "style-src-elem", "icon": "img-src", "apple-touch-icon": "img-src", "manifest": "manifest-src", "modulepreload": "script-src-elem"}
LOADED = {
    ("img", "src"): "img-src", ("input", "src"): "img-src", ("video", "poster"): "img-src", ("image", "href"): "img-src",
    ("video", "src"): "media-src", ("audio", "src"): "media-src", ("track", "src"): "media-src",
    ("iframe", "src"): "frame-src", ("frame", "src"): "frame-src", ("object", "data"): "object-src", ("embed", "src"): "object-src",
    ("form", "action"): "form-action", ("button", "formaction"): "form-action", ("input", "formaction"): "form-action",
}  # fmt: skip
NOT_SHOWN = ("noscript", "template")  # a browser with scripts shows none of it
PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
HOST = re.compile(r"(?:([a-z][a-z0-9+.-]*)://)?(\*|(?:\*\.)?[a-z0-9_.-]+|\[[0-9a-f:]+\])(?::(\d+|\*))?(/[^?#]*)?", re.IGNORECASE)
NONCE_OR_HASH = re.compile(r"'(?:nonce|sha256|sha384|sha512)-", re.IGNORECASE)

NAMED = 4  # of each directive, for a person
SECONDS = 2.0  # Python's parser takes minutes for what was made for that


class Unreadable(ValueError):
    """The page is no HTML that can be looked through, or not in time."""


@dataclass(frozen=True)
class Use:
    """Something that a page has a browser load or run. `text`: code that is written in the page itself."""

    directive: str
    line: int
    what: str
    url: str = ""
    text: str | None = None
    nonce: str = ""
    attribute: bool = False  # it has no nonce, and a hash needs 'unsafe-hashes'


@dataclass(frozen=True)
class Blocked:
    """A use that a policy does not allow: the directive that decided, its sources, and what they would have to hold."""

    use: Use
    by: str
    sources: tuple[str, ...]
    needs: tuple[str, ...]

    @property
    def named(self) -> str:
        """The directive that a person would write for it: one of its own where the default has decided."""
        return WRITTEN.get(self.use.directive, self.use.directive) if self.by == "default-src" else self.by


class Page(HTMLParser):
    """The uses of one page."""

    def __init__(self, address: str, text: str):
        super().__init__(convert_charrefs=True)
        self.base, self.uses = address, []
        self.hidden: list[str] = []
        self.open: Use | None = None
        self.kept: list[str] = []
        self.end = time.monotonic() + SECONDS
        try:
            self.feed(text.replace("\r\n", "\n").replace("\r", "\n"))  # as a browser does before it makes a hash
            self.close()
        except AssertionError as error:  # of the parser, where a declaration is none
            raise Unreadable(str(error)) from None

    def in_time(self) -> None:
        """Raises Unreadable when it has taken too long."""
        if time.monotonic() > self.end:
            raise Unreadable(f"it takes longer than {SECONDS:g} s to look through")

    def handle_starttag(self, tag, attrs):
        """Of a repeated attribute the first counts."""
        self.in_time()
        given = {name: value or "" for name, value in reversed(attrs)}
        if tag in NOT_SHOWN:
            self.hidden.append(tag)
        if self.hidden:
            return
        if tag == "base" and given.get("href") and not any(use.directive == "base-uri" for use in self.uses):
            self._add("base-uri", "base", given["href"])
            self.base = next((use.url for use in self.uses if use.directive == "base-uri"), self.base)
        self._code(tag, given)
        for (of, name), directive in LOADED.items():
            if of == tag and given.get(name, "").strip():
                self._add(directive, tag, given[name], given)
        if tag == "link":
            for relation in given.get("rel", "").lower().split():
                directive = PRELOADED.get(given.get("as", "").lower()) if relation == "preload" else LINKED.get(relation)
                if directive and given.get("href"):
                    self._add(directive, f"link rel={relation}", given["href"], given)

    def handle_startendtag(self, tag, attrs):
        """In HTML the slash says nothing; of elements of SVG it ends them."""
        self.handle_starttag(tag, attrs)

    def _code(self, tag: str, given: dict[str, str]) -> None:
        line, nonce = self.getpos()[0], given.get("nonce", "")
        if tag == "script" and SCRIPTS.fullmatch(given.get("type", "").strip()):
            if given.get("src"):
                self._add("script-src-elem", tag, given["src"], given)
            elif "src" not in given:
                self.open = Use("script-src-elem", line, "inline script", text="", nonce=nonce)
        if tag == "style":
            self.open = Use("style-src-elem", line, "inline style element", text="", nonce=nonce)
        if "style" in given:
            self.uses.append(Use("style-src-attr", line, f"style attribute of <{tag}>", text=given["style"], attribute=True))
        for name, value in given.items():
            if re.fullmatch("on[a-z]+", name):
                self.uses.append(Use("script-src-attr", line, f"{name} of <{tag}>", text=value, attribute=True))
        if re.match(r"\s*javascript:", given.get("href", "") if tag == "a" else "", re.IGNORECASE):
            self.uses.append(Use("script-src-elem", line, "javascript: link", text=given["href"], attribute=True))

    def handle_data(self, data):
        """Of a script or a style all of it, in pieces."""
        self.in_time()
        if self.open:
            self.kept.append(data)

    def handle_endtag(self, tag):
        """The code is whole."""
        if self.hidden and tag == self.hidden[-1]:
            self.hidden.pop()
        if self.open and tag in ("script", "style"):
            self.uses.append(Use(self.open.directive, self.open.line, self.open.what, text="".join(self.kept), nonce=self.open.nonce))
            self.open, self.kept = None, []

    def _add(self, directive: str, what: str, url: str, given: dict[str, str] | None = None) -> None:
        try:
            whole = urljoin(self.base, url.strip())
            urlsplit(whole).port  # noqa: B018  (raises for an address that is none)
        except ValueError:
            return
        self.uses.append(Use(directive, self.getpos()[0], what, whole, nonce=(given or {}).get("nonce", "")))


def policies(header: str) -> list[dict[str, tuple[str, ...]]]:
    """Directives with their sources, of each policy in a header: all of them have to allow something."""
    found = []
    for policy in header.split(","):
        directives: dict[str, tuple[str, ...]] = {}
        for words in (part.split() for part in policy.split(";")):
            if words:
                directives.setdefault(words[0].lower(), tuple(words[1:]))
        found += [directives] if directives else []
    return found


def blocked(address: str, html: str, header: str) -> list[Blocked]:
    """What the policy of an answer does not allow its page, in the order of the page. Raises Unreadable."""
    page, wanted, found = Page(address, html), policies(header), []
    for use in page.uses:
        page.in_time()  # each is held against each source, of which there may be thousands
        for policy in wanted:
            by = next((name for name in (use.directive, *INSTEAD.get(use.directive, ("default-src",))) if name in policy), "")
            if by and not _allowed(use, policy[by], address):
                found.append(Blocked(use, by, policy[by], _needs(use, policy[by], address)))
                break
    return found


def suggested(found: list[Blocked]) -> dict[str, str]:
    """Directives as a policy would need them for all of this."""
    lines: dict[str, list[str]] = {}
    for one in found:
        sources = lines.setdefault(one.named, [source for source in one.sources if source.lower() != "'none'"])
        sources += [source for source in one.needs if source not in sources]
    return {name: " ".join(sources) for name, sources in lines.items()}


def described(found: list[Blocked], whose: str) -> list[tuple[str, str, str]]:
    """(directive, what is blocked by name and line, what would have a browser take it) of each; `whose`: where the policy is written."""
    by_name: dict[str, list[Blocked]] = {}
    for one in found:
        by_name.setdefault(one.named, []).append(one)
    lines = suggested(found)
    return [(name, f"{_listed(some)}, by {some[0].by} of {whose}", _change(some, f"put into {whose}: {name} {lines[name]}")) for name, some in by_name.items()]


def _listed(some: list[Blocked]) -> str:
    names = list(dict.fromkeys(f"{one.use.what}{f' {one.use.url[:100]}' if one.use.url else ''} (line {one.use.line})" for one in some))
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _change(some: list[Blocked], line: str) -> str:
    inline = any(one.use.text is not None for one in some)
    if inline and keyed(some[0].sources):
        return f"give it the nonce of the answer, move it into a static file, or {line}"
    return f"move inline code into static files, or {line}" if inline else line


def keyed(sources: tuple[str, ...]) -> bool:
    """Whether a nonce or a hash is among them: a browser then takes no notice of 'unsafe-inline'."""
    return any(NONCE_OR_HASH.match(source) for source in sources)


def _needs(use: Use, sources: tuple[str, ...], address: str) -> tuple[str, ...]:
    if use.text is not None:
        made = base64.b64encode(hashlib.sha256(use.text.encode(errors="replace")).digest()).decode()
        return (f"'sha256-{made}'", *["'unsafe-hashes'"] * use.attribute) if keyed(sources) else ("'unsafe-inline'",)
    split = urlsplit(use.url)
    if _origin(use.url) == _origin(address):
        return ("'self'",)
    return (f"{split.scheme}://{split.netloc.rpartition('@')[2]}" if split.netloc else f"{split.scheme}:",)


def _allowed(use: Use, sources: tuple[str, ...], address: str) -> bool:
    words = [source.lower() for source in sources]
    if use.text is None and urlsplit(use.url).scheme in ("javascript", "about"):
        return True  # an empty frame; the other is looked at where it is a link
    script = use.directive.startswith("script-src")
    if script or use.directive.startswith("style-src"):
        if use.nonce and f"'nonce-{use.nonce}'" in sources:
            return True
        if use.text is not None:
            plain = "'unsafe-inline'" in words and not keyed(sources) and not (script and "'strict-dynamic'" in words)
            return plain or ((not use.attribute or "'unsafe-hashes'" in words) and _hashed(use.text, sources))
        if script and "'strict-dynamic'" in words:
            return False
    return any(_matches(use.url, source, address) for source in sources)


def _hashed(text: str, sources: tuple[str, ...]) -> bool:
    for source in sources:
        name, _, value = source.strip("'").partition("-")
        if source.startswith("'") and name.lower() in ("sha256", "sha384", "sha512"):
            made = base64.b64encode(hashlib.new(name.lower(), text.encode(errors="replace")).digest()).decode()
            if value.replace("-", "+").replace("_", "/") == made:
                return True
    return False


def _origin(address: str) -> tuple[str, str, int | None]:
    split = urlsplit(address)
    return split.scheme, (split.hostname or "").lower(), split.port or PORTS.get(split.scheme)


def _matches(url: str, source: str, address: str) -> bool:
    scheme, host, port = _origin(url)
    page = _origin(address)
    if source.lower() == "'self'":
        return host == page[1] and (scheme, port) in {page[::2], ("https", 443), ("wss", 443)}
    if source == "*":
        return scheme in PORTS or scheme == page[0]
    if re.fullmatch(r"[a-z][a-z0-9+.-]*:", source, re.IGNORECASE):
        return scheme == source[:-1].lower() or (source.lower() == "http:" and scheme == "https")
    found = HOST.fullmatch(source)
    if not found:
        return False
    wanted, name, number, path = found[1] or page[0], found[2].lower(), found[3], found[4] or ""
    if scheme != wanted.lower() and (wanted.lower(), scheme) != ("http", "https"):
        return False
    if not (name == "*" or (name.startswith("*.") and host.endswith(name[1:])) or host == name.strip("[]")):
        return False
    if number != "*" and port != int(number or PORTS.get(scheme, 0)):
        return False
    here, path = unquote(urlsplit(url).path) or "/", unquote(path)
    return not path or (here.startswith(path) if path.endswith("/") else here == path)
