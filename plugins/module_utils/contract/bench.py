"""The application's containers as the units would run them, beside a throw-away PostgreSQL and Redis. Each is started when something first asks for it."""

from __future__ import annotations

import contextlib
import functools
import json
import secrets
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ansible_collections.senex.trader.plugins.module_utils.contract import programs, unit_options
from ansible_collections.senex.trader.plugins.module_utils.contract.podman import Broken, Done, Podman

PATIENCE = 60  # seconds that a container may take to be ready, where its unit would wait longer
TASK_PATIENCE = 30
LONGEST_STOP = 30
EMPTY_DATABASE = 20
POSTGRES_OPTIONS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=32MB")
HARDENED = ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--tmpfs=/tmp:rw,mode=1777", "--image-volume=ignore", "--memory=512m")
SETTINGS = "DJANGO_SETTINGS_MODULE"
PAGE = ("senex_check_settings.py", "senex_check_page.py")
# The error of crun where it may not set what a cgroup needs, as in a container without CAP_SYS_RESOURCE
NO_CGROUPS = "RLIM_MEMLOCK"


@dataclass
class Start:
    """How the start of a container went."""

    ready: bool = False
    state: dict = field(default_factory=dict)
    said: str = ""  # what Podman said where it did not start, or its health check
    log: str = ""
    seconds: float = 0.0


def answer(output: str):
    """What a program of the check printed; None where it printed nothing of the kind."""
    for line in reversed(output.splitlines()):
        if line.startswith("senex "):
            with contextlib.suppress(ValueError):
                return json.loads(line.removeprefix("senex "))
    return None


