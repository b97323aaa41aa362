"""Which image a name stands for on this host, and whether the registry means another one by it: for messages of what did not come up."""

from __future__ import annotations

import contextlib
import datetime
import json
import re

from ansible_collections.senex.trader.plugins.module_utils.host import untrusted

PATIENCE = 20  # seconds for the registry, whose answer is good to know and no more
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
UNITS = (("day", 86400), ("hour", 3600), ("minute", 60))


def age(seconds: float) -> str:
    """As a person says it."""
    for unit, size in UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit}{'s' if seconds >= 2 * size else ''}"
    return "less than a minute"


def described(user, reference: str) -> dict:
    """Its id, its digest, and when it was built; nothing where it is not here."""
    said = user.podman("image", "inspect", reference, check=False, timeout=60)
    with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError, RecursionError):
        found = json.loads(said.stdout)[0]
        built = str(found.get("Created") or "")[:19]
        datetime.datetime.fromisoformat(built)  # a time, or it is left out
        others = [word for name in found.get("RepoDigests") or [] for word in DIGEST.findall(str(name))]
        return {"image": str(found["Id"]), "digest": untrusted.plain(found.get("Digest") or ""), "built": f"{built}Z", "others": others}
    return {}


def _pushed_again(user, reference: str, found: dict) -> bool:
    """Whether the registry has another image of this name. A digest is one image for good; a registry that does not answer says nothing."""
    if "@sha256:" in reference:
        return False
    # Of a single image Podman says the manifest as an error, of a list as an answer
    said = user.podman("manifest", "inspect", reference, check=False, timeout=PATIENCE)
    text = said.stdout + said.stderr
    there = set(DIGEST.findall(text))
    return "schemaVersion" in text and bool(there) and not there & {f"sha256:{found['image']}", found["digest"], *found["others"]}


def sentence(user, reference: str, now: datetime.datetime | None = None) -> str:
    """For a message; empty where the image is not here."""
    found = described(user, reference)
    if not found:
        return ""
    built = datetime.datetime.fromisoformat(found["built"])
    passed = ((now or datetime.datetime.now(datetime.UTC)) - built).total_seconds()
    text = f"Its image on this host: {reference}, {found['digest']}, built {found['built']} ({age(passed)} ago)"
    if _pushed_again(user, reference, found):
        text += (
            "; the registry has another image under this tag, which was pushed again and not pulled here: "
            "playbooks/deploy.yml pulls the tag anew, site.yml takes the image that is here"
        )
    return f"{text}."
