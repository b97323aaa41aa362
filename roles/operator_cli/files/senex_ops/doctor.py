"""Signatures of known troubles: what is seen, what it comes from, what cures it. Beside them, all that status finds bad."""

from __future__ import annotations

import os
import re
import time

from senex_host import untrusted
from senex_host.host_layout import GENERATORS

from . import checks_redis, status
from .findings import Check, Finding, fail, few, ok, warn

OLDEST = (4, 9)
UNIT_FILES = ("container", "network", "volume", "image", "pod", "kube", "build")
OURS = ("rootlessport", "pasta", "nginx", "conmon", "slirp4netns")
LINGER = "/var/lib/systemd/linger"


def read_account(host, config) -> dict:
    """What a service user needs to run containers."""
    texts = {}
    for name in ("subuid", "subgid"):
        try:
            with open(f"/etc/{name}", encoding="utf-8") as handle:
                texts[name] = handle.read()
        except OSError:
            texts[name] = ""
    return {"linger": os.path.exists(f"{LINGER}/{host.user}"), "bus": bool(untrusted.kind(f"{host.runtime}/bus")),
            "uid": host.uid, "answers": host.systemctl("user", "show", "--property=Version").code == 0, **texts}  # fmt: skip


def judge_account(data: dict, config, now: float) -> list[Finding]:
    """Lingering, subordinate ids, bus, user manager."""
    user, found = config.user, []
    if not data["linger"]:
        found.append(fail("lingering", f"is off for {user}: its manager, and with it every container, ends when nobody is logged in and after each reboot",
                          f"loginctl enable-linger {user}"))  # fmt: skip
    for name in ("subuid", "subgid"):
        if not re.search(rf"^({re.escape(user)}|{data['uid']}):\d+:\d+$", data[name], re.MULTILINE):
            found.append(fail(name, f"/etc/{name} has no range for {user}: Podman cannot map the users of a container",
                              "run the playbook with --tags common (senex_subid_start); not by hand, for the data is owned by these ids"))  # fmt: skip
    if not data["bus"]:
        found.append(fail("bus", f"/run/user/{data['uid']}/bus is missing: the manager of {user} does not run", f"systemctl start user@{data['uid']}.service"))
    elif not data["answers"]:
        found.append(fail("bus", f"the manager of {user} does not answer", f"systemctl restart user@{data['uid']}.service; this restarts every container"))
    return found or [ok("account", f"{user} lingers, has subordinate ids, and its manager answers")]


def read_podman(host, config) -> dict:
    """Version, and what the unit generator says of the files."""
    generator = next((path for path in GENERATORS if os.path.exists(path)), "")
    said = host.as_user(generator, "-user", "-dryrun", timeout=30) if generator else None
    ours = untrusted.matching([f"{host.home}/.config/containers/systemd/*.{suffix}" for suffix in UNIT_FILES])
    return {"version": host.run("podman", "--version").out, "generator": bool(generator), "said": said.err if said else "", "code": said.code if said else 0,
            "ours": sorted(os.path.basename(path) for path in ours if "*" not in path)}  # fmt: skip


def names_one(line: str, files: list[str]) -> bool:
    """Whether a line is about one of these files. The generator also tells of directories that are not there, and of units for every user of the host."""
    return any(re.search(rf"(?<![\w.@-]){re.escape(name)}(?![\w-])", line) for name in files)


def judge_podman(data: dict, config, now: float) -> list[Finding]:
    """New enough, and every unit file is understood."""
    found, numbers = [], re.search(r"(\d+)\.(\d+)", data["version"])
    if not numbers:
        return [fail("podman", "is not installed", "run the playbook with --tags podman")]
    if tuple(map(int, numbers.groups())) < OLDEST:
        found.append(fail("podman", f"{numbers[0]} is too old, 4.9 is the oldest that works", "take Debian 13 or Ubuntu 24.04 or later"))
    if not data["generator"]:
        found.append(fail("quadlet", "the generator of units is missing", "apt-get install --reinstall podman"))
    refused = []
    for line in untrusted.records(data["said"]):
        if names_one(line, data["ours"]) and re.search(r"unsupported key|unsupported group|no Image|invalid|converting|error", line, re.IGNORECASE):
            text = line.split("]: ", 1)[-1].strip()
            refused.append(fail("quadlet", f"refuses a file, so its unit does not exist: {text}",
                              "correct the key in the named file (see podman-systemd.unit(5) of this version), then systemctl --user -M "
                              f"{config.user}@ daemon-reload; or run the playbook, which checks keys first"))  # fmt: skip
    # The files are the service user's, of which there may be any number
    found += few(refused, "quadlet", "correct these first")
    return found or [ok("podman", f"{numbers[0]}, and its generator takes every unit file")]


