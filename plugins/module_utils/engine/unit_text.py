"""Reading Quadlet and systemd unit files: sections, keys, and what a container unit reads when it starts."""

from __future__ import annotations

import os

from ansible_collections.senex.trader.plugins.module_utils.engine import quadlet_keys

QUADLET_SUFFIXES = (".container", ".network", ".volume", ".pod", ".kube", ".image", ".build")
SYSTEMD_SUFFIXES = (".service", ".timer", ".target", ".socket", ".path", ".slice")


def assignments(text: str) -> list[tuple[str, str, str]]:
    """(section, key, value) of every line; continuation lines are joined, comments skipped."""
    return [(section, key, value) for _number, section, key, value in quadlet_keys.assignments(text) if key]


def values(text: str, section: str, key: str) -> list[str]:
    """All values of one key."""
    return [value for where, name, value in assignments(text) if (where, name) == (section, key)]


def service_of(name: str) -> str:
    """The service that a Quadlet file becomes: web-1.container -> web-1.service, x.network -> x-network.service."""
    stem, suffix = os.path.splitext(name)
    if suffix in (".container", ".kube"):
        return f"{stem}.service"
    if suffix in QUADLET_SUFFIXES:
        return f"{stem}-{suffix[1:]}.service"
    return name


def expand(value: str, home: str, unit_directory: str) -> str:
    """A path as Quadlet would see it: %h is the home, a leading dot is relative to the unit."""
    path = value.replace("%h", home).replace("%%", "%")
    if path.startswith("."):
        path = os.path.normpath(os.path.join(unit_directory, path))
    return path


def image(text: str) -> str | None:
    """The image that a container unit runs."""
    found = values(text, "Container", "Image")
    return found[-1].replace("%%", "%") if found else None


def container_name(text: str, name: str) -> str:
    """The name of the container that a unit starts."""
    found = values(text, "Container", "ContainerName")
    return found[-1] if found else f"systemd-{os.path.splitext(name)[0]}"


def paths_read(text: str, home: str, unit_directory: str) -> list[str]:
    """Files and directories of the host that a container unit hands to its container, or that Podman reads for it."""
    volumes = [value.split(":", 1)[0] for value in values(text, "Container", "Volume")]
    volumes = [value for value in volumes if value.startswith(("/", "%h", "."))]
    files = [value.lstrip("-") for value in values(text, "Container", "EnvironmentFile")]
    return [expand(value, home, unit_directory) for value in files + volumes + seccomp_profiles(text)]


def seccomp_profiles(text: str) -> list[str]:
    """Files with filters of system calls that a container unit names."""
    return [value for value in values(text, "Container", "SeccompProfile") if value.startswith("/")]


def secrets_read(text: str) -> list[str]:
    """Names of the Podman secrets of a container unit."""
    return [value.split(",", 1)[0] for value in values(text, "Container", "Secret")]
