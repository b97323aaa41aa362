"""Programs that are run, and words of others."""

from __future__ import annotations

import subprocess


def run(argv: list[str], stdin: str | None = None, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
    """A program's result, with ends of lines as they are: a name may hold one. Without a text it has no input, and no terminal."""
    done = subprocess.run(argv, input=(stdin or "").encode(), capture_output=True, timeout=timeout, check=False)
    done.stdout, done.stderr = (said.decode(errors="replace") for said in (done.stdout, done.stderr))
    return done


def printable(text: str, also: str = "\n\t") -> str:
    """Names and messages of others, uploads among them, reach a terminal and the journal as nothing but words."""
    return "".join(letter if letter.isprintable() or letter in also else "?" for letter in text)
