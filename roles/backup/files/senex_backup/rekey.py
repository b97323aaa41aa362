"""A new passphrase for the copies off the host: a second key while both are known, and one key less in the end. And new keys of the storage, tried."""

from __future__ import annotations

import json
import os
import sys

from senex_backup import offsite
from senex_backup.common import BackupError, Settings, say

TRIAL = 20  # seconds in which the storage has to take new keys: restic tries refused ones again and again
SEVERAL = 20  # hosts that share a repository may each have added a key of the same passphrase


def rekey(settings: Settings, stage: str) -> int:
    """Bring the repository's keys to a stage of playbooks/rotate.yml, the other passphrase on standard input. Done twice, it changes nothing."""
    if not settings["offsite"]["repository"]:
        say("no copy leaves this host: there is no key to change")
        return 0
    descriptor = given()
    offsite.opened(settings)
    (accept if stage == "accept" else refuse)(settings, descriptor)
    return 0


def try_keys(settings: Settings) -> int:
    """Keys of the storage on standard input, as the file of them holds them: the repository opens with them, and a lock can be written and removed."""
    offsite.reachable(settings)
    descriptor = given()
    # Somebody else's lock is told of as such
    offsite.restic(settings, "key", "list", "--retry-lock", "0s", timeout=TRIAL, keep=(descriptor,), AWS_SHARED_CREDENTIALS_FILE=place(descriptor))
    say("the repository opens with these keys")
    return 0


def given() -> int:
    """Standard input as a file: never on a disk, and on no command line."""
    descriptor = os.memfd_create("given", 0)
    os.write(descriptor, sys.stdin.buffer.read().strip())
    return descriptor


def place(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"


def keys(settings: Settings, descriptor: int) -> list[dict]:
    """The repository's keys, as whoever has the other passphrase sees them; none where it opens nothing."""
    shown = offsite.restic(settings, "key", "list", "--json", "--no-lock", allowed=(0, 1, 12), timeout=offsite.ANSWER, keep=(descriptor,),
                           RESTIC_PASSWORD_FILE=place(descriptor))  # fmt: skip
    if shown.returncode == 0:
        return json.loads(shown.stdout)
    if shown.returncode == 12 or "wrong password" in shown.stderr:
        return []
    raise BackupError(f"the repository's keys cannot be read: {offsite.told(shown)}")


def accept(settings: Settings, descriptor: int) -> None:
    """Both open it."""
    if not keys(settings, descriptor):
        offsite.restic(settings, "key", "add", "--new-password-file", place(descriptor), keep=(descriptor,))
    if not keys(settings, descriptor):
        raise BackupError("the repository does not open with the new passphrase")
    say("the repository opens with both passphrases")


def refuse(settings: Settings, descriptor: int) -> None:
    """The other one opens nothing any more."""
    for _ in range(SEVERAL):
        found = keys(settings, descriptor)
        if not found:
            say("the repository opens with the new passphrase alone")
            return
        offsite.restic(settings, "key", "remove", next(key["id"] for key in found if key["current"]))
    raise BackupError("the repository still opens with the old passphrase: see backup restic key list")
