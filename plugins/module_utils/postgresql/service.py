"""PostgreSQL as a service: who works with it from outside starts, stops and asks it here, and knows neither unit nor container.

SingleServer is one server in one container. A cluster under Patroni is to be the second one; what each method means there stands in Service.

Standard library alone: roles pitr and backup install this file beside their programs.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Protocol

from .container import Container, Host
from .session import OPTIONS, target

NAME = re.compile(r"[a-z0-9_]{1,63}")  # of a replication slot, as PostgreSQL takes it


class Names(NamedTuple):
    """What the service is called on a host; role senex is the owner of both, and they come by configuration."""

    unit: str
    container: str


class Address(NamedTuple):
    """Where writes go; of a local server, the directory of its socket."""

    host: str
    port: int = 0

    @property
    def conninfo(self) -> str:
        """For libpq."""
        return f"host={self.host}" + (f" port={self.port}" if self.port else "")


class Service(Protocol):
    """The life cycle. With several servers, one is the primary and the others follow it."""

    def start(self, after_failure: bool = False) -> None:
        """Serve. Patroni: start the members and resume; the primary is the one whose data was swapped."""

    def stop(self, check: bool = True) -> None:
        """Nobody writes to the data until `start`. Patroni: pause, so that no standby is promoted, then stop every member."""

    def is_running(self) -> bool:
        """Whether a server process may write to this host's data, ready or not."""

    def is_ready(self) -> bool:
        """Whether the primary takes connections. Patroni: GET /primary answers 200."""

    def primary(self) -> Address:
        """Where writes go. Patroni: of GET /cluster, the member whose role is leader."""

    def switchover(self) -> None:
        """Another server becomes the primary, for a restart without downtime. Nothing where there is only one. Patroni: POST /switchover."""

    def swap_data(self, data: str, comes: str, aside: str, check: bool = True) -> None:
        """Stop (`check` as there), and put another data directory in the place of `data`, kept as `aside` (empty: there is none). Stays stopped.

        Patroni: on the primary's host alone; where `comes` is another cluster, its key in the store is removed. Standbys are made anew after the start.
        """

    def has_slot(self, name: str) -> bool:
        """Whether the primary keeps WAL for whoever reads this physical replication slot."""

    def drop_slot(self, name: str) -> None:
        """It keeps none for it any more. Patroni: PATCH /config, where permanent slots are written down; one that is only dropped comes back."""

    def inspect(self, form: str) -> str:
        """What Podman says of this host's server; nothing where there is none."""

    def psql(self, text: str, database: str, role: str = "", options: str = OPTIONS, timeout: float | None = None) -> list[list[str]]:
        """Rows of a script, asked of the primary: by the superuser, where no role is named."""


class SingleServer:
    """The only server, in a container that a unit of the service user runs. It is the primary, always."""

    def __init__(self, host: Host, names: Names, superuser: str, sockets: str = ""):
        self.host, self.names, self.superuser, self.sockets = host, names, superuser, sockets
        self.container = Container(host, names.container)

    def start(self, after_failure: bool = False) -> None:
        """Returns when its health check is good. `after_failure`: what systemd has given up is tried again as well."""
        if after_failure:
            self.host.systemctl("reset-failed", self.names.unit, check=False)
        self.host.systemctl("start", self.names.unit)

    def stop(self, check: bool = True) -> None:
        """See Service."""
        self.host.systemctl("stop", self.names.unit, check=check)

    def is_running(self) -> bool:
        """See Service."""
        return self.container.is_running()

    def is_ready(self) -> bool:
        """See Service."""
        return self.container.is_ready()

    def primary(self) -> Address:
        """See Service."""
        return Address(self.sockets)

    def switchover(self) -> None:
        """There is no other."""

    def swap_data(self, data: str, comes: str, aside: str, check: bool = True) -> None:
        """See Service."""
        self.stop(check)
        if aside:
            self.host.rename(data, aside)
        self.host.rename(comes, data)

    def has_slot(self, name: str) -> bool:
        """See Service."""
        return bool(self.psql(f"select 1 from pg_replication_slots where slot_name = '{_slot(name)}';", "postgres"))

    def drop_slot(self, name: str) -> None:
        """See Service."""
        self.psql(f"select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = '{_slot(name)}';", "postgres")

    def inspect(self, form: str) -> str:
        """See Service."""
        return self.container.inspect(form)

    def psql(self, text: str, database: str, role: str = "", options: str = OPTIONS, timeout: float | None = None) -> list[list[str]]:
        """See Service."""
        return self.container.psql(text, target(database, options=options), role or self.superuser, timeout)


def _slot(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(f"{name} is no name of a replication slot")
    return name
