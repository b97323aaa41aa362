"""What the readings of a check mean. Nothing here touches Podman."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from ansible_collections.senex.trader.plugins.module_utils.contract import versions
from ansible_collections.senex.trader.plugins.module_utils.contract.report import Finding, failed, passed, skipped
from ansible_collections.senex.trader.plugins.module_utils.host import page_policy

SECRET_NAME = re.compile(r"SECRET|PASSW|TOKEN|CREDENTIAL|PRIVATE|DSN|API_?KEY|ACCESS_?KEY|ENCRYPTION_KEY|(^|_)KEY$", re.IGNORECASE)
NOT_SECRET = re.compile(r"^GPG_KEY$|PUBLIC|_(FILE|PATH|NAME|URL_NAME)$", re.IGNORECASE)
ASSIGNED = re.compile(r"(?<![\w$-])([A-Za-z_][A-Za-z0-9_]*)=(\"[^\"]*\"|'[^']*'|[^\s;|&\"']+)")
PLACEHOLDERS = ("build", "dummy", "placeholder", "changeme", "change-me", "insecure", "unused", "example", "not-a-secret", "collectstatic", "none")
FORMS = re.compile(r"AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{30,}|glpat-[\w-]{20}|sk_live_\w{16,}|xox[bp]-[\w-]{20,}|-----BEGIN [A-Z ]*PRIVATE KEY")
IN_URL = re.compile(r"(?<![a-z0-9+])[a-z][a-z0-9+]*://[^\s:/@]*:([^\s/@]{6,})@")
NOT_WRITABLE = re.compile(
    r"""cannot create (?:directory )?['"\u2018]?([^\s:'"\u2019]+)['"\u2019]?: (?:Read-only file system|Permission denied)"""
    r"|\[Errno (?:30|13)\][^:\n]{0,200}: '([^']+)'|Read-only file system"
)
BEHIND_TLS = "SECURE_PROXY_SSL_HEADER = ('HTTP_X_FORWARDED_PROTO', 'https')"
TROUBLE = re.compile(r"\b\w*(?:Error|Exception)\b|\b(?:error|fatal|failed|refused|denied|cannot|not found)\b", re.IGNORECASE)
COMMANDS = "senex_image_commands with all four"
HOSTS = "ALLOWED_HOSTS has to be read from the variable ALLOWED_HOSTS of the environment (comma separated)"
DATABASE = "DATABASES has to be read from the environment: DB_HOST, DB_PORT, DB_NAME, DB_USER, DB_PASSWORD"
KILLED = 137


def end_of(text: str, lines: int = 3) -> str:
    """The last lines of an output, for a message; where none of them tells of trouble, the last that does: what is buffered comes after it."""
    found = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in found if TROUBLE.search(line)]
    last = found[-lines:]
    return " | ".join(last if not telling or telling[-1] in last else telling[-1:])[-400:] or "it printed nothing"


def user(declared: str, wanted: str) -> Finding:
    """`declared`: the number of the image's user, empty where it has none."""
    if declared in ("", "0"):
        return failed("runs as root unless it is told otherwise", f"end the Dockerfile with USER {wanted}:{wanted}, a user that owns what it writes")
    if declared != wanted:
        return failed(
            f"is made for user {declared}, and the units would run it as {wanted}", f"senex_image_user: {declared}, or USER {wanted}:{wanted} in the image"
        )
    return passed(f"user {declared}")


def python(ready: bool, known: dict, said: str) -> Finding:
    """Health checks are its programs."""
    if not known:
        return failed(f"python3 does not run: {end_of(said)}", "python3 has to be on the PATH that the image sets (ENV PATH=…)")
    if known["django"]:
        return failed(f"python3 cannot import Django: {known['django']}", "python3 on the PATH has to be the one that has the application's packages")
    return passed(f"python3 has Django {known['versions']['django']}") if ready else failed(f"python3 failed: {end_of(said)}", "see what it printed")


