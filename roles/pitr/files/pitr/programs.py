"""Barman, psql and the programs of the PostgreSQL image."""

from __future__ import annotations

import dataclasses
import glob
import json
import os
import subprocess
import time

from senex_host import confined, process, user_manager

from pitr.jobs import PitrError, Unverified
from pitr.settings import Settings

DAMAGED = ".senex-damaged"  # in a base backup that was not what its manifest says when it was taken; it is passed over, and goes with the next good one
FETCHED = ".fetched"  # what the name of an archive from off the host ends with, while it lies beside this host's own
NEVER_WHOLE = ("EMPTY", "STARTED", "FAILED")  # what Barman leaves of one that failed or was killed: at its full size, and `barman check` fails
DAY = 86400
PODMANS_OWN = (125, 126, 127)  # exit statuses of Podman when the program was not even run
Result = subprocess.CompletedProcess


def run(*argv: str, check: bool = True, timeout: float | None = None, stdin: str | None = None) -> Result[str]:
    """A program's result, with ends of lines as they are; a PitrError with its last words when it fails."""
    done = process.run(list(argv), stdin, timeout)
    if check and done.returncode:
        raise PitrError(f"{os.path.basename(argv[0])} {argv[1] if len(argv) > 1 else ''}: {last_words(done.stderr or done.stdout)}")
    return done


def last_words(text: str, lines: int = 6) -> str:
    """The end of what a program said, as one sentence."""
    kept = [line.strip() for line in text.strip().splitlines() if line.strip() and " INFO:" not in line]
    return "; ".join(kept[-lines:]) or "no reason given"


def barman(settings: Settings, *words: str, check: bool = True, timeout: float | None = None) -> Result[str]:
    """Barman with this host's configuration."""
    return run("barman", "--config", settings.barman, *words, check=check, timeout=timeout)


@dataclasses.dataclass(frozen=True)
class Base:
    """A base backup, as Barman lists it."""

    name: str
    data: str
    timeline: int
    begin_wal: str
    end_time: float
    system_id: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class Listed:
    """A line of the catalogue; the rest costs half a second for each."""

    name: str
    end_time: float
    bytes: int


def _listed(settings: Settings) -> list[dict]:
    return json.loads(barman(settings, "--format", "json", "list-backups", settings.server).stdout or "{}").get(settings.server, [])


def unfinished(settings: Settings) -> list[str]:
    """Base backups that wait for the WAL of their end."""
    return [item["backup_id"] for item in _listed(settings) if item.get("status") == "WAITING_FOR_WALS"]


def never_whole(settings: Settings) -> list[str]:
    """Base backups that failed or were killed, where nobody is taking one now."""
    return [item["backup_id"] for item in _listed(settings) if item.get("status") in NEVER_WHOLE]


def condemn(settings: Settings, name: str) -> None:
    """Say of a base backup that it is damaged."""
    os.makedirs(os.path.join(settings.barman_server, "base", name), mode=0o700, exist_ok=True)
    with open(os.path.join(settings.barman_server, "base", name, DAMAGED), "w", encoding="utf-8"):
        pass


def damaged(settings: Settings) -> list[str]:
    """Base backups of which that was said."""
    return [os.path.basename(os.path.dirname(path)) for path in sorted(glob.glob(os.path.join(glob.escape(settings.barman_server), "base", "*", DAMAGED)))]


def gone(settings: Settings, listed: list[dict] | None = None) -> list[str]:
    """Base backups that Barman lists, for its catalogue lies elsewhere, and whose files somebody has removed."""
    if settings.archive.endswith(FETCHED):
        return []  # the catalogue comes alone there, and the files of the one that was chosen
    whole = [item["backup_id"] for item in (_listed(settings) if listed is None else listed) if item.get("status") == "DONE"]
    return [name for name in whole if not os.path.isdir(_data(settings, name))]


def _data(settings: Settings, name: str) -> str:
    return os.path.join(settings.barman_server, "base", name, "data")


def catalogue(settings: Settings) -> list[Listed]:
    """Whole base backups, oldest first."""
    listed = _listed(settings)
    bad = damaged(settings) + gone(settings, listed)
    listed = [item for item in listed if item["backup_id"] not in bad]
    # The time is in whole seconds, rounded down
    found = [Listed(item["backup_id"], float(item["end_time_timestamp"]) + 1, item["size_bytes"]) for item in listed if item.get("status") == "DONE"]
    ahead = time.time() + DAY  # of a clock that was ahead once: it would be the newest for years
    return sorted(found, key=lambda item: (item.end_time <= ahead, item.end_time))


def base(settings: Settings, listed: Listed) -> Base:
    """All that a restore needs to know of a base backup."""
    about = json.loads(barman(settings, "--format", "json", "show-backup", settings.server, listed.name).stdout)[settings.server]
    if about["tablespaces"]:
        raise PitrError(f"base backup {listed.name} has tablespaces, which are not supported; move their tables to the default one")
    detail = about["base_backup_information"]
    return Base(
        name=listed.name,
        data=_data(settings, listed.name),
        timeline=detail["timeline"],
        begin_wal=detail["begin_wal"],
        end_time=listed.end_time,
        system_id=int(about["system_id"]),
        bytes=int(about["cluster_size_bytes"]),
    )


def unrun(done: Result[str], what: str) -> None:
    """Say so when Podman could not run a program of the image: nothing was learned of what it was to look at."""
    if done.returncode in PODMANS_OWN:
        raise Unverified(f"{what} could not be run: {last_words(done.stderr)}")


def podman(*words: str, check: bool = True, timeout: float | None = None, stdin: str | None = None) -> Result[str]:
    """Podman as the service user."""
    return run("podman", *words, check=check, timeout=timeout, stdin=stdin)


def in_image(settings: Settings, program: list[str], mounts: list[str], user: int = 0) -> list[str]:
    """The command line of a program of the PostgreSQL image: the version that wrote the data. Root in there is the service user."""
    volumes = [word for mount in mounts for word in ("--volume", mount)]
    safe = ["--rm", "--pull=never", "--network=none", "--read-only", "--image-volume=ignore", *confined.OPTIONS, "--log-driver=none"]
    # Files are the container user's, and root without capabilities reads its own alone
    return ["podman", "run", *safe, f"--user={user}", "--env=TZ=UTC", *volumes, f"--entrypoint={program[0]}", settings.image, *program[1:]]


def as_container_user(settings: Settings, *command: str) -> None:
    """Run a command where the container user's files can be handled."""
    run("podman", "unshare", *command)


def systemctl(*words: str, check: bool = True) -> Result[str]:
    """The service user's units."""
    os.environ.setdefault("XDG_RUNTIME_DIR", user_manager.runtime(os.getuid()))
    return run("systemctl", "--user", *words, check=check)
