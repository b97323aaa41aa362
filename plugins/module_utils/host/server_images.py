"""Images of the servers that hold data, PostgreSQL and Redis: which one runs, which one the registry has, and the one from before."""

from __future__ import annotations

import dataclasses
import datetime
import json
import re

from ansible_collections.senex.trader.plugins.module_utils.host import confined, fileset, untrusted
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import ServiceUser

# Names of the collection's own, a tag for each input: what has a name is left by senex-prune-images, which keeps the newest of each repository
KEPT = "localhost/senex.trader/previous-"
FETCHED = "localhost/senex.trader/fetched-"
VERSION = re.compile(r"\d+(?:\.\d+)+")
ABOUT = "{{.Id}}\t{{.Digest}}\t{{.Created.Unix}}"


@dataclasses.dataclass(frozen=True)
class Server:
    """The servers of one image: `input` names it, `containers` have it. `ask` makes one tell its version; `sorted_by_system` the databases that it would harm
    to move to another system's collations."""

    component: str
    input: str
    reference: str
    program: str
    containers: list[str]
    ask: list[str]
    sorted_by_system: list[str] = dataclasses.field(default_factory=list)

    @property
    def kept(self) -> str:
        """The image from before the last update."""
        return f"{KEPT}{self.component}:latest"

    @property
    def fetched(self) -> str:
        """What the last look at the registry brought."""
        return f"{FETCHED}{self.component}:latest"


def plan(user: ServiceUser, server: Server, back: bool = False, other_system: bool = False) -> dict:
    """What an update would do here, or a rollback: `way`, `running` and `wanted`. The tag stays where it is.

    A way is none, pinned, update or back; those that are refused are major, older, system and unreadable.
    """
    running = _running(user, server)
    if back:
        found = user.image_ids([server.kept]).get(server.kept)
        if not found:
            return _planned(server, "none", running, running, "no earlier image is kept on this host")
        return _planned(server, "none" if found == running["id"] else "back", running, describe(user, server, found))
    if "@" in server.reference:
        return _planned(server, "pinned", running, running, f"{server.input} names a digest, so it is updated in the inventory")
    wanted = describe(user, server, fetch(user, server, running["id"]))
    way, why = judge(server, running, wanted, lambda: _databases(user, server))
    way = "update" if way == "system" and other_system else way
    return _planned(server, way, running, wanted, why)


def _planned(server: Server, way: str, running: dict, wanted: dict, why: str = "") -> dict:
    about = {"component": server.component, "input": server.input, "reference": server.reference}
    images = {server.reference: {"id": wanted["id"], "previous": running["id"]}}  # as senex.trader.quadlet takes them
    former = {server.reference: {"id": running["id"], "previous": running["id"]}}
    return {**about, "way": way, "running": running, "wanted": wanted, "why": why, "images": images, "former": former}


def judge(server: Server, running: dict, wanted: dict, databases) -> tuple[str, str]:
    """Whether an image may take the place of the one that runs, and why not."""
    before, after = number(running["version"]), number(wanted["version"])
    if wanted["id"] == running["id"]:
        return "none", ""
    if not before or not after:
        return "unreadable", f"{server.program} --version tells no version in {server.reference}"
    if before[0] != after[0]:
        return "major", f"{running['version']} to {wanted['version']} is another major version"
    if after < before:
        return "older", f"{wanted['version']} is older than {running['version']}, which has written the data"
    if server.sorted_by_system and running["system"] != wanted["system"] and (names := databases()):
        return "system", (
            f"from {running['system'] or 'an unknown system'} to {wanted['system'] or 'an unknown system'}: text in {', '.join(names)} is sorted by the "
            "system's rules, which differ between systems, so indexes could miss rows"
        )
    return "update", ""


def number(version: str) -> tuple[int, ...]:
    """15.20 as (15, 20); empty for what is none."""
    return tuple(int(part) for part in version.split(".")) if VERSION.fullmatch(version) else ()


def fetch(user: ServiceUser, server: Server, running: str) -> str:
    """Bring what the registry has under the tag, and leave the tag with the image that runs: whatever reads the tag meanwhile must not get the new one.

    The host's lock keeps others of the collection from looking between these two. A run that was killed there is made good by the next one.
    """
    with fileset.lock():
        result = user.podman("pull", "--quiet", server.reference, check=False, timeout=1800)
        found = user.image_ids([server.reference]).get(server.reference, "")
        if found and found != running:
            user.podman("tag", found, server.fetched)
            user.podman("tag", running, server.reference)
        elif found and user.image_ids([server.fetched]):  # of an earlier look; the registry went back
            user.podman("untag", server.fetched, server.fetched)
    if result.returncode:
        raise OSError(user.cannot_pull(server.input, server.reference, result.stderr))
    return found


