"""Archives of clusters that serve no more, such as that from before an upgrade: they lie beside the one in use, and can be restored from."""

from __future__ import annotations

import dataclasses
import getpass
import json
import os
import re
import time

from senex_host.host_layout import RECEIVER, job_unit

from pitr import jobs
from pitr.jobs import PitrError
from pitr.programs import systemctl
from pitr.settings import Settings

UNITS = (RECEIVER, *(job_unit(job, "timer") for job in ("wal", "base", "drill")))
RUNNING = tuple(job_unit(job) for job in ("wal", "base", "drill"))
# A home and a file of its own for Barman: its backups hold the server's name, and its cron would receive WAL for every server that it knows
CONFIGURATION = """[barman]
barman_user = {user}
barman_home = {home}
log_level = WARNING

[{name}]
description = kept since {since}
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


def _home(settings: Settings, name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9-]+", name):
        raise PitrError(f"{name}: is no name of a kept archive; see 'pitr list'")
    return os.path.join(settings.archive, "kept", name)


def names(settings: Settings) -> list[str]:
    """The kept archives there are."""
    place = os.path.join(settings.archive, "kept")
    entries = sorted(os.listdir(place)) if os.path.isdir(place) else []
    return [name for name in entries if os.path.isdir(os.path.join(place, name, settings.server))]


def of(settings: Settings, name: str) -> Settings:
    """The settings with which a kept archive is read: its own place, and the image that its cluster ran in."""
    if name not in names(settings):
        raise PitrError(f"--archive {name}: is not kept here; there are: {', '.join(names(settings)) or 'none'}")
    home = _home(settings, name)
    with open(os.path.join(home, "kept.json"), encoding="utf-8") as handle:
        return dataclasses.replace(settings, archive=home, image=json.load(handle)["image"], configuration=os.path.join(home, "barman.conf"))


def set_aside(settings: Settings, name: str, image: str | None) -> None:
    """Everything of the archive rests, and it gives its place to another. Once done, it does nothing more."""
    systemctl("stop", *UNITS, *RUNNING, check=False)
    home, now = _home(settings, name), time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    os.makedirs(home, mode=0o700, exist_ok=True)
    if image:
        with open(os.path.join(home, "kept.json"), "w", encoding="utf-8") as handle:
            json.dump({"image": image, "since": now}, handle)
    with open(os.path.join(home, "barman.conf"), "w", encoding="utf-8") as handle:
        named = {"name": settings.server, "since": now, "sockets": settings.sockets, "role": settings.archive_role}
        handle.write(CONFIGURATION.format(user=getpass.getuser(), home=home, **named))
    if os.path.isdir(settings.barman_server) and name not in names(settings):
        jobs.renamed(settings.barman_server, os.path.join(home, settings.server))


def take_back(settings: Settings, name: str, instead_of: str | None) -> None:
    """A kept archive is the one in use again; its cluster, with the slot it had, goes on where it was."""
    if name in names(settings):
        if os.path.isdir(settings.barman_server):
            set_aside(settings, instead_of or f"aside-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}", None if instead_of else settings.image)
        jobs.renamed(os.path.join(_home(settings, name), settings.server), settings.barman_server)
    systemctl("start", *UNITS, check=False)