def server_versions(found: dict) -> Finding:
    """`found`: {package: version}."""
    if not found:
        return skipped("not known without python3")
    bad = [(name, version, *hole) for name, version in found.items() for hole in versions.holes(name, version)]
    if bad:
        return failed("; ".join(f"{name} {version} {why}" for name, version, _, why in bad), ", ".join(f"{name}>={first}" for name, _, first, _ in bad))
    return passed(", ".join(f"{name} {version}" for name, version in found.items() if version and name in versions.BAD) or "no server that is known here")


def _telling(name: str, value: str) -> bool:
    value = value.strip("\"'")
    real = (
        len(value) >= 8 and "$" not in value and not any(word in value.lower() for word in PLACEHOLDERS) and not value.startswith(("/", "http://", "https://"))
    )
    return bool(real and SECRET_NAME.search(name) and not NOT_SECRET.search(name))


def image_secrets(environment: list[str], history: list[str], files: list[str]) -> Finding:
    """Names and places alone: the values are in no message."""
    found = [f"{name} in its environment" for name, _, value in (line.partition("=") for line in environment) if _telling(name, value)]
    for number, command in enumerate(history, 1):
        found += [f"{name} in line {number} of its history" for name, value in ASSIGNED.findall(command) if _telling(name, value)]
        found += [f"a key in line {number} of its history"] if FORMS.search(command) else []
    for where, texts in (("its environment", environment), ("its history", history)):
        urls = [secret for text in texts for secret in IN_URL.findall(text) if "$" not in secret and not any(word in secret.lower() for word in PLACEHOLDERS)]
        found += [f"a password in a URL in {where}"] if urls else []
    found += [f"the file {name} in its working directory" for name in files]
    if found:
        do = "give it at run time (senex_extra_environment), at build time by RUN --mount=type=secret; then replace it, for it is in every copy of the image"
        return failed("; ".join(dict.fromkeys(found)), do)
    return passed("none in its environment and history")


def start_migrates(started: bool, tables: list[str]) -> Finding:
    """`tables`: what a start left in an empty database."""
    if tables:
        few = ", ".join(sorted(tables)[:3])
        return failed(f"web made {len(tables)} tables in an empty database ({few} …)", "take migrate out of the entry point: the release step runs it, once")
    return passed("web makes no tables" + ("" if started else ", as far as it came"))


def release(ready: bool, log: str, said: str) -> Finding:
    """All commands of the release step."""
    if ready:
        return passed("; ".join(re.findall(r"release: (\S+ done in [0-9.]+ s)", log)) or "ended well")
    which = re.findall(r"^release: (?!.* done in )(.+?)(?: failed: (.*))?$", log, re.MULTILINE)
    command, why = which[-1] if which else ("the release step", "")
    return failed(f"{command} failed: {why or (end_of(log) if log.strip() else end_of(said))}", _hint(log + said, "manage") or "see what it printed")


def migrate(applied: int, released: bool) -> Finding:
    """Migrations that the release step has applied."""
    if applied:
        return passed(f"{applied} migrations applied as the owner of the database, not as a superuser")
    if not released:
        return skipped("the release step failed, see there")
    return failed("no migration was applied in PostgreSQL", DATABASE)


def collectstatic(files: int, directory: str, released: bool) -> Finding:
    """Files that nginx would serve."""
    if files:
        return passed(f"{files} files in {directory}")
    if not released:
        return skipped("the release step failed, see there")
    return failed(f"collectstatic left nothing in {directory}", f"STATIC_ROOT = '{directory}', or django_static_directory with the path that the image has")


def starts(ready: bool, state: dict, said: str, log: str, seconds: float) -> Finding:
    """A web instance with a read-only root, no capability and the filter of system calls."""
    if ready:
        return passed(f"web answers its health check after {seconds:.0f} s, without capabilities, with a read-only root")
    if not state or not state.get("Running"):
        why = end_of(log) if log.strip() else end_of(said)
        ended = "did not start" if state.get("Status", "created") == "created" else f"ended with {state.get('ExitCode')}"
        return failed(f"web {ended}: {why}", _hint(log + said, "web") or "see what it printed")
    return failed(f"web runs and does not pass its health check: {end_of(said)}", _hint(said, "web") or "see the points address and alive")


