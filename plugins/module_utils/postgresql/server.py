"""PostgreSQL servers on one host: the one in production, and one that is made beside it, in a container of the new image."""

from __future__ import annotations

import functools
import os
import re
import time
from dataclasses import dataclass

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.senex.trader.plugins.module_utils.host import confined, module_text, owned, untrusted
from ansible_collections.senex.trader.plugins.module_utils.host.service_user import CommandError, ServiceUser
from ansible_collections.senex.trader.plugins.module_utils.postgresql import dump_file
from ansible_collections.senex.trader.plugins.module_utils.postgresql.container import Container
from ansible_collections.senex.trader.plugins.module_utils.postgresql.service import Names, Service, SingleServer
from ansible_collections.senex.trader.plugins.module_utils.postgresql.session import target

STAGING_CONTAINER = "postgres-upgrade"  # the container of the new cluster until it takes the old one's place
NO_TIMEOUT = 7 * 24 * 3600  # seconds; an upgrade is stopped by a person, not by a clock
OLD_SOCKETS, DUMPS, DATA = "/old", "/dump", "/var/lib/postgresql/data"
READY = 600  # seconds for a server to answer
# PostgreSQL throws this cluster away when anything goes wrong before the switch, so a crash need not be survived while it is filled
FILLING = {
    "listen_addresses": "127.0.0.1", "ssl": "off", "fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "wal_level": "minimal",
    "max_wal_senders": "0", "archive_mode": "off", "autovacuum": "off", "max_wal_size": "1GB", "shared_buffers": "128MB", "maintenance_work_mem": "128MB",
    "log_min_duration_statement": "-1", "log_checkpoints": "off", "statement_timeout": "0", "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """The cluster as the role describes it; paths are whole."""

    version: int
    image: str
    uid: int
    superuser: str
    owner: str  # the application's role, which clusters of earlier versions know alone
    database: str
    shared_memory: int  # MB
    checksums: bool  # of the pages of a new cluster
    data: str
    sockets: str
    configuration: str
    unit: str
    container: str


def wanted_of(given: dict, home: str) -> Wanted:
    """Whole paths and numbers."""
    paths = {name: os.path.join(home, given[name]) for name in ("data", "sockets", "configuration")}
    return Wanted(int(given["version"]), given["image"], int(given["uid"]), given["superuser"], given["owner"], given["database"],
                  int(given["shared_memory"]), boolean(given["checksums"]), **paths, unit=given["unit"], container=given["container"])  # fmt: skip


def _renamed(source: str, name: str) -> None:
    os.rename(source, name)
    dump_file.sync(os.path.dirname(name))


class UserHost:
    """The host for those who run as root: everything is done as the service user."""

    def __init__(self, user: ServiceUser):
        self.user = user

    def podman(self, *words: str, check: bool = True, stdin: str | None = None, timeout: float | None = None):
        """What it says is kept as it is: a name may hold a carriage return."""
        return self.user.podman(*words, check=check, stdin=stdin, timeout=timeout or NO_TIMEOUT, exact=True)

    def systemctl(self, *words: str, check: bool = True):
        """See container.Host."""
        return self.user.systemctl(*words, check=check)

    def rename(self, source: str, name: str) -> None:
        """See container.Host."""
        self.user.does(_renamed, source, name)


def service_of(user: ServiceUser, wanted: Wanted) -> Service:
    """The server in production."""
    return SingleServer(UserHost(user), Names(wanted.unit, wanted.container), wanted.superuser, wanted.sockets)


class Server(Container):
    """The server in production, or another one, asked as its superuser."""

    def __init__(self, user: ServiceUser, wanted: Wanted, container: str = "", sockets: str = "/run/postgresql"):
        super().__init__(UserHost(user), container or wanted.container, wanted.uid, sockets)
        self.user, self.wanted = user, wanted

    @functools.cached_property
    def role(self) -> str:
        """Who is asked: the superuser. In a cluster that no site.yml has converted yet that is the application's role."""
        login = ("psql", f"--host={self.sockets}", "--no-password", "-X", "-q", "-d", "template1", "-c", "select 1")
        for name in (self.wanted.superuser, self.wanted.owner):
            if self.execute(*login, f"--username={name}", check=False).returncode == 0:
                return name
        return self.wanted.superuser

    def program(self, name: str, *options: str, role: str = "", **how):
        """A client program of PostgreSQL's, as the superuser where no other role is named."""
        return super().program(name, *options, role=role or self.role, **how)

    def rows(self, text: str, database: str = "postgres") -> list[list[str]]:
        """What psql answers to a script."""
        return self.psql(text, target(database), "")

    def databases(self) -> list[str]:
        """All that can be asked; what new ones are copied from comes first."""
        return [name for (name,) in self.rows("select datname from pg_database where datallowconn order by datname <> 'template1', 1")]


def run_once(user: ServiceUser, wanted: Wanted, *argv: str, data: str):
    """A program of the image on a data directory that no server uses."""
    mounts = (f"--volume={data}:{DATA}",)
    return user.podman("run", "--rm", "--replace", f"--name={STAGING_CONTAINER}", *confined_options(wanted), *mounts, f"--entrypoint={argv[0]}",
                       wanted.image, *argv[1:], timeout=NO_TIMEOUT)  # fmt: skip


def confined_options(wanted: Wanted) -> list[str]:
    tmpfs = ["--tmpfs=/tmp:rw,mode=1777,size=64m", "--tmpfs=/run/postgresql:rw,mode=1777,size=64m"]
    place = [f"--env=PGDATA={DATA}", "--image-volume=ignore"]  # from 18 on the image has another place of its own
    safe = [*confined.OPTIONS, "--log-driver=k8s-file", f"--shm-size={wanted.shared_memory}m"]
    return ["--pull=never", "--network=none", "--read-only", *place, *tmpfs, *safe, f"--user={wanted.uid}"]


def initialise(user: ServiceUser, wanted: Wanted, data: str, options: list[str]) -> None:
    """An empty cluster in a new directory."""
    user.make_directory(data, 0o700, wanted.uid, None)
    words = [f"--pgdata={DATA}", f"--username={wanted.superuser}", "--auth-local=peer", "--auth-host=scram-sha-256", "--no-sync", *options]
    run_once(user, wanted, "initdb", *words, data=data)


def start(user: ServiceUser, wanted: Wanted, data: str, dumps: str) -> Server:
    """The new cluster's server, with the configuration of the one in production. The old server's socket is in reach."""
    remove(user)
    limits = {"transaction_timeout": "0"} if wanted.version >= 17 else {}
    options = [word for name, value in {**FILLING, **limits}.items() for word in ("-c", f"{name}={value}")]
    mounts = {data: DATA, dumps: DUMPS, wanted.configuration: "/etc/postgresql:ro", wanted.sockets: OLD_SOCKETS}
    volumes = [f"--volume={path}:{place}" for path, place in mounts.items()]
    command = ["postgres", "-c", "config_file=/etc/postgresql/postgresql.conf", *options]
    user.podman("run", "--detach", "--stop-timeout=600", f"--name={STAGING_CONTAINER}", *confined_options(wanted), *volumes, wanted.image, *command)
    made = Server(user, wanted, STAGING_CONTAINER)
    end = time.monotonic() + READY
    while not made.is_ready():
        if not made.is_running() or time.monotonic() > end:
            said = user.podman("logs", STAGING_CONTAINER, check=False)
            lines = [line for line in (said.stdout + said.stderr).splitlines() if re.search("FATAL|PANIC|ERROR|error", line)]
            raise OSError(f"PostgreSQL {wanted.version} does not start with the configuration of this host: {'; '.join(lines[-4:]) or 'no reason given'}")
        time.sleep(0.2)
    return made


def finish(user: ServiceUser, wanted: Wanted, data: str) -> None:
    """Stop the new cluster's server, and see that all of it is on the disk."""
    user.podman("stop", STAGING_CONTAINER)
    remove(user)
    run_once(user, wanted, "initdb", "--sync-only", f"--pgdata={DATA}", data=data)


def remove(user: ServiceUser) -> None:
    """No container of an upgrade."""
    user.podman("rm", "--force", "--time=10", "--ignore", STAGING_CONTAINER)


def owned_do(user: ServiceUser, step: str, *arguments: str, **options: object) -> None:
    """A step of owned.py in the user's namespace: the files are the container user's."""
    words = owned.words(step, *arguments, program="-", **options)
    done = user.podman("unshare", *words, stdin=module_text.source(owned), check=False, timeout=NO_TIMEOUT)
    if done.returncode:
        raise OSError((done.stderr.strip().splitlines() or [f"podman unshare ended with {done.returncode}"])[-1])


def discard(user: ServiceUser, wanted: Wanted, *directories: str) -> None:
    """Remove directories that an upgrade made. The mark is in that of the dumps: initdb wants an empty one."""
    there = [path for path, seen in untrusted.look(directories, follow=False).items() if "kind" in seen]
    if there:
        owned_do(user, "remove", user.home, *there, data=[wanted.data, wanted.sockets, wanted.configuration], beside=".dump")


def last_words(error: CommandError, lines: int = 3) -> str:
    """What a program complained of."""
    told = [line.strip() for line in error.output.splitlines() if line.strip()]
    words = error.argv[5] if error.argv[1] == "exec" else " ".join(error.argv[:3])
    return f"{words}: " + "; ".join([line for line in told if re.search("error|fatal|panic|warning", line, re.IGNORECASE)][:lines] or told[-lines:])
