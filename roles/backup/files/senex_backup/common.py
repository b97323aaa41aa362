"""What every job shares: settings, Podman, one at a time, the status file, the heartbeat."""

from __future__ import annotations

import contextlib
import datetime
import http.client
import json
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from senex_host import bounded, host_layout, lock, owned, process, status, user_manager
from senex_host.process import printable

from senex_backup import kinds
from senex_backup.postgresql import psql
from senex_backup.postgresql.container import Container
from senex_backup.postgresql.session import PATIENT_17, target

PODMAN = "/usr/bin/podman"
MARGIN = 16 << 20  # bytes that stay free beside what a backup is expected to need


class BackupError(Exception):
    """What went wrong, in one sentence for a person."""


class NotNow(BackupError):
    """What has nothing to do with any backup: the storage does not answer, or somebody else is at it."""


class Settings:
    """What the role wrote for this host, and the directories that follow from it."""

    def __init__(self, home: str):
        self.home = home
        with open(os.path.join(home, "config/backup/settings.json"), encoding="utf-8") as handle:
            self.given = json.load(handle)
        self.backups = os.path.join(home, "backups")

    def __getitem__(self, name: str):
        return self.given[name]

    def directory(self, name: str) -> str:
        """A directory below backups, made for the service user alone where it is not there."""
        path = os.path.join(self.backups, name)
        os.makedirs(path, mode=0o700, exist_ok=True)
        return path

    def secret(self, name: str) -> str:
        """Path of a file that the service user alone reads."""
        return os.path.join(self.home, "config/backup", name)

    @property
    def data(self) -> list[str]:
        """What of this host is copied: nothing that is removed may be, hold or lie in it."""
        paths = [self.given[kind]["directory"] for kind in ("media", "redis") if "directory" in self.given.get(kind, {})]
        return [os.path.join(self.home, path) for path in (*paths, *self.given.get("media", {}).get("volumes", {}).values())]

    @property
    def status(self) -> str:
        return self.directory(os.path.basename(host_layout.STATUS))


def is_user(settings: Settings) -> None:
    """Say how to call this when it is not the service user who does."""
    owner = settings["user"]
    os.umask(0o077)
    if os.environ.get("_CONTAINERS_USERNS_CONFIGURED"):
        return
    if pwd.getpwuid(os.geteuid()).pw_name != owner:
        raise BackupError(f"this runs as {owner}: systemd-run --user --machine={owner}@ --pipe --wait --collect --quiet {settings.home}/bin/backup …")
    for name, value in user_manager.addresses(os.geteuid()).items():
        os.environ.setdefault(name, value)
    os.chdir(settings.home)


def say(text: str) -> None:
    print(printable(text), flush=True)


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def podman(*words: str, stdin: str | None = None, timeout: int = 600) -> str:
    """What a Podman command prints; its own words when it fails."""
    try:
        done = process.run([PODMAN, *words], stdin, timeout)
    except subprocess.TimeoutExpired as error:
        raise BackupError(f"podman {words[0]} did not end in {timeout} s") from error
    if done.returncode:
        raise BackupError(f"podman {' '.join(words[:3])} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-800:]}")
    return done.stdout


class Here:
    """This host, for the service user, who runs this program."""

    def podman(self, *words: str, check: bool = True, stdin: str | None = None, timeout: float | None = None) -> subprocess.CompletedProcess:
        """See container.Host; what fails is an error always."""
        return subprocess.CompletedProcess(words, 0, podman(*words, stdin=stdin, timeout=int(timeout or 600)), "")


def server(settings: Settings) -> Container:
    """The database's server: the one in production, or that of a drill."""
    return Container(Here(), settings["database"]["container"])


def asked(settings: Settings, options: tuple, database: str | None, text: str, timeout: int, path: bool = False) -> str:
    """What psql in the database's container answers to a script."""
    given, there = settings["database"], target(database or settings["database"]["name"], path)
    return server(settings).program("psql", *options, "-d", there, role=given["role"], stdin=PATIENT_17 + text, timeout=timeout).stdout


def sql(settings: Settings, text: str, database: str | None = None, timeout: int = 600, path: bool = False) -> str:
    """A script, and the one value that it may ask for. `path`: with the search path that a new database has, for what may need one."""
    return asked(settings, ("-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"), database, text, timeout, path).strip()


def rows(settings: Settings, text: str, database: str | None = None, timeout: int = 600) -> list[list[str]]:
    """The rows of a script."""
    return psql.rows(asked(settings, psql.ROWS, database, text, timeout))


