"""Files that are replaced as a whole."""

from __future__ import annotations

import contextlib
import json
import os


def replace(path: str, text: str, mode: int = 0o600, durable: bool = True) -> None:
    """Write a file beside and give it its name: whoever reads sees the old one or the new one. `durable`: it is on the disk when this returns."""
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w", encoding="utf-8") as handle:
            os.fchmod(handle.fileno(), mode)
            handle.write(text)
            handle.flush()
            if durable:
                os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)  # a full disk would get one with each run
        raise


def replace_json(path: str, data: object) -> None:
    """The same of JSON that a person may read."""
    replace(path, json.dumps(data, indent=1) + "\n")