def describe(user: ServiceUser, server: Server, image: str) -> dict:
    """An image of the host: id, digest, when it was made (UTC seconds), version of the server in it, and its system."""
    identity, digest, created = user.podman("image", "inspect", "--format", ABOUT, image).stdout.strip().split("\t")
    script = f'{server.program} --version; . /etc/os-release; echo "system $ID $VERSION_ID"'
    closed = ("--rm", "--pull=never", "--network=none", "--read-only", "--log-driver=none", *confined.OPTIONS)
    told = user.podman("run", *closed, "--entrypoint", "sh", identity, "-c", script, check=False, timeout=60).stdout
    version = VERSION.search(told.partition("\nsystem ")[0])
    system = untrusted.plain(told.rpartition("system ")[2].strip(), 60) if "system " in told else ""
    return {"id": identity, "digest": untrusted.plain(digest), "created": int(created), "version": version[0] if version else "", "system": system}


def _running(user: ServiceUser, server: Server) -> dict:
    """The image of the container that runs, with the version that its server tells."""
    state = image_of(user, server.containers[0])
    if state is None:
        raise OSError(f"{server.component}: {server.containers[0]} does not run, so there is nothing to compare with: site.yml starts it")
    return {**describe(user, server, state), "version": version_of(user, server, server.containers[0])}


def image_of(user: ServiceUser, container: str) -> str | None:
    """The image of a container that runs."""
    rows = json.loads(user.podman("ps", "--filter", f"name=^{container}$", "--format", "json").stdout or "[]") or []
    return rows[0]["ImageID"] if rows else None


def version_of(user: ServiceUser, server: Server, container: str) -> str:
    """What the server itself says."""
    told = user.podman("exec", container, *server.ask, timeout=30).stdout
    named = re.search(r"^(?:redis_version|valkey_version):(\S+)", told, re.MULTILINE)
    found = VERSION.search(named[1] if named else told)
    return found[0] if found else ""


def _databases(user: ServiceUser, server: Server) -> list[str]:
    told = user.podman("exec", server.containers[0], *server.sorted_by_system, timeout=30).stdout
    return [untrusted.plain(line, 100) for line in untrusted.records(told) if line]


def verify(user: ServiceUser, server: Server, wanted: dict) -> list[str]:
    """What is not as the plan has it, a line each: each container runs the image, and its server tells its version."""
    wrong = []
    for container in server.containers:
        image = image_of(user, container)
        if image != wanted["id"]:
            wrong.append(f"{container} runs {'image ' + image[:12] if image else 'not'}, and not image {wanted['id'][:12]}")
        elif (told := version_of(user, server, container)) != wanted["version"]:
            wrong.append(f"{container} is of version {told or 'unknown'}, and its image has {wanted['version']}")
    return wrong


def keep(user: ServiceUser, server: Server, image: str) -> None:
    """An image stays on the host for a rollback (none: it has been rolled back to). What was fetched has the tag by now, and needs no name of ours."""
    if image:
        user.podman("tag", image, server.kept)
    for name in [server.fetched, *([] if image else [server.kept])]:
        if user.image_ids([name]):
            user.podman("untag", name, name)


def lines(found: dict, now: float) -> str:
    """One line of the plan."""
    running, wanted = found["running"], found["wanted"]
    here = f"{found['component']}: {shown(running, now)}"
    match found["way"]:
        case "none":
            return f"{here}: {found['why'] or 'the registry has nothing newer'}"
        case "pinned":
            return f"{here}: {found['why']}"
        case "update" | "back":
            return f"{here} -> {shown(wanted, now)}, {found['reference']}" + (f"; {found['why']}" if found["why"] else "")
    return f"{here}: not updated, {found['why']}"


def refusal(found: dict) -> str:
    """Why an update is refused, and what to do; empty where it is not."""
    ways = {
        "postgresql": "playbooks/upgrade_postgresql.yml moves the data to a new major version (docs/operations/upgrade.md)",
        "redis": "make a backup, name the new major version in redis_image, and run site.yml --tags redis",
    }
    hints = {
        "major": f"set {found['input']} to a tag of the major version that runs; {ways[found['component']]}",
        "older": f"set {found['input']} to a tag that is at least as new as what runs",
        "unreadable": f"set {found['input']} to an image with the contract of docs/user/images.md",
        "system": f"set {found['input']} to a tag of the system that runs; or -e update_images_other_system=true, and afterwards, in each of these databases, "
        "reindex database and alter database … refresh collation version",
    }
    return f"{found['input']}: {found['reference']}: {found['why']}; {hints[found['way']]}" if found["way"] in hints else ""


def shown(image: dict, now: float) -> str:
    """An image for a person."""
    made = datetime.datetime.fromtimestamp(image["created"], datetime.UTC).date()
    days = max(0, int((now - image["created"]) // 86400))
    return f"{image['version'] or '?'} ({image['digest'].removeprefix('sha256:')[:12]}, of {made}, {days} days old)"