def need(directory: str, size: int, what: str) -> None:
    """Refuse to begin what would fill the disk."""
    seen = os.statvfs(directory)
    free = seen.f_bavail * seen.f_frsize
    if free < size + MARGIN:
        raise BackupError(f"{directory} has {free >> 20} MB free, and {what} needs about {(size + MARGIN) >> 20} MB: make room, or keep backups for fewer days")


def read_status(settings: Settings, job: str) -> dict:
    """The last outcome of a job; never, where there is none."""
    return status.read(settings.status, job) or status.never(job)


def write_status(settings: Settings, job: str, **found) -> None:
    """The outcome of a job, for whoever watches."""
    status.write(settings.status, job, int(settings["jobs"][job]["max_age"]), **found)


@contextlib.contextmanager
def alone(settings: Settings, job: str, wait: float) -> Iterator[None]:
    """One at a time: a second one waits, and says so when it gives up."""
    waiting = f"another backup of {job} is under way: waiting for it, {wait:.0f} s at most"
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(lock.exclusive(settings.status, job, wait, lambda: say(waiting)))
        except lock.Busy:
            raise NotNow(f"another backup of {job} is under way, and did not end in {wait:.0f} s") from None
        yield


def heartbeat(settings: Settings, job: str) -> None:
    """Tell the outside monitor that the job went well. One that does not answer is no failure of the backup."""
    try:
        with open(settings.secret("heartbeats.json"), encoding="utf-8") as handle:
            url = json.load(handle).get(job)
        answer = bounded.fetch(url, {"User-Agent": "senex-backup"}, 10, whole=False).status if url else 200
        if not 200 <= answer < 300:
            raise OSError(f"it answered {answer}")
    except (OSError, ValueError, http.client.HTTPException) as error:
        # Without the address, which whoever has it could use
        say(f"<4>the heartbeat of {job} was not taken: {error if isinstance(error, OSError) else type(error).__name__}")


def ended(number: int, _frame: object) -> None:
    raise BackupError(f"ended by {signal.Signals(number).name} before it was done")


def run(settings: Settings, job: str, work: Callable[[], dict], wait: float) -> dict:
    """Do a job, alone, and leave its outcome in the status file."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, ended)
    with alone(settings, job, wait):
        started, began = now(), time.monotonic()
        try:
            mounted(settings, job)
            found = work()
        except (BackupError, OSError, ValueError, EOFError) as error:
            seconds = round(time.monotonic() - began, 1)
            with contextlib.suppress(OSError):  # a full disk may have no room for it either; the unit fails all the same
                write_status(settings, job, result="failed", started=started, finished=now(), seconds=seconds, error=sentence(error))
            raise BackupError(f"{job}: {sentence(error)}") from error
        found = {**found, "seconds": round(time.monotonic() - began, 1)}
        write_status(settings, job, result="ok", started=started, finished=now(), **{key: found.get(key) for key in ("seconds", "bytes", "what")})
    heartbeat(settings, job)
    return found


def places(job: str) -> list[str]:
    """What a job writes or sends, below backups."""
    found = {"dump": ["postgresql"], **{kind: [module.DIRECTORY] for kind, module in kinds.every().items()}}
    return [place for of in found.values() for place in of] if job == "offsite" else found.get(job, [])


def of_host(settings: Settings, job: str) -> None:
    """Refuse what is no job here."""
    if job not in settings["jobs"]:
        raise BackupError(f"{job} is no job of this host: those are {', '.join(settings['jobs'])}")


def mounted(settings: Settings, job: str) -> None:
    """Refuse to write to, send or thin out by a directory whose disk is not there: it would fill the root disk, and what is left there is not all."""
    notes = [(f"config/backup/place{name and '-' + name}", os.path.join(settings.backups, name)) for name in ("", *places(job))]
    if job == "media":
        notes.append(("config/django/uploads", os.path.join(settings.home, settings["media"]["directory"])))
        notes += [(f"config/django/volume-{name}", os.path.join(settings.home, path)) for name, path in settings["media"].get("volumes", {}).items()]
    barman = os.path.join(settings.backups, "barman")
    if job in ("offsite", "offsite-wal") and os.path.isdir(barman):
        notes.append(("config/pitr/place", barman))
    for witness, path in notes:
        if wrong := owned.unmounted(os.path.join(settings.home, witness), path):
            raise BackupError(wrong)


def sentence(error: BaseException) -> str:
    """One line of it."""
    return printable(" ".join(str(error).split()))[:1000] or type(error).__name__


def fail(error: BaseException) -> int:
    print(f"backup: {sentence(error)}", file=sys.stderr, flush=True)
    return 75 if isinstance(error, NotNow) else 1  # EX_TEMPFAIL
