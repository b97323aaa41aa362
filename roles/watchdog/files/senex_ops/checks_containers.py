"""Checks of the containers: whether they run, how old their images are, names between them, their way out."""

from __future__ import annotations

import datetime
import json
import os
import re

from senex_host import untrusted

from .findings import Check, Finding, age, fail, few, named, ok, warn

SLIRP = "/usr/bin/slirp4netns"
CACHE = "redis-cache"  # the container of Redis' second instance
WAY_OUT = "way out"


def names_of(config) -> list[str]:
    """What a web container should find by name. Several, for a container that is stopped has none."""
    others = [one.unit.removesuffix(".service") for one in config.web.instances[1:]] if config.web else []
    return [part.container for part in (config.database, config.broker) if part] + others


def resolved(text: str) -> list[str]:
    """The names that getent has found. It has a line for each address, and writes the network's domain behind a name."""
    return list(dict.fromkeys(line.split()[-1].removesuffix(".dns.podman") for line in untrusted.records(text) if line.strip()))


def read_dns(host, config) -> dict:
    """The network's own resolver, asked from inside a web container."""
    container = config.web.instances[0].unit.removesuffix(".service")
    done = host.inside(container, "getent", "hosts", *names_of(config), timeout=8)
    return {"container": container, "code": done.code, "said": done.said, "found": resolved(done.out)}


def judge_dns(data: dict, config, now: float) -> list[Finding]:
    """Containers find each other. getent ends with 2 when a name is unknown; what else Podman says is no word about names."""
    if data["found"]:
        return [ok("dns", f"{data['container']} finds {', '.join(data['found'])}")]
    if data["code"] in (2, 124):
        says = f"{data['container']} finds none of {', '.join(names_of(config))}: the network's resolver (aardvark-dns) is dead or hangs"
        return [fail("dns", says, f"senex restart {data['container']} starts it again, as any container does")]
    return [warn("dns", f"could not be asked in {data['container']}: {data['said']}", f"senex logs {data['container']}")]


def read_outside(host, config) -> dict:
    """Whether what leads the containers out runs: before 5.0 one process for all of them, which Podman starts with the first one alone."""
    if not os.path.exists(SLIRP):
        return {}
    version = re.search(r"(\d+)\.\d+", host.podman("--version").out)
    if version is None:
        raise OSError("podman does not say its version")
    if int(version[1]) >= 5:
        return {}
    return {"running": host.processes("slirp4netns", "conmon"), "manager": f"user@{host.uid}.service"}


def judge_outside(data: dict, config, now: float) -> list[Finding]:
    """Where containers run, their way out does."""
    if not data:  # each network's own, which Podman 5 looks after
        return []
    if "conmon" in data["running"] and "slirp4netns" not in data["running"]:
        says = "slirp4netns has ended, so no container reaches anything outside this host; Podman before 5.0 does not start it again"
        return [fail(WAY_OUT, says, f"systemctl restart {data['manager']}; this restarts every container, and takes about 12 s")]
    return [ok(WAY_OUT, "slirp4netns leads the containers out")]


def read_containers(host, config) -> list[dict]:
    """Names, states and health of all containers."""
    done = host.podman("ps", "--all", "--format", "json")
    if done.code:
        raise OSError(done.said)
    rows = json.loads(done.out or "[]") or []
    servers = {part.container for part in (config.database, config.broker) if part} | ({CACHE} if config.broker else set())
    images = {row["Names"][0]: row.get("ImageID", "") for row in rows if row["Names"][0] in servers}
    made = host.image_times(sorted(set(images.values()) - {""}))
    return [
        {"name": name, "state": row["State"], "status": row.get("Status", ""), "made": made.get(images.get(name, ""))}
        for name, row in ((row["Names"][0], row) for row in rows)
    ]


def judge_containers(data: list[dict], config, now: float) -> list[Finding]:
    """Podman calls them all healthy."""
    bad = [one for one in data if one["state"] != "running" or "(unhealthy)" in one["status"]]
    images = [judge_image(one["name"], one["made"], config, now) for one in data if one.get("made")]
    if not bad:
        return [ok("containers", f"{len(data)} run and none is unhealthy"), *images]
    found = images + [
        fail(f"container {one['name']}", one["status"] or one["state"], f"senex logs {named(one['name'])}; senex restart {named(one['name'])}") for one in bad
    ]  # fmt: skip
    return few(found, "containers that do not run", "podman ps --all, as the service user")


def judge_image(name: str, made: int, config, now: float) -> Finding:
    """An image of a server that holds data is not left behind: nothing but an update brings another one."""
    says = f"of {datetime.datetime.fromtimestamp(made, datetime.UTC).date()}, {age(max(0, int(now - made)))} old"
    if now - made > config.limits.image_age * 86400:
        return warn(f"image {name}", f"{says}; minor releases have come since", "playbooks/update_images.yml shows what the registry has, and changes nothing")
    return ok(f"image {name}", says)


CHECKS = [
    Check("containers", read_containers, judge_containers, lambda config: config.user_units, interval=lambda probe: 2 * probe.slow_interval),
    Check("outside", read_outside, judge_outside, lambda config: config.user_units),
    Check("dns", read_dns, judge_dns, lambda config: config.web and names_of(config), interval=lambda probe: probe.dns_interval),
]
