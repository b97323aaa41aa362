"""The key of encrypted fields that a host has. Another one takes its place only where a rotation has brought it beside the one of now,
and the one that writes stays among those that read: an older vault, in the middle of a rotation, would drop it."""

from __future__ import annotations

from ansible_collections.senex.trader.plugins.module_utils.host import untrusted


def values_of(content: bytes, name: str) -> list[str]:
    """The values of a variable in an environment file."""
    found = [line.partition("=")[2] for line in content.decode(errors="replace").split("\n") if line.startswith(f"{name}=")]
    return [value for value in (found[-1] if found else "").split(",") if value]


def is_another(path: str, name: str, coming: list[str]) -> bool:
    """Whether the host could not read what the first of the values writes, or would not read any more what its own first one wrote: so with none at all."""
    answer = untrusted.read([path])[path]
    if trouble := untrusted.problem(answer):
        raise trouble
    here = values_of(answer.get("content", b""), name)
    return bool(here) and (not coming or coming[0] not in here or here[0] not in coming)