def _hint(text: str, command: str) -> str:
    for pattern, do in (
        (r"executable file.*not found|no such file or directory.*OCI|OCI.*no such file", f"the image has no command {command}: {COMMANDS}"),
        (r"ModuleNotFoundError: .*|No module named", "senex_django_settings_module, senex_celery_app"),
        (r"unable to open database file|sqlite", f"{DATABASE}; a file of SQLite has no place on a read-only root"),
        (NOT_WRITABLE.pattern, "write to /tmp or a path that is mounted (point files)"),
        (r"answered 30[12]", BEHIND_TLS),
        (r"answered 400", HOSTS),
        (r"answered 404", "the path of the health page: django_health_alive_path"),
        (r"[Pp]ermission denied|Operation not permitted|root", "it has to work as the user of senex_image_user, without capabilities"),
    ):
        if re.search(pattern, text):
            return do
    return ""


def files(logs: dict[str, str]) -> Finding:
    """`logs`: what each container printed."""
    if not logs:
        return skipped("nothing ran")
    for part, log in logs.items():
        if found := NOT_WRITABLE.search(log):
            path = next((group for group in found.groups() if group), "its own file system")
            do = "write to /tmp, or name the path by django_media_directory, django_log_directory, django_static_directory; else django_read_only: false"
            if re.search(r"/\.[^/]+", path):  # .cache, .config, .gunicorn
                do = f"ENV HOME=/tmp in the Dockerfile, where that is below the home directory; else {do}"
            return failed(f"{'web' if part == 'empty' else part} writes to {path}", do)
    return passed("nothing tried to write outside what is mounted")


def address(found: dict | None, port: int, running: bool) -> Finding:
    """`found`: listening sockets as /proc/net/tcp has them."""
    if found is None:
        return failed(f"nothing listens on {port}", f"web has to listen on 0.0.0.0:{port}") if running else skipped("web does not run, or there is no python3")
    here = [where for where, there in found["listening"] if there == port]
    if any(set(where) == {"0"} for where in here):
        return passed(f"listens on {port} on every address")
    if here:
        return failed(
            f"listens on {port} on the container's loopback address only", f"bind to 0.0.0.0 (daphne -b 0.0.0.0 -p {port}, gunicorn --bind 0.0.0.0:{port})"
        )
    others = sorted({there for _, there in found["listening"]})
    return failed(f"listens on {', '.join(map(str, others))} and not on {port}", f"listen on {port}, or set django_container_port")


def health(path: str, status: int | str | None, variable: str) -> Finding:
    """One health path, asked from another container as nginx does."""
    if status is None:
        return skipped("web does not run, or there is no python3")
    if status == 200:
        return passed(f"{path} answers 200")
    do = {
        301: BEHIND_TLS,
        302: f"{BEHIND_TLS}; the page must need no login",
        400: HOSTS,
        404: f"a page there, or {variable} with the path that the image has",
        503: "the page says that database or Redis do not answer: see DB_… and REDIS_URL of the environment",
    }
    return failed(f"{path} answers {status}" if isinstance(status, int) else f"{path}: {status}", do.get(status, "it must answer 200"))


def page(found: dict, policy: str) -> Finding:
    """The start page under its own policy, or the one that nginx adds (`policy`): what a browser would leave out without a word."""
    if not found:
        return skipped("web does not run, or there is no python3")
    path = urlsplit(found["where"]).path or "/"
    if found["status"] != 200 or not found["type"].lower().startswith("text/html"):
        return skipped(f"{path} answers {found['status']} with {found['type'].partition(';')[0] or 'no type'}")
    whose = "the application's own Content-Security-Policy" if found["policy"] else "nginx_content_security_policy"
    try:
        blocked = page_policy.blocked(found["where"], found["html"], found["policy"] or policy)
    except page_policy.Unreadable as error:
        return skipped(f"{path} cannot be looked through: {error}")
    lines = page_policy.described(blocked, whose)
    if lines:
        return failed(f"a browser blocks on {path}: {'; '.join(what for _, what, _ in lines)}", "; ".join(change for _, _, change in lines))
    return passed(f"a browser blocks nothing in the HTML of {path}")


