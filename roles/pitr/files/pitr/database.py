"""The database in production, as a service: nothing else of this program names its unit or its container."""

from __future__ import annotations

import functools
import glob
import subprocess

from pitr import jobs
from pitr.postgresql import psql
from pitr.postgresql.service import Names, Service, SingleServer
from pitr.programs import last_words, podman, run, systemctl
from pitr.settings import Settings

CLIENTS = "/usr/lib/postgresql"  # of Debian's packages, by version


@functools.cache
def client() -> str:
    """psql itself. What Debian has under that name is a Perl program that looks for the newest, at seven times the cost of most questions."""
    found = glob.glob(f"{CLIENTS}/[0-9]*/bin/psql")
    return max(found, key=lambda path: [int(part) for part in path.removeprefix(CLIENTS).split("/")[1].split(".") if part.isdigit()], default="psql")


class Here:
    """This host, for the service user, who runs this program."""

    def podman(self, *words: str, check: bool = True, stdin: str | None = None, timeout: float | None = None):
        """See container.Host."""
        return podman(*words, check=check, stdin=stdin, timeout=timeout)

    def systemctl(self, *words: str, check: bool = True):
        """See container.Host."""
        return systemctl(*words, check=check)

    def rename(self, source: str, name: str) -> None:
        """See container.Host."""
        jobs.renamed(source, name)


def service(settings: Settings) -> Service:
    """How it is started, stopped and asked on this host."""
    return SingleServer(Here(), Names(settings.unit, settings.container), settings.superuser, settings.sockets)


def asked(settings: Settings, script: str) -> list[list[str]] | None:
    """What it answers to its superuser; nothing where it does not."""
    try:
        return service(settings).psql(script, settings.database, timeout=60)
    except (jobs.PitrError, subprocess.TimeoutExpired):  # one that hangs may be why this is done
        return None


def query(settings: Settings, sql: str, replication: bool = False) -> list[list[str]]:
    """Rows from the primary, as the role of the archive."""
    kind = "replication=true" if replication else "dbname=postgres"
    target = f"{service(settings).primary().conninfo} user={settings.archive_role} connect_timeout=10 {kind}"
    done = run(client(), *psql.ROWS, "-w", "-c", sql, target, check=False, timeout=60)
    if done.returncode:
        raise jobs.PitrError(f"the database does not answer: {last_words(done.stderr)}")
    return psql.rows(done.stdout)
