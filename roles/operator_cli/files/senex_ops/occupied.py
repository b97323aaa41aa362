"""What is not typed while an operation of a controller is at work with this host: commands that change what it works with, and what is said instead.

docs/developer/architecture.md has the table of all that writes, and of what keeps each from the others.
"""

from __future__ import annotations

import time

from senex_host import untrusted

from . import checks_release
from .findings import age

# By program, its verbs; with a word of LOOKS they change nothing
CHANGES = {
    # Data or an archive in the place of those in production, and the copies that a restore is about to put there
    "pitr": {"restore", "fetch", "exchange", "undo", "discard", "reset", "drop-slot", "set-aside", "take-back", "server"},
    # The same of dumps, Redis and media; keys that a rotation is about to change
    "backup": {"restore", "exchange", "fetch", "rekey", "taken-over"},
    "redis": {"repair"},
    # Images that are pulled, and that nothing names yet
    "senex-prune-images": {"--keep"},
}
# What playbooks and units call, a step after the other: one alone stops the database, or lets go of WAL that the archive lacks
CALLED = {
    "pitr": {"set-aside", "take-back", "server", "where", "receive", "drop-slot", "install"},
    "backup": {"taken-over", "rekey", "try-keys", "prove", "exchange", "prepare", "failed"},
}
LOOKS = {"-h", "--help", "--plan", "--dry-run"}


def changes(program: str, words: list[str]) -> bool:
    """Whether a command line of a program does any of that."""
    given = {word.partition("=")[0] for word in words}
    return bool(given & CHANGES.get(program, set())) and not given & LOOKS


def called(program: str, words: list[str]) -> str:
    """The verb of a command line that no person types; empty where it is one for a person."""
    verbs = [word for word in words if word in CALLED.get(program, set())]
    return verbs[0] if verbs and not set(words) & LOOKS else ""


def refusal(anyway: str) -> str:
    """Who is at work, and how the same is done all the same; empty where nobody is.

    A start of the host ends none: the controller is elsewhere, and may go on.
    """
    held, now = checks_release.read_lock(), time.time()
    if held is None or checks_release.free_in(held, now) <= 0:
        return ""
    who = f"{held.get('what', 'an operation')} by {held.get('who', 'somebody')}"
    seen = f"last seen {age(checks_release.unrenewed(held, now))} ago"
    free = f"Its lock is free in {age(checks_release.free_in(held, now))} unless it is renewed"
    said = untrusted.plain(f"{who} is under way, at '{held.get('step', '?')}'. Wait for its end. It was {seen}. {free}", 500)
    return f"{said}. If it is known to be dead: {anyway}"
