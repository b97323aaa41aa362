"""The points of the contract in the order in which they are looked at: what each reads, and who judges it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ansible_collections.senex.trader.plugins.module_utils.contract import judge
from ansible_collections.senex.trader.plugins.module_utils.contract.bench import Bench
from ansible_collections.senex.trader.plugins.module_utils.contract.report import Finding


@dataclass(frozen=True)
class Point:
    """`read` may start containers and returns the arguments of `judge`."""

    name: str
    read: Callable[[Bench], tuple]
    judge: Callable[..., Finding]


def _user(bench: Bench) -> tuple:
    declared = (bench.config["Config"].get("User") or "").partition(":")[0]
    if declared and not declared.isdigit():
        declared = bench.declared_user()
    return declared, str(bench.wanted["user"])


def _secrets(bench: Bench) -> tuple:
    return bench.config["Config"].get("Env") or [], bench.history, bench.known.get("files", [])


def _release(bench: Bench) -> tuple:
    start = bench.released["start"]
    return start.ready, start.log, start.said


def _starts(bench: Bench) -> tuple:
    web = bench.web
    return web.ready, web.state, web.said, web.log, web.seconds


def _address(bench: Bench) -> tuple:
    running = bool(bench.web.state.get("Running"))
    return bench.listening("web") if running else None, bench.wanted["port"], running and bool(bench.known)


def _celery(bench: Bench) -> bool | None:
    """Whether the image has it; None where its Python does not say."""
    return bool(bench.known["versions"]["celery"]) if bench.known else None


def _worker(bench: Bench) -> tuple:
    if not _celery(bench):
        return _celery(bench), False, 1, "", ""
    start = bench.worker["start"]
    return True, start.ready, bench.worker["code"], bench.worker["said"], start.log


def _task(bench: Bench) -> tuple:
    if not _celery(bench):
        return _celery(bench), {}
    return True, bench.task if bench.worker["start"].ready else {"started": False}


def _stopped(bench: Bench) -> tuple:
    return (bench.stopped if bench.web.state.get("Running") else {"code": -1, "status": None, "command": ""},)


def _beat(bench: Bench) -> tuple:
    celery = _celery(bench)
    return celery, bool(bench.known.get("versions", {}).get("django-celery-beat")), bench.wanted["scheduler"], bench.beat if celery else {}


def _logs(bench: Bench) -> dict[str, str]:
    if not bench.ran:  # these points alone are asked for
        _ = bench.web
    return bench.logs()


POINTS = (
    Point("user", _user, judge.user),
    Point("python", lambda bench: (bench.facts.ready, bench.known, bench.facts.said or bench.facts.log), judge.python),
    Point("versions", lambda bench: (bench.known.get("versions", {}),), judge.server_versions),
    Point("secrets", _secrets, judge.image_secrets),
    Point("start-migrates", lambda bench: (bench.empty["started"], bench.empty["tables"]), judge.start_migrates),
    Point("release", _release, judge.release),
    Point("migrate", lambda bench: (bench.released["applied"], bench.released["start"].ready), judge.migrate),
    Point("collectstatic", lambda bench: (bench.released["files"], bench.wanted["static"], bench.released["start"].ready), judge.collectstatic),
    Point("starts", _starts, judge.starts),
    Point("address", _address, judge.address),
    Point("alive", lambda bench: (bench.wanted["alive"], bench.asked.get(bench.wanted["alive"]), "django_health_alive_path"), judge.health),
    Point("ready", lambda bench: (bench.wanted["ready"], bench.asked.get(bench.wanted["ready"]), "django_health_ready_path"), judge.health),
    Point("page", lambda bench: (bench.page, bench.wanted["policy"]), judge.page),
    Point("requests", _stopped, judge.requests),
    Point("stops", _stopped, judge.stops),
    Point("worker", _worker, judge.worker),
    Point("worker-stop", _task, judge.worker_stop),
    Point("worker-late", _task, judge.worker_late),
    Point("beat", _beat, judge.beat),
    Point("files", lambda bench: (_logs(bench),), judge.files),
    Point("logs", lambda bench: (_logs(bench), bench.secrets()), judge.logs),
)
NAMES = tuple(point.name for point in POINTS)


def look(bench: Bench, names: list[str]) -> list[Finding]:
    """A finding for each point that is asked for."""
    return [replace(point.judge(*point.read(bench)), point=point.name) for point in POINTS if not names or point.name in names]
