"""The key of encrypted fields that a host has. Another one takes its place only where a rotation has brought it beside the one of now,
and the one that writes stays among those that read: an older vault, in the middle of a rotation, would drop it."""

from __future__ import annotations

import hashlib

from ansible_collections.senex.trader.plugins.module_utils.host import untrusted

DIGEST = "sha256:"


def _digest(value: str) -> str:
    """What a key is told by where it is not to be read; a digest as it is."""
    return value if value.startswith(DIGEST) else DIGEST + hashlib.sha256(value.encode()).hexdigest()


def _mark(name: str) -> str:
    return f"# {name}="


def mark(name: str, values: list[str]) -> str:
    """A comment for an environment file in which the variable has another name, or whose value is in a file: what it is all the same."""
    return _mark(name) + ",".join(map(_digest, values)) + "\n"


def values_of(content: bytes, name: str) -> list[str]:
    """The values of a variable in an environment file, or their digests."""
    lines = content.decode(errors="replace").split("\n")
    # The comment first: what has the name may be something else then
    found = next(([line.removeprefix(begin) for line in lines if line.startswith(begin)] for begin in (_mark(name), f"{name}=")
                  if any(line.startswith(begin) for line in lines)), [""])  # fmt: skip
    return [value for value in found[-1].split(",") if value]


def is_another(path: str, name: str, coming: list[str]) -> bool:
    """Whether the host could not read what the first of the values writes, or would not read any more what its own first one wrote: so with none at all."""
    answer = untrusted.read([path])[path]
    if trouble := untrusted.problem(answer):
        raise trouble
    here, there = [_digest(value) for value in values_of(answer.get("content", b""), name)], [_digest(value) for value in coming]
    return bool(here) and (not there or there[0] not in here or here[0] not in there)
