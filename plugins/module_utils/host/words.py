"""Words of somebody else's, so that they are taken for nothing else; and what a line of theirs is.

Standard library alone, and no import from __future__: it belongs to untrusted.py, and goes where that one does.
"""

import re


def plain(text: object, most: int = 200) -> str:
    """Words of somebody else's in one line of printable characters, so that they are taken for nothing else."""
    return printable(" ".join(str(text).split()), most)


def printable(text: str, most: int) -> str:
    """The same of a line whose spaces are ours."""
    return "".join(letter if letter.isprintable() else "?" for letter in text.encode(errors="replace").decode())[:most]


def records(text: str) -> list[str]:
    """What a program, the kernel or a file has a line of each for. Not splitlines: it ends a line at characters that a name may hold."""
    found = text.split("\n")
    return found if found[-1] else found[:-1]


def lines(text: object, most: int = 20_000) -> str:
    """The same of several lines, which stay lines; of what is too long the beginning and the end."""
    found = str(text).encode(errors="replace").decode().expandtabs().splitlines()
    whole = "\n".join("".join(letter if letter.isprintable() else "?" for letter in line).rstrip() for line in found)
    return whole if len(whole) <= most else f"{whole[: most // 2]}\n…\n{whole[len(whole) - most // 2 :]}"


def major(content: bytes | None) -> int | None:
    """The number in a PG_VERSION; None where there is no such file, or something else is in it."""
    found = re.fullmatch(rb"(\d{1,4})\n?", content or b"")
    return int(found[1]) if found else None
