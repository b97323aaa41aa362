# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""What the monitoring logs in with, as its servers keep it."""

from __future__ import annotations

import base64
import ctypes
import ctypes.util
import hashlib
from typing import Any

from ansible.errors import AnsibleFilterError

# bcrypt's own alphabet. A password of 40 random characters needs no slow hash, and each question of Prometheus' asks for it
ALPHABET = bytes.maketrans(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
)
COST = "$2b$04$"
ANOTHER = "on a controller whose libcrypt has no bcrypt, install the Python package bcrypt beside ansible-core"


def by_library(password: bytes, setting: bytes) -> str:
    """What libcrypt says; empty where it is not there, or knows no bcrypt."""
    name = ctypes.util.find_library("crypt")
    if not name:
        return ""
    try:
        crypt = ctypes.CDLL(name).crypt
    except (OSError, AttributeError):
        return ""
    crypt.restype, crypt.argtypes = ctypes.c_char_p, [ctypes.c_char_p, ctypes.c_char_p]
    return (crypt(password, setting) or b"").decode("ascii", "replace")


def by_package(password: bytes, setting: bytes) -> str:
    """What the Python package says; empty where it is not there."""
    try:
        import bcrypt
    except ImportError:
        return ""
    return bcrypt.hashpw(password, setting).decode("ascii")


def metrics_hash(password: str, place: str) -> str:
    """A password as the exporters' web configuration wants it: the same in each run, and another one in each place."""
    text = str(password).encode()
    salt = base64.b64encode(hashlib.sha256(b"%s\0%s" % (str(place).encode(), text)).digest()[:16]).rstrip(b"=").translate(ALPHABET)
    for way in (by_library, by_package):
        found = way(text, COST.encode() + salt)
        if found.startswith(COST) and len(found) == 60:
            return found
    raise AnsibleFilterError(f"senex_metrics_password: cannot be hashed; {ANOTHER}")


class FilterModule:
    """Filters about metrics."""

    def filters(self) -> dict[str, Any]:
        """Name to function."""
        return {"metrics_hash": metrics_hash}
