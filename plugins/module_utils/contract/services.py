"""A throw-away PostgreSQL and Redis, as the application finds them on a host: it owns its database and is no superuser, and Redis knows it by name."""

from __future__ import annotations

import functools
import secrets

from ansible_collections.senex.trader.plugins.module_utils.contract.podman import Broken, Podman

PATIENCE = 60
POSTGRES_OPTIONS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=32MB")
HARDENED = (
    "--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--tmpfs=/tmp:rw,mode=1777,size=64m", "--image-volume=ignore", "--memory=512m",
    "--pids-limit=256",
)  # fmt: skip


class Services:
    """PostgreSQL and Redis of one check."""

    def __init__(self, podman: Podman, wanted: dict):
        self.podman, self.wanted = podman, wanted

    def start(self, password: str) -> None:
        """Both, and the application's role and database. `password`: of that role; Redis has a digest of its own."""
        self._postgres(password)
        self._redis()

    @functools.cache  # noqa: B019  (as long as the check)
    def addresses(self) -> dict[str, str]:
        """Address of each by the name that the application knows."""
        return {self.wanted[part]["host"]: self.podman.address(part) for part in ("postgresql", "redis")}

    def _service(self, part: str, words: list[str], options: list[str], environment: str, ready: list[str]) -> None:
        image = self.wanted[part]["image"]
        self.podman.have(image, f"{part}_image")
        done = self.podman.start(part, image, words, [*HARDENED, f"--user={self.wanted[part]['uid']}", *options], environment)
        # One command that asks again and again, for to start one costs more than to ask
        asking = ("timeout", str(PATIENCE), "sh", "-c", 'until "$@" >/dev/null 2>&1; do sleep 0.2; done', "sh")
        if done.code or self.podman.execute(part, *asking, *ready, timeout=PATIENCE + 20).code:
            raise Broken(f"{image} did not start: {(done.output + self.podman.logs(part, 20)).strip()[-600:]}")

    def _postgres(self, password: str) -> None:
        server = self.wanted["postgresql"]
        data = f"--volume={self.podman.volume('postgresql')}:/var/lib/postgresql/data:U,nocopy"
        words = ["postgres", *(word for option in POSTGRES_OPTIONS for word in ("-c", option))]
        # A password that nobody knows: the checker is at the socket
        environment = (
            f"POSTGRES_USER={server['superuser']}\nPOSTGRES_PASSWORD={secrets.token_hex(16)}\nPOSTGRES_DB=postgres\n"
            f"PGDATA=/var/lib/postgresql/data\nPOSTGRES_INITDB_ARGS={server['initdb_args']}\n"
        )
        options = [data, "--tmpfs=/run/postgresql:rw,mode=1777,size=64m", "--shm-size=64m"]
        self._service("postgresql", words, options, environment, ["pg_isready", "-q", "-h", "127.0.0.1", "-U", server["superuser"]])
        self.sql(f"CREATE ROLE {quoted(server['user'])} LOGIN PASSWORD {_text(password)}", "postgres")
        self.new_database()

    def new_database(self, drop: bool = False) -> None:
        """An empty one of the application, in place of the one that is there."""
        server = self.wanted["postgresql"]
        if drop:
            self.sql(f"DROP DATABASE {quoted(server['database'])} WITH (FORCE)", "postgres")
        self.sql(f"CREATE DATABASE {quoted(server['database'])} OWNER {quoted(server['user'])}", "postgres")
        for extension in server["extensions"]:
            self.sql(f"CREATE EXTENSION IF NOT EXISTS {quoted(extension)} CASCADE")

    def _redis(self) -> None:
        password = secrets.token_hex(16)
        server = self.wanted["redis"]
        text = f'port 6379\nsave ""\ndir /tmp\nuser {server["user"]} {server["rules"]}\n'
        if server["user"] != "default":
            text += f"user default on >{password} ~* &* +@all\n"
        mount = f"--secret={self.podman.file(text)},type=mount,target=/run/senex-redis.conf,mode=0444"
        self._service("redis", ["redis-server", "/run/senex-redis.conf"], [mount], f"REDISCLI_AUTH={password}\n", ["redis-cli", "-e", "ping"])

    def sql(self, statement: str, database: str = "") -> str:
        """A statement as the superuser, in the application's database by default; what it answers."""
        server = self.wanted["postgresql"]
        words = ("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", server["superuser"], "-d", database or server["database"])
        done = self.podman.execute("postgresql", *words, data=statement + ";\n")
        if done.code:
            raise Broken(f"the throw-away PostgreSQL refused a statement: {done.output.strip()[-400:]}")
        return done.output.strip()

    def tables(self) -> list[str]:
        """Tables of the application."""
        return self.sql("SELECT tablename FROM pg_tables WHERE schemaname !~ '^(pg_|information_schema)'").split()

    def redis(self, *words: str) -> str:
        """A command to the broker's database."""
        return self.podman.execute("redis", "redis-cli", "-n", str(self.wanted["redis"]["broker"]), *words).output.strip()


def quoted(text: str) -> str:
    """A name in SQL."""
    return '"' + text.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
