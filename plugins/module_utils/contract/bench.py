"""The application's containers as the units would run them, beside a throw-away PostgreSQL and Redis. Each is started when something first asks for it."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import secrets
import subprocess
import time
from dataclasses import dataclass, field

from ansible_collections.senex.trader.plugins.module_utils.contract import programs
from ansible_collections.senex.trader.plugins.module_utils.contract.podman import Broken, Done, Podman
from ansible_collections.senex.trader.plugins.module_utils.contract.services import Services, quoted
from ansible_collections.senex.trader.plugins.module_utils.engine import unit_options
from ansible_collections.senex.trader.plugins.module_utils.host import untrusted

PATIENCE = 60  # seconds that a container may take to be ready, where its unit would wait longer
TASK_PATIENCE = 60
LONGEST_STOP = 30
LONGEST_RELEASE = 120
EMPTY_DATABASE = 20
SETTLED = re.compile(r"answered [34]\d\d")
SETTINGS = "DJANGO_SETTINGS_MODULE"
PAGE = ("senex_check_settings.py", "senex_check_page.py")


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
    for line in reversed(untrusted.records(output)):
        if line.startswith("senex "):
            with contextlib.suppress(ValueError, RecursionError):
                return json.loads(line.removeprefix("senex "))
    return None


class Bench:
    """One image under test. `wanted` is what the action plugin rendered."""

    def __init__(self, podman: Podman, wanted: dict):
        self.podman, self.wanted = podman, wanted
        self.image: str = wanted["image"]
        self.environment = dict(line.split("=", 1) for line in untrusted.records(wanted["environment"]) if not line.startswith("#"))
        self.units = {name: unit_options.read(text) for name, text in wanted["units"].items()}
        self.ran: list[str] = []
        self.saved: dict[str, str] = {}

    # -- What is around the application

    @functools.cached_property
    def config(self) -> dict:
        """What the image says of itself."""
        return json.loads(self.podman.call("image", "inspect", self.image).output)[0]

    @property
    def signal(self) -> str:
        """What Podman sends to stop it."""
        return self.config["Config"].get("StopSignal") or "SIGTERM"

    @functools.cached_property
    def history(self) -> list[str]:
        """The commands that made it."""
        return untrusted.records(self.podman.call("history", "--no-trunc", "--format={{.CreatedBy}}", self.image).output)

    @functools.cached_property
    def services(self) -> Services:
        """PostgreSQL and Redis, which run."""
        made = Services(self.podman, self.wanted)
        made.start(self.wanted["passwords"]["DB_PASSWORD"])
        return made

    # -- Containers of the image

    def _mounts(self, container: unit_options.Container, modules: tuple[str, ...]) -> list[str]:
        found = []
        for mount in container.mounts:
            source = mount.source.removeprefix(self.wanted["home"] + "/")
            if source in self.wanted["files"]:
                found.append(f"--secret={self.podman.file(self.wanted['files'][source])},type=mount,target={mount.target},mode=0444")
            else:
                volume = self.podman.volume(source)
                # Empty, and the user's own, as the directories of a host are
                found.append(f"--volume={volume}:{mount.target}:{'ro' if mount.read_only else 'U'},nocopy")
        found += [f"--secret={self.podman.file(self.wanted['secrets'][name])},{how}" for name, how in container.secrets]
        for name in modules:
            found.append(f"--secret={self.podman.file(programs.FILES[name])},type=mount,target={programs.MODULES}/{name},mode=0444")
        return found

    def begin(self, part: str, unit: str, more: tuple[str, ...] = (), modules: tuple[str, ...] = ()) -> Done:
        """Start a container as a unit does, with further words, and Python modules of the check beside the application's."""
        container = self.units[unit]
        environment = dict(self.environment)
        if modules:
            own = {name: value for name, _, value in (line.partition("=") for line in self.config["Config"].get("Env") or [])}
            path = environment.get("PYTHONPATH", own.get("PYTHONPATH", ""))
            if "\n" in path:  # Podman reads a line without a value as a name of its own environment's, and * as all of them
                raise Broken("the PYTHONPATH of the image has a line break in it")
            environment["PYTHONPATH"] = ":".join(filter(None, [programs.MODULES, path]))
        if "senex_check_settings.py" in modules:
            environment |= {"SENEX_CHECK_SETTINGS": environment[SETTINGS], SETTINGS: "senex_check_settings"}
        if "senex_check_tasks.py" in modules:
            environment["SENEX_CHECK_BROKER"] = self.wanted["broker"]
        hosts = [f"--add-host={name}:{address}" for name, address in self.services.addresses().items()]
        given = [*hosts, *container.options, *container.limits, *self._mounts(container, modules)]
        done = self.podman.start(part, self.image, [*container.words, *more], given, _lines(environment), self.wanted["seccomp"] if container.filtered else "")
        self.ran.append(part)
        return done

    def _python(self, part: str, *words: str) -> Done:
        """The image's own python3, with the rights of a web instance and nothing of the application's."""
        container = self.units["web"]
        given = ["--entrypoint=python3", *container.options, *container.limits]
        return self.podman.start(part, self.image, list(words), given, "", self.wanted["seccomp"] if container.filtered else "")

    def declared_user(self) -> str:
        """What `id -u` says as the user that the image names."""
        container = self.units["web"]
        given = ["--entrypoint=id", *(word for word in container.options if not word.startswith("--user=")), *container.limits]
        done = self.podman.start("user", self.image, ["-u"], given, "", self.wanted["seccomp"] if container.filtered else "")
        found = self.finish("user", done, TASK_PATIENCE)
        self.podman.drop("user")
        return (found.log if found.ready else found.said or found.log).strip()

    def _ready(self, part: str, unit: str, done: Done, patience: float) -> Start:
        """Wait until the unit's own check of the start passes, or the container ends."""
        begin, last, settled = time.monotonic(), Done(1, ""), 0
        container = self.units[unit]

        def passes():
            nonlocal last, settled
            last = self.podman.execute(part, *container.health, "start", timeout=30)
            # It asks for some seconds itself, so a server that says no such page twice is up and has none
            settled += bool(SETTLED.search(last.output))
            return last.code == 0 or settled > 1 or not self.podman.running(part)

        if done.code:
            return Start(False, self.podman.state(part), done.output.strip()[-600:])
        self.podman.until(passes, min(patience, container.start_timeout), 0.2)
        state = self.podman.state(part)
        ready = last.code == 0 and bool(state.get("Running"))
        return Start(ready, state, last.output.strip()[-600:], self.podman.logs(part), time.monotonic() - begin)

    def finish(self, part: str, done: Done, patience: float) -> Start:
        """Wait for a container that ends by itself. `done`: its start."""
        if done.code:
            return Start(False, {}, done.output.strip()[-600:])
        ended = self.podman.wait(part, patience)
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
        found = self.finish("facts", done, TASK_PATIENCE)
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
        before = self.services.tables()
        done = self.begin("empty", "web")
        started = not done.code and self.listening("empty", EMPTY_DATABASE)
        tables = [name for name in self.services.tables() if name not in before]
        found = {"started": bool(started), "tables": tables}
        self.done_with("empty")
        for name in tables:
            self.services.sql(f"DROP TABLE IF EXISTS {quoted(name)} CASCADE")
        return found

    def _never_released(self) -> None:
        if "released" in self.__dict__:
            raise Broken("an empty database is asked for after the release")

    @functools.cached_property
    def released(self) -> dict:
        """The release step, and what it left."""
        done = self.begin("release", "release")
        start = self.finish("release", done, min(self.units["release"].start_timeout, LONGEST_RELEASE))
        applied = int(self.services.sql("SELECT count(*) FROM django_migrations")) if "django_migrations" in self.services.tables() else 0
        files = self.podman.files("data/staticfiles")
        self.done_with("release")
        return {"start": start, "applied": applied, "files": len(files)}

    @functools.cached_property
    def web(self) -> Start:
        """A web instance after the release, with the page that waits."""
        _ = self.released
        return self._ready("web", "web", self.begin("web", "web", modules=PAGE), PATIENCE)

    def listening(self, part: str, patience: int = 0) -> dict | None:
        """Where a container listens, and its command; None where that is not known, or nothing listens after so many seconds."""
        found = answer(self.podman.execute(part, "python3", "-c", programs.LISTENING, str(patience)).output)
        return found if found and found["listening"] else None

    @functools.cached_property
    def asker(self) -> bool:
        """A container beside the application from which it is asked, as nginx does."""
        return self._python("asker", "-c", f"import time; time.sleep({self.podman.seconds})").code == 0

    def ask(self, *paths: str) -> dict:
        """The status of each path, or why there was none."""
        words = ("python3", "-c", programs.ASK, self.podman.address("web"), str(self.wanted["port"]), self.wanted["domain"], *paths)
        return answer(self.podman.execute("asker", *words).output) or {} if self.asker else {}

    @functools.cached_property
    def asked(self) -> dict:
        """What the health paths answer."""
        return self.ask(self.wanted["alive"], self.wanted["ready"]) if self.web.ready or self.podman.running("web") else {}

    @functools.cached_property
    def page(self) -> dict:
        """The start page, as the application sends it."""
        if not (self.web.ready and self.asker):
            return {}
        words = ("python3", "-c", programs.START, self.podman.address("web"), str(self.wanted["port"]), self.wanted["domain"])
        return answer(self.podman.execute("asker", *words, timeout=90).output) or {}

    @functools.cached_property
    def stopped(self) -> dict:
        """A web instance that is told to stop while a request is under way."""
        command = (self.listening("web") or {}).get("command", "")
        limit = min(self.units["web"].stop_timeout, LONGEST_STOP)
        client = None
        if self.asker:
            words = ("python3", "-c", programs.ASK, self.podman.address("web"), str(self.wanted["port"]), self.wanted["domain"], programs.SLOW_PATH)
            client, said = self.podman.talk("asker", *words)
            self.podman.until(lambda: said.kept or client.poll() is not None, PATIENCE)
            time.sleep(1)
        done = self.podman.stop("web", limit, self.signal)
        output = ""
        if client:
            with contextlib.suppress(subprocess.TimeoutExpired):
                client.wait(25)
            client.kill()
            client.wait()
            output = said.text()
        status = (answer(output) or {}).get(programs.SLOW_PATH)
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
        words = ("python3", "-c", programs.SEND, self.wanted["celery_app"], queue, key)
        sent = self.podman.execute("worker", *words)
        place = f"senex-check:{key}"
        started = sent.code == 0 and self.podman.until(lambda: self.services.redis("get", place) in ("started", "finished"), TASK_PATIENCE)
        kept = started and self._unacknowledged(programs.TASK_ID + key)
        limit = min(self.units["worker"].stop_timeout, LONGEST_STOP)
        done = self.podman.stop("worker", limit, self.signal, lambda: self._let_go(place))
        found = {"sent": sent.output.strip()[-400:], "started": bool(started), "kept": kept, "finished": self.services.redis("get", place) == "finished"}
        self.done_with("worker")
        return {**found, "code": done.code, "seconds": done.seconds, "limit": limit}

    def _unacknowledged(self, task: str) -> bool:
        """Whether the broker still keeps this very task. There may be others, which the application has sent or a worker has left."""
        names = self.services.redis("--scan", "--pattern", "*unacked").split()
        return any(task in self.services.redis("hvals", name) for name in names)

    def _let_go(self, place: str) -> None:
        """Time for what does not wait for its tasks, then the end of the task."""
        time.sleep(1)
        self.services.redis("set", f"{place}:go", "1", "ex", "600")

    @functools.cached_property
    def beat(self) -> dict:
        """Beat, and how it stops."""
        _ = self.released
        start = self._ready("beat", "beat", self.begin("beat", "beat"), PATIENCE)
        limit = min(self.units["beat"].stop_timeout, LONGEST_STOP)
        done = self.podman.stop("beat", limit, self.signal)
        self.done_with("beat")
        return {"start": start, "code": done.code, "seconds": done.seconds, "limit": limit}

    def logs(self) -> dict[str, str]:
        """What each container of the application printed, of those that ran."""
        return {part: self.saved.get(part) or self.podman.logs(part, 2000) for part in self.ran}

    def secrets(self) -> dict[str, str]:
        """Generated values that no log may hold, by name."""
        return {name: value for name, value in self.wanted["passwords"].items() if len(value) >= 12}


def _lines(environment: dict[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in environment.items())