class Bench:
    """One image under test. `wanted` is what the action plugin rendered."""

    def __init__(self, podman: Podman, wanted: dict):
        self.podman, self.wanted = podman, wanted
        self.image: str = wanted["image"]
        self.environment = dict(line.split("=", 1) for line in wanted["environment"].splitlines())
        self.units = {name: unit_options.read(text) for name, text in wanted["units"].items()}
        self.ran: list[str] = []
        self.saved: dict[str, str] = {}
        self.limited = True

    # -- What is around the application

    @functools.cached_property
    def config(self) -> dict:
        """What the image says of itself."""
        return json.loads(self.podman.call("image", "inspect", self.image).output)[0]

    @functools.cached_property
    def history(self) -> list[str]:
        """The commands that made it."""
        return self.podman.call("history", "--no-trunc", "--format={{.CreatedBy}}", self.image).output.splitlines()

    @functools.cached_property
    def services(self) -> dict[str, str]:
        """Address of each service by its name; PostgreSQL and Redis run."""
        self._postgres()
        self._redis()
        return {self.wanted[part]["host"]: self.podman.address(part) for part in ("postgresql", "redis")}

    def _service(self, part: str, words: list[str], options: list[str], environment: str, ready: list[str]) -> None:
        image = self.wanted[part]["image"]
        self.podman.have(image)
        done = self._start(part, image, words, [*HARDENED, f"--user={self.wanted[part]['uid']}", *options], environment)
        if done.code or not self.podman.until(lambda: self.podman.execute(part, *ready).code == 0, PATIENCE):
            raise Broken(f"{image} did not start: {(done.output + self.podman.logs(part, 20)).strip()[-600:]}")

    def _postgres(self) -> None:
        server = self.wanted["postgresql"]
        data = f"--volume={self.podman.volume('postgresql')}:/var/lib/postgresql/data:U,nocopy"
        words = ["postgres", *(word for option in POSTGRES_OPTIONS for word in ("-c", option))]
        # A password that nobody knows: the checker is at the socket
        environment = (
            f"POSTGRES_USER={server['superuser']}\nPOSTGRES_PASSWORD={secrets.token_hex(16)}\nPOSTGRES_DB=postgres\n"
            f"PGDATA=/var/lib/postgresql/data\nPOSTGRES_INITDB_ARGS={server['initdb_args']}\n"
        )
        options = [data, "--tmpfs=/run/postgresql:rw,mode=1777", "--shm-size=64m"]
        self._service("postgresql", words, options, environment, ["pg_isready", "-q", "-h", "127.0.0.1", "-U", server["superuser"]])
        self.sql("postgres", f"CREATE ROLE {_name(server['user'])} LOGIN PASSWORD {_text(self.environment.get('DB_PASSWORD', ''))}")
        self.sql("postgres", f"CREATE DATABASE {_name(server['database'])} OWNER {_name(server['user'])}")
        for extension in server["extensions"]:
            self.sql(server["database"], f"CREATE EXTENSION IF NOT EXISTS {_name(extension)} CASCADE")

    def _redis(self) -> None:
        password = secrets.token_hex(16)
        server = self.wanted["redis"]
        text = f'port 6379\nsave ""\ndir /tmp\nuser {server["user"]} {server["rules"]}\n'
        if server["user"] != "default":
            text += f"user default on >{password} ~* &* +@all\n"
        mount = f"--secret={self.podman.file(text)},type=mount,target=/run/senex-redis.conf,mode=0444"
        self._service("redis", ["redis-server", "/run/senex-redis.conf"], [mount], f"REDISCLI_AUTH={password}\n", ["redis-cli", "-e", "ping"])

    def sql(self, database: str, statement: str) -> str:
        """A statement as the superuser; what it answers."""
        words = ("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", self.wanted["postgresql"]["superuser"], "-d", database)
        done = self.podman.execute("postgresql", *words, data=statement + ";\n")
        if done.code:
            raise Broken(f"the throw-away PostgreSQL refused a statement: {done.output.strip()[-400:]}")
        return done.output.strip()

    def redis(self, *words: str) -> str:
        """A command to the broker's database."""
        return self.podman.execute("redis", "redis-cli", "-n", str(self.wanted["redis"]["broker"]), *words).output.strip()

    def tables(self) -> list[str]:
        """Tables of the application in its database."""
        return self.sql(self.wanted["postgresql"]["database"], "SELECT tablename FROM pg_tables WHERE schemaname !~ '^(pg_|information_schema)'").split()

    # -- Containers of the image

    def _start(self, part: str, image: str, words: list[str], options: list[str], environment: str, seccomp: str = "") -> Done:
        """Start a container, without limits where this machine cannot set them."""
        if not self.limited:
            options = [word for word in options if not word.startswith(("--memory", "--pids-limit"))]
        done = self.podman.start(part, image, words, options, environment, seccomp)
        if done.code and self.limited and NO_CGROUPS in done.output:
            self.limited = False
            self.podman.drop(part)
            self.podman.options.append("--cgroups=disabled")
            return self._start(part, image, words, options, environment, seccomp)
        return done

    def _mounts(self, container: unit_options.Container, modules: tuple[str, ...]) -> list[str]:
        found = []
        for mount in container.mounts:
            source = mount.source.removeprefix(self.wanted["home"] + "/")
            if source in self.wanted["files"]:
                found.append(f"--secret={self.podman.file(self.wanted['files'][source])},type=mount,target={mount.target},mode=0444")
            else:
                volume = self.podman.volume(source.replace("/", "-").replace("_", "-").lower())
                # Empty, and the user's own, as the directories of a host are
                found.append(f"--volume={volume}:{mount.target}:{'ro' if mount.read_only else 'U'},nocopy")
        for name in modules:
            found.append(f"--secret={self.podman.file(programs.FILES[name])},type=mount,target={programs.MODULES}/{name},mode=0444")
        return found

    def begin(self, part: str, unit: str, more: tuple[str, ...] = (), modules: tuple[str, ...] = ()) -> Done:
        """Start a container as a unit does, with further words, and Python modules of the check beside the application's."""
        container = self.units[unit]
        environment = dict(self.environment)
        if modules:
            own = dict(line.split("=", 1) for line in self.config["Config"].get("Env") or [])
            environment["PYTHONPATH"] = ":".join(filter(None, [programs.MODULES, environment.get("PYTHONPATH", own.get("PYTHONPATH", ""))]))
        if "senex_check_settings.py" in modules:
            environment |= {"SENEX_CHECK_SETTINGS": environment[SETTINGS], SETTINGS: "senex_check_settings"}
        hosts = [f"--add-host={name}:{address}" for name, address in self.services.items()]
        given = [*hosts, *container.options, *container.limits, *self._mounts(container, modules)]
        done = self._start(part, self.image, [*container.words, *more], given, _lines(environment), self.wanted["seccomp"] if container.filtered else "")
        self.ran.append(part)
        return done

    def _python(self, part: str, *words: str, init: bool = False) -> Done:
        """The image's own python3, with the rights of a web instance and nothing of the application's."""
        container = self.units["web"]
        given = ["--entrypoint=python3", *container.options, *container.limits, *(["--init"] if init else [])]
        return self._start(part, self.image, list(words), given, "", self.wanted["seccomp"] if container.filtered else "")

    def _ready(self, part: str, unit: str, done: Done, patience: float) -> Start:
        """Wait until the unit's own check of the start passes, or the container ends."""
        begin, last = time.monotonic(), Done(1, "")
        container = self.units[unit]

        def passes():
            nonlocal last
            last = self.podman.execute(part, *container.health, "start", timeout=30)
            return last.code == 0 or not self.podman.running(part)

        if done.code:
            return Start(False, self.podman.state(part), done.output.strip()[-600:])
        self.podman.until(passes, min(patience, container.start_timeout), 0.2)
        state = self.podman.state(part)
        ready = last.code == 0 and bool(state.get("Running"))
        return Start(ready, state, last.output.strip()[-600:], self.podman.logs(part), time.monotonic() - begin)

    def finish(self, part: str, patience: float) -> Start:
        """Wait for a container that ends by itself."""
        ended = self.podman.until(lambda: not self.podman.running(part), patience)
        state = self.podman.state(part)
        return Start(ended and state.get("ExitCode") == 0, state, "" if ended else f"did not end within {patience:.0f} s", self.podman.logs(part))

    def done_with(self, part: str) -> None:
        """Keep what a container printed, and remove it."""
        self.saved[part] = self.podman.logs(part, 2000)
        self.podman.drop(part)

    @functools.cached_property
    def facts(self) -> Start:
        """What the image's Python says of the image."""
        done = self._python("facts", "-c", programs.FACTS)
        found = Start(False, {}, done.output.strip()[-600:]) if done.code else self.finish("facts", TASK_PATIENCE)
        self.podman.drop("facts")
        return found

    @property
    def known(self) -> dict:
        """The same as a dictionary; empty where there is no Python."""
        return answer(self.facts.log) or {}

    @functools.cached_property
    def empty(self) -> dict:
        """What a web instance does to a database that has no table yet."""
        self._never_released()
        before = self.tables()
        done = self.begin("empty", "web")
        started = not done.code and self.podman.until(lambda: self.listening("empty") or not self.podman.running("empty"), EMPTY_DATABASE, 0.5)
        tables = [name for name in self.tables() if name not in before]
        found = {"started": bool(started), "tables": tables}
        self.done_with("empty")
        for name in tables:
            self.sql(self.wanted["postgresql"]["database"], f"DROP TABLE IF EXISTS {_name(name)} CASCADE")
        return found

    def _never_released(self) -> None:
        if "released" in self.__dict__:
            raise Broken("an empty database is asked for after the release")

    @functools.cached_property
    def released(self) -> dict:
        """The release step, and what it left."""
        done = self.begin("release", "release")
        if done.code:
            start = Start(False, {}, done.output.strip()[-600:])
        else:
            start = self.finish("release", min(self.units["release"].start_timeout, 120))
        database = self.wanted["postgresql"]["database"]
        applied = int(self.sql(database, "SELECT count(*) FROM django_migrations")) if "django_migrations" in self.tables() else 0
        files = self.podman.files("data-staticfiles")
        self.done_with("release")
        return {"start": start, "applied": applied, "files": len(files)}

    @functools.cached_property
    def web(self) -> Start:
        """A web instance after the release, with the page that waits."""
        _ = self.released
        return self._ready("web", "web", self.begin("web", "web", modules=PAGE), PATIENCE)

    def listening(self, part: str) -> dict | None:
        """Where a container listens, and its command; None where that is not known, or nothing listens."""
        found = answer(self.podman.execute(part, "python3", "-c", programs.LISTENING).output)
        return found if found and found["listening"] else None

    @functools.cached_property
    def asker(self) -> bool:
        """A container beside the application from which it is asked, as nginx does."""
        return self._python("asker", "-c", f"import time; time.sleep({self.podman.seconds})", init=True).code == 0

    def ask(self, *paths: str) -> dict:
        """The status of each path, or why there was none."""
        words = ("python3", "-c", programs.ASK, self.podman.address("web"), str(self.wanted["port"]), self.wanted["domain"], *paths)
        return answer(self.podman.execute("asker", *words).output) or {} if self.asker else {}

    @functools.cached_property
    def asked(self) -> dict:
        """What the health paths answer."""
        return self.ask(self.wanted["alive"], self.wanted["ready"]) if self.web.ready or self.podman.running("web") else {}

    @functools.cached_property
    def stopped(self) -> dict:
        """A web instance that is told to stop while a request is under way."""
        command = (self.listening("web") or {}).get("command", "")
        limit = min(self.units["web"].stop_timeout, LONGEST_STOP)
        client = None
        if self.asker:
            words = ("python3", "-c", programs.ASK, self.podman.address("web"), str(self.wanted["port"]), self.wanted["domain"], programs.SLOW_PATH)
            client = self.podman.talk("asker", *words)
            client.stdout.readline()
            time.sleep(1)
        done = self.podman.stop("web", limit)
        output = ""
        if client:
            with contextlib.suppress(Exception):
                output, _ = client.communicate(timeout=15)
            client.kill()
        status = (answer(output or "") or {}).get(programs.SLOW_PATH)
        self.done_with("web")
        return {"code": done.code, "seconds": done.seconds, "limit": limit, "status": status, "command": command}

    @functools.cached_property
    def worker(self) -> dict:
        """A worker with the task that waits, and what its whole check says: it sends a task of Celery's own to this worker."""
        _ = self.released
        begun = self.begin("worker", "worker", ("--include=senex_check_tasks",), ("senex_check_tasks.py",))
        start = self._ready("worker", "worker", begun, PATIENCE)
        checked = self.podman.execute("worker", *self.units["worker"].health, timeout=60) if start.ready else Done(1, start.said)
        return {"start": start, "code": checked.code, "said": checked.output.strip()[-600:]}

    @functools.cached_property
    def task(self) -> dict:
        """A worker that is told to stop while a task runs."""
        key, queue = secrets.token_hex(4), self.wanted["queues"][0]
        words = ("python3", "-c", programs.SEND, self.wanted["celery_app"], queue, key, str(programs.SLOW + 1))
        sent = self.podman.execute("worker", *words)
        place = f"senex-check:{key}"
        started = sent.code == 0 and self.podman.until(lambda: self.redis("get", place) in ("started", "finished"), TASK_PATIENCE)
        kept = sum(int(self.redis("hlen", name) or 0) for name in self.redis("--scan", "--pattern", "*unacked").split()) if started else 0
        limit = min(self.units["worker"].stop_timeout, LONGEST_STOP)
        done = self.podman.stop("worker", limit)
        found = {"sent": sent.output.strip()[-400:], "started": bool(started), "kept": kept, "finished": self.redis("get", place) == "finished"}
        self.done_with("worker")
        return {**found, "code": done.code, "seconds": done.seconds, "limit": limit}

    @functools.cached_property
    def beat(self) -> dict:
        """Beat, and how it stops."""
        _ = self.released
        start = self._ready("beat", "beat", self.begin("beat", "beat"), PATIENCE)
        limit = min(self.units["beat"].stop_timeout, LONGEST_STOP)
        done = self.podman.stop("beat", limit)
        self.done_with("beat")
        return {"start": start, "code": done.code, "seconds": done.seconds, "limit": limit}

    def logs(self) -> dict[str, str]:
        """What each container of the application printed, of those that ran."""
        return {part: self.saved.get(part) or self.podman.logs(part, 2000) for part in self.ran}

    def secrets(self) -> dict[str, str]:
        """Generated values that no log may hold, by name."""
        named = {name: self.environment.get(name, "") for name in ("SECRET_KEY", "FIELD_ENCRYPTION_KEY", "DB_PASSWORD")}
        named["the password of Redis"] = urlsplit(self.environment.get("CELERY_BROKER_URL", "")).password or ""
        return {name: value for name, value in named.items() if len(value) >= 12}


def _lines(environment: dict[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in environment.items())


def _name(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
