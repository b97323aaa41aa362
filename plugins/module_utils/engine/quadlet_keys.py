# Copyright: senex.trader maintainers
# SPDX-License-Identifier: MIT
"""Which keys a Quadlet file may use, by Podman version.

One key that the host's Podman does not know and the generator drops the whole unit: systemd then says 'Unit not found'.
The table holds, for each section, the minor version that first had a key; 4.4 is the first Podman with Quadlet. It was read
off the releases 4.4 to 6.1, none of which took a key away.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

_SINCE = {
    "Container": {
        "4.4": (
            "AddCapability AddDevice Annotation ContainerName DropCapability Environment EnvironmentFile EnvironmentHost Exec "
            "ExposeHostPort Group Image Label Network NoNewPrivileges Notify PodmanArgs PublishPort ReadOnly RemapGid RemapUid "
            "RemapUidSize RemapUsers RunInit SeccompProfile Timezone User VolatileTmp Volume"
        ),
        "4.5": (
            "HealthCmd HealthInterval HealthOnFailure HealthRetries HealthStartPeriod HealthStartupCmd HealthStartupInterval "
            "HealthStartupRetries HealthStartupSuccess HealthStartupTimeout HealthTimeout IP IP6 LogDriver Mount Rootfs Secret "
            "SecurityLabelDisable SecurityLabelFileType SecurityLabelLevel SecurityLabelType Tmpfs UserNS"
        ),
        "4.6": "AutoUpdate HostName Mask Pull SecurityLabelNested Sysctl Unmask WorkingDir",
        "4.7": "DNS DNSOption DNSSearch PidsLimit ShmSize Ulimit",
        "4.8": "ContainersConfModule GIDMap GlobalArgs ReadOnlyTmpfs SubGIDMap SubUIDMap UIDMap",
        "5.0": "Entrypoint Pod StopTimeout",
        "5.1": "GroupAdd",
        "5.2": "LogOpt NetworkAlias StopSignal",
        "5.3": "AddHost CgroupsMode HealthLogDestination HealthMaxLogCount HealthMaxLogSize ServiceName StartWithPod",
        "5.5": "Memory ReloadCmd ReloadSignal Retry RetryDelay",
        "5.7": "HttpProxy",
        "5.8": "AppArmor",
        "6.1": "ImageVolume",
    },
    "Pod": {
        "5.0": "ContainersConfModule GlobalArgs Network PodName PodmanArgs PublishPort Volume",
        "5.2": "NetworkAlias",
        "5.3": ("AddHost DNS DNSOption DNSSearch GIDMap IP IP6 RemapGid RemapUid RemapUidSize RemapUsers ServiceName SubGIDMap SubUIDMap UIDMap UserNS"),
        "5.4": "ShmSize",
        "5.5": "HostName",
        "5.6": "ExitPolicy Label",
        "5.7": "StopTimeout",
    },
    "Kube": {
        "4.4": "ConfigMap Network PublishPort RemapGid RemapUid RemapUidSize RemapUsers Yaml",
        "4.5": "LogDriver UserNS",
        "4.6": "ExitCodePropagation PodmanArgs",
        "4.7": "AutoUpdate SetWorkingDirectory",
        "4.8": "ContainersConfModule GlobalArgs KubeDownForce",
        "5.2": "LogOpt",
        "5.3": "ServiceName",
    },
    "Network": {
        "4.4": "DisableDNS Driver Gateway IPAMDriver IPRange IPv6 Internal Label Options Subnet",
        "4.6": "PodmanArgs",
        "4.7": "DNS NetworkName",
        "4.8": "ContainersConfModule GlobalArgs",
        "5.3": "ServiceName",
        "5.5": "NetworkDeleteOnStop",
        "5.6": "InterfaceName",
    },
    "Volume": {
        "4.4": "Copy Device Group Label Options Type User",
        "4.6": "PodmanArgs",
        "4.7": "VolumeName",
        "4.8": "ContainersConfModule Driver GlobalArgs Image",
        "5.3": "ServiceName",
        "6.0": "GID UID",
    },
    "Image": {
        "4.8": ("AllTags Arch AuthFile CertDir ContainersConfModule Creds DecryptionKey GlobalArgs Image ImageTag OS PodmanArgs TLSVerify Variant"),
        "5.3": "ServiceName",
        "5.5": "Retry RetryDelay",
        "5.6": "Policy",
    },
    "Build": {
        "5.2": (
            "Annotation Arch AuthFile ContainersConfModule DNS DNSOption DNSSearch Environment File ForceRM GlobalArgs GroupAdd "
            "ImageTag Label Network PodmanArgs Pull Secret SetWorkingDirectory TLSVerify Target Variant Volume"
        ),
        "5.3": "ServiceName",
        "5.5": "Retry RetryDelay",
        "5.7": "BuildArg IgnoreFile",
    },
    "Artifact": {
        "5.7": ("Artifact AuthFile CertDir ContainersConfModule Creds DecryptionKey GlobalArgs PodmanArgs Quiet Retry RetryDelay ServiceName TLSVerify"),
    },
    "Quadlet": {
        "5.3": "DefaultDependencies",
    },
}

KEYS = {section: {key: since for since, keys in table.items() for key in keys.split()} for section, table in _SINCE.items()}

# Which file each section belongs to, and the first Podman that reads such files.
FILES = {
    "container": ("Container", "4.4"),
    "volume": ("Volume", "4.4"),
    "network": ("Network", "4.4"),
    "kube": ("Kube", "4.4"),
    "image": ("Image", "4.8"),
    "pod": ("Pod", "5.0"),
    "build": ("Build", "5.2"),
    "artifact": ("Artifact", "5.7"),
}

# What an older Podman takes without a word and does not do.
SILENTLY_IGNORED = {
    "Notify=healthy": ("5.0", "it is read as Notify=false; use ExecStartPost=podman wait --condition=healthy in [Service]"),
    "drop-in": ("5.0", "it is not read; write the key into the unit itself"),
    "template": ("5.0", "its instances are not made; write one numbered file an instance"),
    "dependency": ("5.5", "it is not translated; name the service"),
}

_SERVICE_KEYS = (
    "CPUQuota CPUWeight ExecReload ExecStartPost ExecStartPre ExecStopPost IOWeight KillMode LimitNOFILE MemoryHigh MemoryLow MemoryMax "
    "MemorySwapMax OOMScoreAdjust RemainAfterExit Restart RestartSec RestartSteps TasksMax TimeoutStartSec TimeoutStopSec Type WatchdogSec"
)
_UNIT_KEYS = (
    "After Before BindsTo Conflicts Description Documentation OnFailure OnSuccess PartOf PropagatesStopTo Requires Requisite "
    "StartLimitBurst StartLimitIntervalSec Upholds Wants"
)
_PODMAN_ARGS = {
    "AddHost": "add-host",
    "AppArmor": "security-opt=apparmor",
    "CgroupsMode": "cgroups",
    "Entrypoint": "entrypoint",
    "GroupAdd": "group-add",
    "HealthLogDestination": "health-log-destination",
    "HealthMaxLogCount": "health-max-log-count",
    "HealthMaxLogSize": "health-max-log-size",
    "HttpProxy": "http-proxy",
    "ImageVolume": "image-volume",
    "LogOpt": "log-opt",
    "NetworkAlias": "network-alias",
    "Retry": "retry",
    "RetryDelay": "retry-delay",
    "StopSignal": "stop-signal",
    "StopTimeout": "stop-timeout",
}
_ELSEWHERE = dict(
    [(key, f"use {key}= in [Service]") for key in _SERVICE_KEYS.split()]
    + [(key, f"use {key}= in [Unit]") for key in _UNIT_KEYS.split()]
    + [(key, f"use {key}= in [Install]") for key in ("Alias", "DefaultInstance", "RequiredBy", "WantedBy")]
    + [(key, f"use PodmanArgs=--{option}=...") for key, option in _PODMAN_ARGS.items()]
)
_ELSEWHERE.update(
    Memory="use MemoryMax= in [Service]",
    MemorySwap="use MemorySwapMax= in [Service]",
    MemoryReservation="use MemoryLow= in [Service]",
    CPUs="use CPUQuota= in [Service]",
    ReloadCmd="use ExecReload= in [Service]",
    ReloadSignal="use ExecReload= in [Service]",
    ServiceName="name the file after the service",
    DefaultDependencies="make something want network-online.target",
    HostUser="use UserNS= or UIDMap=",
    UID="use User=",
    GID="use Group=",
)

MOST = 20  # problems of a file that are told: whoever owns it may have written any number

_DEPENDENCIES = (
    "After Before BindsTo Conflicts OnFailure OnSuccess PartOf PropagatesReloadTo PropagatesStopTo ReloadPropagatedFrom Requires Requisite "
    "StopPropagatedFrom Upholds Wants"
)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def assignments(text: str) -> Iterator[tuple[int, str, str, str]]:
    """Line number, section, key and value of each assignment; a line that is none of these has the key ''."""
    section = ""
    lines = enumerate(text.split("\n"), start=1)
    for number, line in lines:
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        if line[0] == "[" and line[-1] == "]":
            section = line[1:-1]
            continue
        value = line
        while value.endswith("\\"):
            # A comment between continued lines is skipped, as systemd does.
            more = next((rest for _, rest in lines if not rest.lstrip().startswith(("#", ";"))), "")
            value = value[:-1] + " " + more.strip()
        key, equals, value = value.partition("=")
        yield number, section, key.strip() if equals else "", value.strip()


def _kind(name: str) -> tuple[str, bool]:
    """The suffix that decides how a file is read, and whether the file is a drop-in for such a unit."""
    parts = name.strip("/").split("/")
    if len(parts) > 1 and parts[-2].endswith(".d"):
        return parts[-2][:-2].rpartition(".")[2], True
    return parts[-1].rpartition(".")[2], False


def _unknown(section: str, key: str, release: str) -> str:
    since = KEYS[section].get(key)
    hint = _ELSEWHERE.get(key, "")
    if since:
        problem = f"'{key}=' in [{section}] needs Podman {since}, this host has {release}"
    else:
        problem = f"[{section}] has no key '{key}=' in any Podman"
        near = difflib.get_close_matches(key, KEYS[section], n=1, cutoff=0.75)
        if not hint and near:
            hint = f"did you mean {near[0]}=?"
    return f"{problem}: {hint}" if hint else problem


def _ignored(section: str, key: str, value: str, version: tuple[int, ...]) -> str | None:
    if section == "Container" and key == "Notify" and value.lower() == "healthy":
        since, what = SILENTLY_IGNORED["Notify=healthy"]
        if version < _number(since):
            return f"Notify=healthy needs Podman {since}: {what}"
    if section == "Unit" and key in _DEPENDENCIES.split():
        since, what = SILENTLY_IGNORED["dependency"]
        units = [unit for unit in value.split() if unit.rpartition(".")[2] in FILES]
        if units and version < _number(since):
            return "{}={} needs Podman {}: {}".format(key, " ".join(units), since, what)
    return None


def check_unit(text: str, name: str, version: tuple[int, ...]) -> list[str]:
    """What the Podman of a host would refuse or quietly not do in a Quadlet file; systemd's own sections are left alone.

    ``name`` is the file's name, or only its suffix; the messages begin with it.
    """
    suffix, is_drop_in = _kind(name)
    release = ".".join(str(part) for part in version)
    if suffix not in FILES:
        return ["{}: not a Quadlet file; the suffix must be one of {}".format(name, ", ".join(sorted(FILES)))]
    own, since = FILES[suffix]
    if version < _number(since):
        return [f"{name}: .{suffix} files need Podman {since}, this host has {release}"]

    problems: list[str] = []
    for applies, what in ((is_drop_in, "drop-in"), ("@." in name, "template")):
        since, effect = SILENTLY_IGNORED[what]
        if applies and version < _number(since):
            problems.append(f"{name}: a {what} needs Podman {since}, this host has {release}: {effect}")

    sections = set()
    for line, section, key, value in assignments(text):
        if section in KEYS and section not in (own, "Quadlet"):
            if section not in sections:
                problems.append(f"{name}:{line}: section [{section}] has no place in a .{suffix} file; use [{own}]")
            sections.add(section)
            continue
        sections.add(section)
        problem: str | None = None
        if not key or not section:
            problem = "neither a section, a comment nor Key=value inside a section"
        elif section in KEYS and _number(KEYS[section].get(key, "99")) > version:
            problem = _unknown(section, key, release)
        else:
            problem = _ignored(section, key, value, version)
        if problem:
            problems.append(f"{name}:{line}: {problem}")
        if len(problems) >= MOST:
            return [*problems, f"{name}: the lines after {line} were not looked at"]
    if not is_drop_in and not re.search(rf"^\s*\[{own}\]\s*$", text, re.MULTILINE):
        problems.append(f"{name}: section [{own}] is missing")
    return problems
