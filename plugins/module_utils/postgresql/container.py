"""A PostgreSQL server in a container, asked from inside: the one in production, or one that is thrown away.

Standard library alone: roles pitr and backup install this file beside their programs.
"""

from __future__ import annotations

from typing import Protocol

from . import psql
from .session import PATIENT_17


class Host(Protocol):
    """How commands are run on this host: by the service user itself, or by root as that user. What fails raises the caller's own error."""

    def podman(self, *words: str, check: bool = True, stdin: str | None = None, timeout: float | None = None):
        """Podman; a result with returncode, stdout and stderr as they came."""

    def systemctl(self, *words: str, check: bool = True):
        """systemctl --user."""

    def rename(self, source: str, name: str) -> None:
        """Rename a directory; on the disk when it returns."""


class Container:
    """Programs of its image, run beside it."""

    def __init__(self, host: Host, name: str, uid: int | None = None, sockets: str = ""):
        self.host, self.name, self.uid, self.sockets = host, name, uid, sockets

    def words(self, *argv: str) -> list[str]:
        """Podman's arguments for a program of the image beside the server."""
        user = [f"--user={self.uid}"] if self.uid is not None else []
        return ["exec", "--interactive", *user, self.name, *argv]

    def client(self, name: str, *options: str, role: str) -> list[str]:
        """The command line of a client program of PostgreSQL's, logged in as a role."""
        return [name, *([f"--host={self.sockets}"] if self.sockets else []), f"--username={role}", "--no-password", *options]

    def execute(self, *argv: str, stdin: str | None = None, check: bool = True, timeout: float | None = None):
        """Any program of the image beside the server."""
        return self.host.podman(*self.words(*argv), stdin=stdin or "", check=check, timeout=timeout)

    def program(self, name: str, *options: str, role: str, stdin: str | None = None, check: bool = True, timeout: float | None = None):
        """A client program of PostgreSQL's."""
        return self.execute(*self.client(name, *options, role=role), stdin=stdin, check=check, timeout=timeout)

    def psql(self, text: str, there: str, role: str, timeout: float | None = None) -> list[list[str]]:
        """Rows of a script; `there` is a database as session.target names it."""
        return psql.rows(self.program("psql", *psql.ROWS, "-d", there, role=role, stdin=PATIENT_17 + text, timeout=timeout).stdout)

    def is_ready(self, role: str = "") -> bool:
        """Whether it takes connections: by TCP, for the socket answers already while the image's entry point sets a new cluster up.

        By the socket, as a role, where it is one that listens nowhere else.
        """
        how = [f"--username={role}"] if role else ["--host=127.0.0.1"]
        return self.execute("pg_isready", "-q", *how, check=False).returncode == 0

    def is_running(self) -> bool:
        """Whether the container is there and runs."""
        return self.inspect("{{.State.Running}}") == "true"

    def inspect(self, form: str) -> str:
        """What Podman says of it; nothing where there is none."""
        return self.host.podman("inspect", f"--format={form}", self.name, check=False).stdout.strip()
