"""An encrypted file of secrets: opened, encrypted with the password that opened it, and replaced so that no moment is without a whole one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from ansible.errors import AnsibleError
from ansible.parsing.vault import VaultLib, VaultSecret, is_encrypted

# How inventory/vault-client begins an answer for an environment that it has no password for
NO_PASSWORD = b"no-password-for-"


class VaultRefused(Exception):
    """Why nothing was written."""


def usable(secrets: Iterable[tuple[str, Any]] | None) -> list[tuple[str, VaultSecret]]:
    """The passwords that this run was given, without answers that stand for none."""
    return [(name, secret) for name, secret in secrets or [] if secret.bytes and not secret.bytes.startswith(NO_PASSWORD)]


def opened(data: bytes, secrets: Sequence[tuple[str, VaultSecret]]) -> tuple[str, str, VaultSecret] | None:
    """Text, vault id of the password, and the password itself that opens this data; None when none does."""
    for name, secret in secrets:
        with contextlib.suppress(AnsibleError):
            return VaultLib([(name, secret)]).decrypt(data).decode(), name, secret
    return None


def label(data: bytes) -> str | None:
    """The vault id in the first line; None where there is none, as version 1.1 has it."""
    words = data.split(b"\n", 1)[0].strip().split(b";")
    return words[3].decode() if len(words) > 3 else None


def sealed(text: str, vault_id: str | None, name: str, secret: VaultSecret) -> bytes:
    """The text encrypted, which the same password was seen to open."""
    data = VaultLib([(name, secret)]).encrypt(text, secret=secret, vault_id=vault_id)
    proof = opened(data, [(name, secret)])
    if proof is None or proof[0] != text:
        raise VaultRefused("what was encrypted could not be opened with the same password")
    return data


def is_vault(data: bytes) -> bool:
    """Whether a file's content is encrypted."""
    return is_encrypted(data)


def _written(descriptor: int, data: bytes) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def keep_old(path: str, data: bytes, now: datetime | None = None) -> str:
    """A copy beside the file, which no later one overwrites. Its name ends so that Ansible does not read it as variables."""
    stamp = (now or datetime.now(UTC)).strftime("%Y%m%d-%H%M%S")
    for number in range(1, 1000):
        copy = f"{path}.{stamp}{f'-{number}' if number > 1 else ''}.old"
        with contextlib.suppress(FileExistsError):
            _written(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), data)
            return copy
    raise VaultRefused(f"{path}.{stamp}.old and 999 others are there: remove what is no longer needed")


def replace(path: str, data: bytes, old: bytes | None, secrets: Sequence[tuple[str, VaultSecret]], text: str) -> str:
    """Puts new content in place at once, with mode and owner of the old; the old one's copy is named, or nothing where there was none."""
    directory = os.path.dirname(path)
    before = os.stat(path) if old is not None else None
    descriptor, fresh = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", dir=directory)
    try:
        _written(descriptor, data)
        if before is not None:
            if (before.st_uid, before.st_gid) != (os.stat(fresh).st_uid, os.stat(fresh).st_gid):
                os.chown(fresh, before.st_uid, before.st_gid)
            os.chmod(fresh, before.st_mode & 0o7777)
        with open(fresh, "rb") as file:
            proof = opened(file.read(), secrets)
        if proof is None or proof[0] != text:
            raise VaultRefused("what was written could not be opened again")
        # Somebody's edit of the last moments is not written over
        if old is not None:
            with open(path, "rb") as file:
                if file.read() != old:
                    raise VaultRefused("it was changed by somebody else meanwhile; run the same command again")
        copy = keep_old(path, old) if old else ""
        os.replace(fresh, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(fresh)
        raise
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    return copy
