"""A directory brought to a moment by a server of its own, beside the one in production, which goes on running."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator

from senex_host import confined

from pitr import database, removal, wal
from pitr.jobs import PitrError, Unverified
from pitr.plan import Plan, check_space
from pitr.postgresql.container import Container
from pitr.postgresql.session import OPTIONS, PATIENT, target
from pitr.programs import as_container_user, barman, in_image, last_words, podman, run, unrun
from pitr.settings import Settings

PASSED_ON = "pitr.recovery.conf"
ROLES = "/etc/postgresql/roles.sh"  # brings a cluster from before it was there to the roles of now
DATA = "/var/lib/postgresql/data"  # said to the image as well, which has another place of its own from 18 on


class Server(Container):
    """A container that recovers, and answers when it is done."""

    def __init__(self, settings: Settings, name: str):
        super().__init__(database.Here(), name, settings.container_uid)
        self.settings = settings

    def rows(self, statement: str, name: str | None = None, role: str | None = None) -> list[list[str]]:
        """Rows, for the superuser. Names without a schema are the application's: its role may have a search path of its own."""
        return self.psql(statement, target(name or self.settings.database, options=PATIENT if role else OPTIONS), role or self.settings.superuser)

    def sql(self, statement: str, name: str | None = None, role: str | None = None) -> list[str]:
        """The first value of each row."""
        return [row[0] for row in self.rows(statement, name, role)]

    def log(self) -> str:
        """What the server wrote."""
        done = podman("logs", self.name, check=False)
        return done.stdout + done.stderr


def fill(settings: Settings, plan: Plan, directory: str) -> wal.Reading:
    """A new directory with the base backup, and the WAL beside it, each file of which was found whole."""
    base, place = plan.base, wal_of(directory)
    check_space(os.path.dirname(directory), int(base.bytes * 1.1) + len(plan.chain) * wal.DEFAULT_SIZE, "the restored copy")
    removal.begin(settings, place)
    for segment in plan.chain:
        with open(os.path.join(place, segment.name), "wb") as handle:
            handle.write(wal.examined(segment, base))
    wal.copy_history(settings, base, place)
    reading = wal.read_records(settings, base, place, plan.chain, plan.until_text)
    if plan.until and not reading.passed and not reading.mark:
        raise PitrError(f"the archive ends at {reading.end or 'the base backup'} UTC, before {plan.until_text}; restore to latest")
    try:
        verify_base(settings, plan)
    except Unverified:
        raise
    except PitrError as failure:
        raise PitrError(f"{failure}; --base (restore_base) takes another, which 'pitr list' names") from None
    # Barman makes the directory; it is told to leave the WAL alone, which is here already
    barman(settings, "recover", "--get-wal", f"--recovery-conf-filename={PASSED_ON}", settings.server, base.name, directory)
    for name in (PASSED_ON, "standby.signal"):
        path = os.path.join(directory, name)
        if os.path.lexists(path):
            os.remove(path)
    removal.owned.write(os.path.join(directory, "recovery.signal"), "")
    os.chmod(directory, 0o700)
    removal.owned.mark(directory)  # whatever the base backup had there
    as_container_user(settings, "chown", "-R", f"{settings.container_uid}:{settings.container_uid}", directory, place)
    return reading


def wal_of(directory: str) -> str:
    """Where the WAL for a directory's recovery lies: beside it, so that nothing of it stays in the data."""
    return f"{directory}.wal"


def verify_base(settings: Settings, plan: Plan) -> None:
    """Checksums of all files of the base backup against its manifest."""
    command = in_image(settings, ["pg_verifybackup", "--no-parse-wal", "--exit-on-error", "/base"], [f"{plan.base.data}:/base:ro"])
    done = run(*command, check=False)
    unrun(done, "pg_verifybackup")
    if done.returncode:
        raise PitrError(f"base backup {plan.base.name} is damaged: {last_words(done.stderr).replace('/base', plan.base.data)}")


@contextlib.contextmanager
def server(settings: Settings, plan: Plan, reading: wal.Reading, directory: str, name: str, durable: bool) -> Iterator[Server]:
    """Recover the directory, and keep the server up for the body. `durable`: what it leaves goes into production."""
    wanted = {
        **_options(durable),
        "restore_command": "cp /wal/%f %p",
        "recovery_target_timeline": str(plan.base.timeline),
        "recovery_target_action": "promote",
    }
    if plan.until and reading.passed:
        wanted |= {"recovery_target_time": plan.until_text + "+00", "recovery_target_inclusive": "on"}
    elif plan.until:  # nothing was committed after the moment; PostgreSQL stops at times of commits alone
        wanted |= {"recovery_target_name": wal.MARK + reading.mark}
    with _running(settings, name, directory, wanted, [f"{wal_of(directory)}:/wal:ro"], durable) as up:
        _await(up, settings.recovery_timeout)
        yield up
        if durable:
            up.sql("checkpoint")
            podman("stop", name)


