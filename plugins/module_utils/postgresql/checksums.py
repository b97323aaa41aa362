"""Data checksums for a cluster that was made without: pg_checksums on the stopped cluster. Rot in a page is an error then, not an answer."""

from __future__ import annotations

import os
import re

from ansible_collections.senex.trader.plugins.module_utils.host import fileset, untrusted
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import CommandError, ServiceUser
from ansible_collections.senex.trader.plugins.module_utils.postgresql import server as pg_server
from ansible_collections.senex.trader.plugins.module_utils.postgresql import upgrade_state
from ansible_collections.senex.trader.plugins.module_utils.postgresql.server import DATA, Server, Wanted
from ansible_collections.senex.trader.plugins.module_utils.postgresql.upgrade import leased

BEGUN = "postgresql-checksums.begun"  # there from before the first unit stops until all serves again
# Stop and start of application and database, and what a disk reads and writes; a slow one, so that the estimate is kept
FIXED_SECONDS, BYTES_A_SECOND = 45, 50 << 20
# The same lock as the server's start (start.sh): should whoever began this be gone, no server starts on pages that are being written. Killed, it has
# changed nothing that a server reads: the cluster counts as one with checksums when the last page is done
ENABLE = f"exec flock -n {DATA}/PG_VERSION pg_checksums --enable --pgdata={DATA}"
FIELD = re.compile(r"(?m)^([^:]+):\s+(.*)$")


class Checksums:
    """What there is, and the one thing to do."""

    def __init__(self, user: ServiceUser, wanted: Wanted, identity: str, directory: str = fileset.MANIFESTS):
        self.user, self.wanted, self.identity = user, wanted, identity
        self.service = pg_server.service_of(user, wanted)
        self.begun = os.path.join(directory, BEGUN)

    def control(self) -> dict[str, str]:
        """What the cluster's own control file says, whether a server runs or not."""
        words = ("run", "--rm", *pg_server.confined_options(self.wanted), f"--volume={self.wanted.data}:{DATA}:ro", "--entrypoint=pg_controldata")
        return dict(FIELD.findall(self.user.podman(*words, self.wanted.image, DATA).stdout))

    def on(self) -> bool:
        """Whether it has checksums."""
        return self.control().get("Data page checksum version", "0") != "0"

    def interrupted(self) -> bool:
        """Whether a run began and did not end."""
        return fileset.read(self.begun)[0] is not None

    def plan(self) -> dict:
        """Whether there is anything to do, and how long it keeps the application away."""
        disk = upgrade_state.major_of(self.wanted.data)
        if disk is None:
            raise OSError(f"postgresql_data_directory: there is no cluster in {self.wanted.data}: mount the disk that holds it, or put the path right")
        if disk != self.wanted.version:
            raise OSError(f"postgresql_version: {self.wanted.version} is asked for, and the data is of PostgreSQL {disk}: set it to {disk}; "
                          "an upgrade makes checksums by itself")  # fmt: skip
        if not self.user.image_ids([self.wanted.image]):
            raise OSError(f"postgresql_image: {self.wanted.image} is not on this host, so it is not what runs: run site.yml first")
        if upgrade_state.State(os.path.dirname(self.begun)).phase:
            raise OSError("an upgrade of PostgreSQL was cut short on this host: playbooks/upgrade_postgresql.yml ends it first")
        found = self.control()
        there = found.get("Data page checksum version", "0") != "0"
        size = self._size()
        seconds = FIXED_SECONDS + size // BYTES_A_SECOND
        cluster = untrusted.plain(found.get("Database system identifier", ""))
        answer = {"on": there, "resumed": self.interrupted(), "cluster": cluster, "bytes": size, "seconds": seconds}
        return {**answer, "goes": not there or answer["resumed"]}

    def _size(self) -> int:
        said = self.user.podman("unshare", "du", "-sk", "--", self.wanted.data, check=False).stdout.split()  # files come and go meanwhile
        return int(said[0]) * 1024 if said and said[0].isdigit() else 0

    def enable(self) -> dict:
        """Stop, write a checksum into every page, start; whatever goes wrong, the database serves again, as it was."""
        with leased(self.user, self.identity, "checksums"):
            fileset.swap([(self.begun, b"", (0o600, os.geteuid(), os.getegid()))])
            done = ""
            if not self.on():
                try:
                    self.service.stop()
                    done = pg_server.run_once(self.user, self.wanted, "sh", "-c", ENABLE, data=self.wanted.data).stdout
                except CommandError as error:
                    raise OSError(f"{pg_server.last_words(error)}. The cluster has no checksums, as before") from error
                finally:
                    self.service.start(after_failure=True)
            else:
                self.service.start()
            if Server(self.user, self.wanted).rows("show data_checksums") != [["on"]]:
                raise OSError("pg_checksums ended well, and the server says that it has no checksums: is postgresql_data_directory what it uses?")
        blocks = re.search(r"Blocks written:\s+(\d+)", done)
        return {"blocks": int(blocks[1]) if blocks else 0}

    def end(self) -> None:
        """All serves again."""
        if untrusted.kind(self.begun):
            fileset.swap([(self.begun, None, (0, 0, 0))])
