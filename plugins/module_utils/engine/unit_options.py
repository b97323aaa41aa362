"""What `podman run` needs to start a container as a unit of the collection would: its words, mounts, limits and rights, read from the unit's text.

For what needs a container for a moment: the scripts of a release, and the check of images. So what a template says of a container is said for these too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ansible_collections.senex.trader.plugins.module_utils.engine import unit_text

WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
ESCAPED = re.compile(r"\\x([0-9a-f]{2})|\\(.)|(%)%|(\$)\$")
# Keys of [Container] that are options of `podman run`, with their value
OPTIONS = {
    "HostName": "--hostname", "DNSOption": "--dns-option", "User": "--user", "Environment": "--env", "DropCapability": "--cap-drop",
    "AddCapability": "--cap-add", "Tmpfs": "--tmpfs",
}  # fmt: skip
# What whoever starts it does in their own way: network, names, log and health checks
OWN = {
    "Image", "Pull", "ContainerName", "Network", "PublishPort", "Exec", "LogDriver", "Volume", "SeccompProfile", "HealthCmd",
    "HealthInterval", "HealthTimeout", "HealthRetries", "HealthOnFailure", "HealthStartupCmd", "HealthStartupInterval", "HealthStartupTimeout",
}  # fmt: skip
FLAGS = {"ReadOnly": "--read-only", "NoNewPrivileges": "--security-opt=no-new-privileges"}
STOP = "--stop-timeout="
# Keys of [Service] that limit what it may take
LIMITS = ("CPUQuota", "MemoryHigh", "MemoryMax", "MemorySwapMax", "TasksMax")


@dataclass(frozen=True)
class Mount:
    """A path of the host, and where the container sees it."""

    source: str
    target: str
    read_only: bool
    options: str = ""

    def word(self) -> str:
        """As Podman takes it."""
        return ":".join(filter(None, [self.source, self.target, self.options]))


@dataclass
class Container:
    """A container unit as words of `podman run`."""

    image: str
    options: list[str] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)
    properties: list[str] = field(default_factory=list)  # the same limits as systemd has them
    environment_files: list[str] = field(default_factory=list)
    mounts: list[Mount] = field(default_factory=list)
    secrets: list[tuple[str, str]] = field(default_factory=list)  # name, and how it is mounted
    words: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    stop_timeout: int = 10
    start_timeout: int = 90
    filtered: bool = False


def unescape(text: str) -> str:
    """What systemd makes of a quoted word."""
    return ESCAPED.sub(lambda found: chr(int(found[1], 16)) if found[1] else found[2] or found[3] or found[4], text)


def words(text: str) -> list[str]:
    """The words of a command line of a unit."""
    return [unescape(quoted or bare) for quoted, bare in WORD.findall(text)]


def _mount(value: str) -> Mount:
    source, target, *options = value.split(":")
    return Mount(source, target, "ro" in options, ",".join(options))


def read(text: str) -> Container:
    """The container of a unit. ValueError for a key that is not known here: the check would leave out what the unit does."""
    found = Container(unit_text.image(text) or "")
    for section, key, value in unit_text.assignments(text):
        if section == "Container":
            _container_key(found, key, value)
        elif section == "Service":
            _service_key(found, key, value)
    return found


def _container_key(found: Container, key: str, value: str) -> None:
    if key in OPTIONS:
        found.options.append(f"{OPTIONS[key]}={' '.join(words(value)) if key == 'Environment' else value}")
    elif key in FLAGS:
        found.options += [FLAGS[key]] if value == "true" else []
    elif key == "PodmanArgs":
        if value.startswith(STOP):
            found.stop_timeout = int(value.removeprefix(STOP))
        else:
            found.options.append(value)
    elif key == "Volume":
        found.mounts.append(_mount(value))
    elif key == "Secret":
        name, _, how = value.partition(",")
        found.secrets.append((name, how))
    elif key == "EnvironmentFile":
        found.environment_files.append(value)
    elif key == "Exec":
        found.words = words(value)
    elif key == "HealthCmd":
        found.health = words(value)
    elif key == "SeccompProfile":
        found.filtered = True
    elif key not in OWN:
        raise ValueError(f"{key}= is in a unit and not known where containers are started without one")


def _service_key(found: Container, key: str, value: str) -> None:
    if key in LIMITS:
        found.properties.append(f"{key}={value}")
    if key == "TasksMax":
        found.limits.append(f"--pids-limit={value}")
    elif key == "MemoryMax":
        found.limits += [f"--memory={value.rstrip('M')}m", f"--memory-swap={value.rstrip('M')}m"]
    elif key == "TimeoutStartSec":
        found.start_timeout = int(value)