@contextlib.contextmanager
def blank(settings: Settings, directory: str, name: str) -> Iterator[Server]:
    """A server that has nothing yet, as on a new host, for the body alone."""
    os.mkdir(directory, 0o700)
    as_container_user(settings, "chown", f"{settings.container_uid}:{settings.container_uid}", directory)
    words = ["initdb", f"--pgdata={DATA}", f"--username={settings.superuser}", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
    done = run(*in_image(settings, words, [f"{directory}:{DATA}"], user=settings.container_uid), check=False)
    if done.returncode:
        raise Unverified(f"a new server could not be made: {last_words(done.stderr)}")
    with _running(settings, name, directory, _options(durable=False), [], durable=False) as up:
        _ready(up, settings.recovery_timeout)
        yield up


@contextlib.contextmanager
def beside(settings: Settings, directory: str, name: str) -> Iterator[Server]:
    """A server on data that is about to go into production, for the body alone; at its end the data is in order again."""
    with _running(settings, name, directory, _options(durable=True), [], durable=True) as up:
        _ready(up, settings.recovery_timeout)
        yield up
        podman("stop", name)


def _options(durable: bool) -> dict[str, str]:
    """Of a server that nobody but this program asks. `durable`: what it leaves goes into production."""
    return {
        "config_file": "/etc/postgresql/postgresql.conf",
        "listen_addresses": "",
        "ssl": "off",
        "archive_mode": "off",
        "hot_standby": "off",
        "shared_buffers": "128MB" if durable else "64MB",
        "max_wal_size": "1GB",
        # Memory that processes share would have to be sized for the work_mem of production, and be within the drill's limit
        "max_parallel_workers_per_gather": "0",
        **({} if durable else {"fsync": "off", "full_page_writes": "off"}),
    }


@contextlib.contextmanager
def _running(settings: Settings, name: str, directory: str, wanted: dict[str, str], mounts: list[str], durable: bool) -> Iterator[Server]:
    podman("rm", "--force", "--time=10", name, check=False)
    options = [word for key, value in wanted.items() for word in ("-c", f"{key}={value}")]
    # In a unit, the container is under the unit's memory limit
    cgroups = ["--cgroups=split"] if "INVOCATION_ID" in os.environ and not durable else []
    closed = ["--pull=never", "--network=none", "--read-only", "--shm-size=256m"]
    closed += ["--tmpfs=/tmp:rw,mode=1777,size=64m", "--tmpfs=/run/postgresql:rw,mode=1777,size=64m"]
    closed += [f"--env=PGDATA={DATA}", "--image-volume=ignore"]
    closed += [*confined.OPTIONS, "--log-driver=k8s-file", "--stop-timeout=600", f"--user={settings.container_uid}"]
    volumes = [f"--volume={one}" for one in (f"{directory}:{DATA}", *mounts, f"{settings.postgresql_configuration}:/etc/postgresql:ro")]
    try:
        podman("run", "--detach", f"--name={name}", *cgroups, *closed, *volumes, settings.image, "postgres", *options)
    except PitrError as failure:
        raise Unverified(f"the server could not be started: {failure}") from None
    try:
        yield Server(settings, name)
    finally:
        podman("rm", "--force", "--time=10", name, check=False)


def _ready(up: Server, patience: float) -> None:
    """Until a new server answers."""
    end = time.monotonic() + patience
    while not up.is_ready(up.settings.superuser):
        if not up.is_running() or time.monotonic() > end:
            raise Unverified(f"a new server does not answer: {last_words(up.log(), 2)}")
        time.sleep(0.2)


def _await(up: Server, patience: float) -> None:
    """Until the server takes writes."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if up.is_ready(up.settings.superuser):
            up.execute("sh", ROLES)
            if up.sql("select pg_is_in_recovery()", "postgres") == ["f"]:
                return
        if not up.is_running():
            log = up.log().splitlines()
            told = [line for line in log if re.search("FATAL|PANIC|ERROR", line) and "is starting up" not in line] or log
            raise PitrError(f"recovery failed: {last_words(chr(10).join(told))}")
        time.sleep(0.5)
    raise PitrError(f"recovery was not over in {patience:.0f} s (pitr_recovery_timeout): {last_words(up.log(), 2)}")
