"""What nginx of a host serves that is not this collection's: read from its files, for `nginx -T` says nothing of files with a mistake."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Iterator

OURS = "Managed by Ansible, collection senex.trader, role nginx"
DPKG_STATUS = "/var/lib/dpkg/status"
TOKEN = re.compile(r"""\s+|\#[^\n]*|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[{};]|(?:\\.|\$\{|[^\s{};"'#\\])(?:\\.|\$\{[^}]*\}|[^\s{};\\])*""", re.DOTALL)


def words(text: str) -> Iterator[str]:
    """The words of a configuration and its `{`, `}` and `;`, without comments."""
    for found in TOKEN.finditer(text):
        word = found.group()
        if not word.isspace() and not word.startswith("#"):
            yield word.strip("\"'") if word[0] in "\"'" else word


def directives(text: str) -> Iterator[tuple[list[str], list[str]]]:
    """Each directive as its words, with the first words of the blocks around it. One that opens a block comes with `{` as its last word."""
    around: list[str] = []
    current: list[str] = []
    for word in words(text):
        if word == "}":
            current, around = [], around[:-1]
        elif word in "{;":
            if current:
                yield (current + ["{"] if word == "{" else current), list(around)
            if word == "{":
                around.append(current[0] if current else "")
            current = []
        else:
            current.append(word)


def read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def included(main: str) -> list[str]:
    """The main file and all that it includes, as their names are written, in the order in which nginx reads them."""
    prefix, found, waiting = os.path.dirname(main), [], [main]
    while waiting:
        path = waiting.pop(0)
        if path in found:
            continue
        found.append(path)
        patterns = [words[1] for words, _ in directives(read(path)) if words[0] == "include" and len(words) > 1]
        waiting += [name for pattern in patterns for name in sorted(glob.glob(os.path.join(prefix, pattern))) if os.path.isfile(name)]
    return found


def names(text: str) -> list[str]:
    """What the servers of one file are called: by name, or where they have none by where they listen."""
    found: list[str] = []
    for line, around in directives(text):
        if line[0] == "server" and line[-1] == "{":
            found.append("")
        elif around[-1:] == ["server"] and found:
            if line[0] == "server_name" and [name for name in line[1:] if name not in ("_", "")]:
                found[-1] = " ".join(name for name in line[1:] if name not in ("_", ""))
            elif line[0] == "listen" and not found[-1]:
                found[-1] = f"port {line[1]}"
        elif around == [] and line[0] in ("server_name", "listen") and not found:
            found.append(line[1])  # the inside of a server, included by one
    return list(dict.fromkeys(name or "a server without a name" for name in found))


def as_packaged(status: str) -> dict[str, str]:
    """{path: MD5 of the package's own text} of all configuration files that dpkg knows."""
    return dict(re.findall(r"^ (/\S+) ([0-9a-f]{32})(?: obsolete)?$", status, re.MULTILINE))


def look(main: str = "/etc/nginx/nginx.conf", status: str = DPKG_STATUS) -> dict:
    """`ours`: nginx reads our main file. `sites`: path and name of what it serves, or is told, by others; the package's own page is nobody's site."""
    text = read(main)
    if OURS in text or not text:
        return {"ours": OURS in text, "sites": []}
    packaged, kept = as_packaged(read(status)), os.path.join(os.path.dirname(main), "modules-enabled", "")
    sites = []
    for path in included(main):
        real, text = os.path.realpath(path), read(path)
        # A package's file under a name of its own is its own too (dpkg-divert)
        own = {packaged.get(path), packaged.get(real)} - {None}
        if hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() in own or OURS in text or path.startswith(kept):
            continue
        found = names(text)
        if found or path == main:
            sites.append({"path": path, "names": found or ["settings of its own"]})
    return {"ours": False, "sites": sites}
