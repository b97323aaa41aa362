"""Archives of clusters that serve no more, such as that from before an upgrade: they lie beside the one in use, and can be restored from."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import time

from pitr.jobs import Failure
from pitr.programs import systemctl
from pitr.settings import Settings

UNITS = ("pitr-receive.service", "pitr-wal.timer", "pitr-base.timer", "pitr-drill.timer")
RUNNING = ("pitr-wal.service", "pitr-base.service", "pitr-drill.service")
# Barman lists, verifies and restores it, and does nothing of its own accord
CONFIGURATION = """[{name}]
description = kept since {since}
active = false
conninfo = host={sockets} user={role} dbname=postgres
streaming_conninfo = host={sockets} user={role}
streaming_archiver = on
slot_name = barman
backup_method = postgres
compression = custom
custom_compression_filter = gzip -1
custom_decompression_filter = gzip -dc
custom_compression_magic = 0x1f8b08
"""


def _place(settings: Settings, name: str, suffix: str = "") -> str:
    return os.path.join(settings.archive, f"kept/{name}{suffix}") if suffix else os.path.join(settings.archive, name)


def full_name(settings: Settings, name: str) -> str:
    """What Barman knows a kept archive as."""
    if not re.fullmatch(r"[A-Za-z0-9-]+", name):
        raise Failure(f"{name}: is no name of a kept archive; see 'pitr list'")
    return f"{settings.server}-{name}"


def names(settings: Settings) -> list[str]:
    """The kept archives there are."""
    place = os.path.join(settings.archive, "kept")
    entries = sorted(os.listdir(place)) if os.path.isdir(place) else []
    found = [entry.removesuffix(".json").removeprefix(f"{settings.server}-") for entry in entries if entry.endswith(".json")]
    return [name for name in found if os.path.isdir(_place(settings, full_name(settings, name)))]


def of(settings: Settings, name: str) -> Settings:
    """The settings with which a kept archive is read: its own name, and the image that its cluster ran in."""
    if name not in names(settings):
        raise Failure(f"--archive {name}: is not kept here; there are: {', '.join(names(settings)) or 'none'}")
    server = full_name(settings, name)
    with open(_place(settings, server, ".json"), encoding="utf-8") as handle:
        return dataclasses.replace(settings, server=server, image=json.load(handle)["image"])


def _rename(settings: Settings, old: str, new: str) -> None:
    """The directory, and the list of WAL in it, whose name Barman makes of the server's. The directory last: it says that all is done."""
    for source in (os.path.join(_place(settings, old), place, f"{old}-xlog.db") for place in ("wals", "meta")):
        if os.path.exists(source):
            os.rename(source, os.path.join(os.path.dirname(source), f"{new}-xlog.db"))
    os.rename(_place(settings, old), _place(settings, new))


def set_aside(settings: Settings, name: str, image: str | None) -> None:
    """Everything of the archive rests, and it gives its place to another. Once done, it does nothing more."""
    systemctl("stop", *UNITS, *RUNNING, check=False)
    server, now = full_name(settings, name), time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    os.makedirs(_place(settings, "kept"), mode=0o700, exist_ok=True)
    if image:
        with open(_place(settings, server, ".json"), "w", encoding="utf-8") as handle:
            json.dump({"image": image, "since": now}, handle)
    with open(_place(settings, server, ".conf"), "w", encoding="utf-8") as handle:
        handle.write(CONFIGURATION.format(name=server, since=now, sockets=settings.sockets, role=settings.archive_role))
    if os.path.isdir(settings.barman_server) and not os.path.isdir(_place(settings, server)):
        _rename(settings, settings.server, server)


def take_back(settings: Settings, name: str, instead_of: str | None) -> None:
    """A kept archive is the one in use again; its cluster, with the slot it had, goes on where it was."""
    server = full_name(settings, name)
    if os.path.isdir(_place(settings, server)):
        if os.path.isdir(settings.barman_server):
            set_aside(settings, instead_of or f"aside-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}", None if instead_of else settings.image)
        _rename(settings, server, settings.server)
        os.remove(_place(settings, server, ".conf"))
    systemctl("start", *UNITS, check=False)