def read_network(host, config) -> dict:
    """Whether the target that user units wait for was reached."""
    waiting = host.units("user", ["podman-user-wait-network-online.service"]) if config.user_units else {}
    return {"online": host.run("systemctl", "is-active", "network-online.target").out.strip(),
            "waits": waiting.get("podman-user-wait-network-online.service", {}).get("ActiveState", "inactive")}  # fmt: skip


def judge_network(data: dict, config, now: float) -> list[Finding]:
    """network-online.target is reached."""
    if data["waits"] in ("activating", "failed") or data["online"] != "active":
        says = f"network-online.target is {data['online']} and the service that waits for it {data['waits']}: containers start 90 s late or never"
        do = "systemctl enable --now systemd-networkd-wait-online.service (or your network manager's); run the playbook with --tags podman"
        return [fail("network-online", says, do)]
    return [ok("network-online", "reached")]


def read_ports(host, config) -> dict:
    """Who listens at the ports that are ours: {'8001': ['rootlessport']}."""
    wanted = [one.port for one in config.web.instances] if config.web else []
    wanted += [80, config.public.port] if config.public else []
    found: dict[str, list[str]] = {str(port): [] for port in wanted}
    for line in untrusted.records(host.run("ss", "-Hltnp").out):
        words = line.split()
        port = words[3].rpartition(":")[2] if len(words) > 3 else ""
        if port in found:
            found[port] += re.findall(r'\("([^"]+)"', line)
    return found


def judge_ports(data: dict, config, now: float) -> list[Finding]:
    """No stranger has one of our ports."""
    found = []
    for port, programs in data.items():
        strangers = sorted({name for name in programs if not name.startswith(OURS)})
        if strangers:
            found.append(fail(f"port {port}", f"is taken by {', '.join(strangers)}, so what belongs there cannot start",
                              f"ss -ltnp 'sport = :{port}' shows who; stop it, or choose another port (senex_web_base_port)"))  # fmt: skip
    return found or [ok("ports", "all ours")]


def read_image(host, config) -> dict | None:
    """Whether the image is here, and whether the registry would give it."""
    image = host.unit_image(config.image_of)
    if not image:
        return {"image": ""}
    if host.systemctl("user", "show", "--property=Version").code:
        return None  # nothing can be asked of any registry; what is wrong is said of the account
    name, _, digest = image.partition("@")
    repository, _, tag = name.rpartition(":") if ":" in name.rpartition("/")[2] else (name, "", "")
    asked = host.podman("search", "--list-tags", "--limit", "10000", "--format", "{{.Tag}}", repository, timeout=40)
    return {"image": untrusted.plain(image), "here": host.podman("image", "exists", image).code == 0, "code": asked.code, "said": asked.said,
            "listed": bool(digest) or not tag or tag in asked.out.split()}  # fmt: skip


def judge_image(data: dict | None, config, now: float) -> list[Finding]:
    """The image can be had."""
    if data is None:
        return []
    if not data["image"]:
        return [fail("image", "no unit of the application is on this host", "playbooks/site.yml puts it in place")]
    here = "it is on this host, so what runs goes on" if data["here"] else "and it is not on this host, so nothing starts"
    if data["code"]:
        level = warn if data["here"] else fail
        return [level("image", f"{data['image']}: the registry does not answer as it should ({data['said']}); {here}",
                      "senex_registry_login (user, password), name and certificate of the registry, the network")]  # fmt: skip
    if not data["listed"]:
        level = warn if data["here"] else fail
        return [level("image", f"the registry has no {data['image']}; {here}", "push it, or set senex_image_tag to one that is there")]
    return [ok("image", f"{data['image']} can be pulled")]


def read_growth(host, config) -> dict:
    """Two looks at the queues, some seconds apart."""
    first = checks_redis.read_redis(host, config).get("queues", {})
    time.sleep(4)
    return {"before": first, "after": checks_redis.read_redis(host, config).get("queues", {}) if first else {}}


def judge_growth(data: dict, config, now: float) -> list[Finding]:
    """Workers keep up."""
    growing = [f"{name} {data['before'][name]} -> {count}" for name, count in data["after"].items() if count > max(10, data["before"][name])]
    if growing:
        return [warn("queue growth", f"more is sent than done: {', '.join(growing)} within 4 s",
                     "senex logs celery-worker (stuck, or only busy?); senex restart celery-worker; more workers by senex_celery_workers")]  # fmt: skip
    return [ok("queue growth", "none")]


SIGNATURES = [
    Check("account", read_account, judge_account),
    Check("podman", read_podman, judge_podman),
    Check("network-online", read_network, judge_network),
    Check("ports", read_ports, judge_ports),
    Check("image", read_image, judge_image, lambda config: config.image_of),
    Check("growth", read_growth, judge_growth, lambda config: config.broker),
]


def show(host, config, machine: bool) -> int:
    """Signatures first, for they are causes; then what status finds bad."""
    return status.show(host, config, machine, [*SIGNATURES, *status.CHECKS], only_bad=not machine)
