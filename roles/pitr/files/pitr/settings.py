"""What the role has written down for the programs on the host."""

from __future__ import annotations

import dataclasses
import json
import os

CONFIGURATION = "config/pitr/pitr.json"


@dataclasses.dataclass(frozen=True)
class Settings:
    """The fields of pitr.json; paths are relative to the service user's home there, and whole here."""

    home: str
    unit: str
    container: str
    image: str
    container_uid: int
    database: str
    superuser: str
    owner: str
    archive_role: str
    data: str
    sockets: str
    archive: str
    status: str
    server: str
    base_max_age: int
    wal_max_age: int
    wal_max_lag: int
    drill_max_age: int
    drill_directory: str
    drill_columns: list[str]
    recovery_timeout: int
    configuration: str = "config/pitr/barman.conf"  # below the home; of an archive that was fetched or kept, a path of its own

    @property
    def barman(self) -> str:
        """Barman's configuration file."""
        return os.path.join(self.home, self.configuration)

    @property
    def barman_server(self) -> str:
        """Where Barman keeps this server's base backups and WAL."""
        return os.path.join(self.archive, self.server)

    @property
    def postgresql_configuration(self) -> str:
        """Configuration of the server in production, which recovery runs with too."""
        return os.path.join(self.home, "config/postgresql")


def load(home: str) -> Settings:
    """The settings of this host."""
    with open(os.path.join(home, CONFIGURATION), encoding="utf-8") as handle:
        read = json.load(handle)
    for name in ("data", "sockets", "archive", "status", "drill_directory"):
        read[name] = os.path.join(home, read[name])
    return Settings(home=home, **read)