def requests(found: dict) -> Finding:
    """A request that was under way when the instance was told to stop."""
    status, server = found["status"], found["command"]
    if status == 200:
        return passed("a request under way was answered after SIGTERM")
    if status is None:
        return skipped("web does not run, or there is no python3")
    if isinstance(status, int):
        return skipped(f"the page that waits answers {status}: the image has settings of its own (DJANGO_SETTINGS_MODULE is not taken)")
    if "daphne" in server:
        return skipped("Daphne cuts requests at SIGTERM; nginx sends none to an instance that is about to stop, and waits (django_drain_timeout)")
    return failed(
        f"a request under way was cut at SIGTERM ({status})", "the server has to be PID 1 (exec) and to stop gracefully, for longer than a request takes"
    )


def stops(found: dict, what: str = "web") -> Finding:
    """The exit after SIGTERM."""
    if found["code"] < 0:
        return skipped(f"{what} did not run")
    if found["code"] == KILLED or found["seconds"] > found["limit"] + 5:
        return failed(
            f"{what} did not stop within {found['limit']} s of SIGTERM and was killed", "start the server with exec, so that it is PID 1 and gets the signal"
        )
    return passed(f"{what} stops {found['seconds']:.1f} s after SIGTERM")


def _without(celery: bool | None) -> Finding:
    return skipped("not known without python3" if celery is None else "the image has no Celery")


def worker(celery: bool | None, ready: bool, code: int, said: str, log: str) -> Finding:
    """A worker and a task for it."""
    if not celery:
        return _without(celery)
    if not ready:
        return failed(
            f"the worker did not start: {end_of(log) if log.strip() else end_of(said)}",
            _hint(log + said, "celery-worker") or "senex_image_commands, senex_celery_app",
        )
    if code:
        return failed(end_of(said), "senex_celery_app; the broker is CELERY_BROKER_URL, the result backend CELERY_RESULT_BACKEND")
    return passed("takes a task and answers it")


def worker_stop(celery: bool | None, found: dict) -> Finding:
    """A task that ran at SIGTERM."""
    if not celery:
        return _without(celery)
    if not found["started"]:
        return skipped("no task could be started")
    if not found["finished"]:
        do = "celery has to be PID 1 (exec), so that SIGTERM is its warm shutdown"
        return failed(f"a task that ran at SIGTERM did not finish (exit code {found['code']} after {found['seconds']:.1f} s)", do)
    return stops(found, "the worker")


def worker_late(celery: bool | None, found: dict) -> Finding:
    """Whether a running task is still with the broker."""
    if not celery:
        return _without(celery)
    if not found["started"]:
        return skipped("no task could be started")
    if found["kept"]:
        return passed("a running task stays with the broker until it is done")
    do = "CELERY_TASK_ACKS_LATE = True and CELERY_TASK_REJECT_ON_WORKER_LOST = True, for tasks that may run twice"
    return failed("a running task is acknowledged at its start: with a worker that is killed it is lost", do)


def beat(celery: bool | None, installed: bool, wanted: str, found: dict) -> Finding:
    """Beat with its schedule where `wanted` (celery_beat_scheduler) says. `installed`: django-celery-beat, which has it in the database."""
    if not celery:
        return _without(celery)
    start = found["start"]
    if start.ready:
        return stops(found, "Beat, which reads its schedule from the database," if wanted == "database" else "Beat")
    why = f"Beat did not start: {end_of(start.log) if start.log.strip() else end_of(start.said)}"
    if wanted == "database" and not installed:
        do = "celery_beat_scheduler: file, for Celery's own scheduler; or django-celery-beat in the image, and Beat with its scheduler"
        return failed(f"django-celery-beat is not installed; {why}", do)
    return failed(why, _hint(start.log + start.said, "celery-beat") or "--scheduler=django_celery_beat.schedulers:DatabaseScheduler --pidfile=")


def logs(printed: dict[str, str], secrets: dict[str, str]) -> Finding:
    """Values of the environment in what was printed; their names alone are said."""
    if not printed:
        return skipped("nothing ran")
    found = sorted({f"{part} prints {name}" for part, log in printed.items() for name, value in secrets.items() if value in log})
    return failed("; ".join(found), "print no settings and no addresses with passwords") if found else passed("no secret of the environment is printed")
