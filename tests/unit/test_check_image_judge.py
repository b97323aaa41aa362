"""The check of images: what it makes of each reading."""

import functools
import re
import time

import pytest
from ansible_collections.senex.trader.plugins.module_utils.contract import bench, judge, report, versions
from controller import ROOT
from image_check import handed_over


def state(found):
    return found.state


@pytest.mark.parametrize(
    ("declared", "expected", "do"),
    [("1000", report.PASSED, ""), ("", report.FAILED, "USER 1000"), ("0", report.FAILED, "USER 1000"), ("1234", report.FAILED, "senex_image_user: 1234")],
)
def test_user(declared, expected, do):
    found = judge.user(declared, "1000")
    assert state(found) == expected and do in found.do


KNOWN = {"django": "", "versions": {"django": "5.2.19", "celery": "5.7.0"}}


@pytest.mark.parametrize(
    ("known", "expected", "says"),
    [
        (KNOWN, report.PASSED, "5.2.19"),
        ({}, report.FAILED, "python3 does not run: executable"),
        ({**KNOWN, "django": "ModuleNotFoundError: No module named 'django'"}, report.FAILED, "cannot import Django"),
    ],
)
def test_python(known, expected, says):
    found = judge.python(bool(known), known, "executable file `python3` not found")
    assert state(found) == expected and says in found.says


@pytest.mark.parametrize(
    ("found", "bad"),
    [
        ({"daphne": "4.2.1"}, "daphne>=4.2.2"),
        ({"daphne": "4.2.2"}, ""),
        ({"daphne": "4.2.2rc1"}, ""),
        ({"daphne": ""}, ""),
        ({"gunicorn": "21.2.0"}, "gunicorn>=22.0.0"),
        ({"gunicorn": "23.0.0"}, ""),
        ({"uvicorn": "0.11.6"}, "uvicorn>=0.11.7"),
        ({"django": "4.2.30"}, "django>=5.2"),
        ({"django": "5.2.10"}, "django>=5.2.11"),
        ({"django": "5.2.19"}, ""),
        ({"django": "6.0.1"}, "django>=6.0.2"),
        ({"django": "6.1"}, ""),
        ({"django": "5.2"}, "django>=5.2.11"),
    ],
)
def test_versions(found, bad):
    judged = judge.server_versions(found)
    assert (judged.do, state(judged)) == (bad, report.FAILED if bad else report.PASSED)
    assert state(judge.server_versions({})) == report.SKIPPED


def test_the_watchdog_knows_the_same_holes():
    text = (ROOT / "roles/watchdog/files/senex_ops/checks_site.py").read_text()
    theirs = {name: ".".join(numbers.split(", ")) for name, numbers in re.findall(r'^    "(\w+)": \(\(([0-9, ]+)\), "', text, re.MULTILINE)}
    servers = {name: holes[0][0] for name, holes in versions.BAD.items() if name != "django"}
    assert theirs == servers and all(len(versions.BAD[name]) == 1 for name in servers), "of a server that runs its version is asked, and no more"


SECRETS = {
    "in the environment": (["STRIPE_API_KEY=sk_test_notreal99"], [], [], "STRIPE_API_KEY in its environment"),
    "in the history": ([], ["RUN x", "ENV SECRET_KEY=0a1b2c3d4e5f6a7b"], [], "SECRET_KEY in line 2 of its history"),
    "as an argument of a build": ([], ["RUN |1 NPM_TOKEN=abcdefgh1234 /bin/sh -c x"], [], "NPM_TOKEN in line 1"),
    "in quotes": ([], ['ENV DB_PASSWORD="hunter2 hunter2"'], [], "DB_PASSWORD in line 1"),
    "of a known form": ([], ["RUN echo AKIAABCDEFGHIJKLMNOP > /x"], [], "a key in line 1"),
    "in a URL": (["DATABASE_URL=postgres://shop:hunter2x@db/shop"], [], [], "a password in a URL in its environment"),
    "in a file": ([], [], [".env"], "the file .env in its working directory"),
}


@pytest.mark.parametrize("case", SECRETS)
def test_a_secret_in_the_image(case):
    environment, history, files, says = SECRETS[case]
    found = judge.image_secrets(environment, history, files)
    assert state(found) == report.FAILED and says in found.says
    assert not re.search("hunter2|0a1b2c|sk_test|abcdefgh|AKIA", found.says + found.do), "a value is in the message"


@pytest.mark.parametrize(
    "text",
    [
        "GPG_KEY=7169605F62C751356D054A26A821E680E5FA6305",
        "SECRET_KEY=build",
        "DB_PASSWORD=",
        "SECRET_KEY_FILE=/run/secrets/key-of-django",
        "PYTHON_SHA256=0123456789abcdef",
        "SSH_PUBLIC_KEY=ssh-ed25519-AAAA",
        "SECRET_KEY=$SECRET_KEY",
        "SECRET_KEY=dummy-for-collectstatic",
        "TOKEN_URL=https://id.example.com/token",
        "KEYBOARD=qwertzqwertz",
        "REDIS_URL=redis://build",
        "DB_PASSWORD_FILE=/run/secrets/database",
    ],
)
def test_no_secret(text):
    assert state(judge.image_secrets([text], [f"RUN {text} python manage.py collectstatic"], [])) == report.PASSED


def test_start_migrates():
    assert state(judge.start_migrates(True, [])) == state(judge.start_migrates(False, [])) == report.PASSED
    found = judge.start_migrates(True, ["auth_user", "django_migrations"])
    assert state(found) == report.FAILED and "2 tables" in found.says


GOOD = "release: migrate --noinput\nrelease: migrate done in 2.0 s\nrelease: collectstatic --noinput\nrelease: collectstatic done in 1.0 s\n"


BAD = "release: migrate --noinput\nrelease: migrate done in 2.0 s\nrelease: collectstatic --noinput\nrelease: collectstatic --noinput failed: no STATIC_ROOT\n"


def test_release():
    assert judge.release(True, GOOD, "").says == "migrate done in 2.0 s; collectstatic done in 1.0 s"
    found = judge.release(False, BAD, "")
    assert state(found) == report.FAILED and found.says.startswith("collectstatic --noinput failed: ") and "no STATIC_ROOT" in found.says
    found = judge.release(False, "", "crun: executable file `manage` not found in $PATH")
    assert "the image has no command manage: senex_image_commands" in found.do


def test_what_the_release_left():
    assert [state(judge.migrate(number, True)) for number in (0, 12)] == [report.FAILED, report.PASSED]
    found = judge.collectstatic(0, "/app/staticfiles", True)
    assert state(found) == report.FAILED and "STATIC_ROOT = '/app/staticfiles'" in found.do and state(judge.collectstatic(3, "/x", True)) == report.PASSED
    # What has not run has left nothing, which is no trouble of its own
    assert [state(judge.migrate(number, False)) for number in (0, 12)] == [report.SKIPPED, report.PASSED]
    assert [state(judge.collectstatic(number, "/x", False)) for number in (0, 3)] == [report.SKIPPED, report.PASSED]


RUNS, ENDED = {"Running": True}, {"Running": False, "ExitCode": 1}


STARTS = {
    "well": ((True, RUNS, "", "", 3), report.PASSED, ""),
    "no command": (
        (False, {}, "Error: crun: executable file `web` not found in $PATH", "", 0),
        report.FAILED,
        "the image has no command web: senex_image_commands",
    ),
    "settings": ((False, ENDED, "", "ModuleNotFoundError: No module named 'shop'", 1), report.FAILED, "senex_django_settings_module"),
    "writes": ((False, ENDED, "", "OSError: [Errno 30] Read-only file system: '/app/cache'", 1), report.FAILED, "write to /tmp"),
    "needs root": ((False, ENDED, "", "chown: changing ownership: Operation not permitted", 1), report.FAILED, "as the user of senex_image_user"),
    "redirect": ((False, RUNS, "health: answered 301", "", 60), report.FAILED, "SECURE_PROXY_SSL_HEADER"),
    "hosts": ((False, RUNS, "health: answered 400", "", 60), report.FAILED, "ALLOWED_HOSTS"),
    "no page": ((False, RUNS, "health: answered 404", "", 60), report.FAILED, "django_health_alive_path"),
    "something else": ((False, ENDED, "", "Segmentation fault", 1), report.FAILED, "see what it printed"),
}


@pytest.mark.parametrize("case", STARTS)
def test_starts(case):
    reading, expected, do = STARTS[case]
    found = judge.starts(*reading)
    assert state(found) == expected and do in found.do


@pytest.mark.parametrize("reading", [{}, {"Status": "created", "ExitCode": 0}, {"Status": "created", "ExitCode": 127}])
def test_what_never_ran_did_not_end(reading):
    """Podman has an exit code of 0 for a container whose command it did not find."""
    assert judge.starts(False, reading, "executable file `web` not found", "", 0).says.startswith("web did not start: ")
    assert [judge.starts(False, {"Status": "exited", "ExitCode": code}, "", "x", 0).says for code in (0, 3)] == ["web ended with 0: x", "web ended with 3: x"]


@pytest.mark.parametrize(
    ("logs", "says"),
    [
        ({"web": "OSError: [Errno 30] Read-only file system: '/app/x.pid'"}, "web writes to /app/x.pid"),
        ({"beat": "PermissionError: [Errno 13] Permission denied: '/data'"}, "beat writes to /data"),
        ({"web": "ok", "release": "mkdir: cannot create directory '/app/c': Read-only file system"}, "release writes to"),
        ({"empty": "[Errno 30] Read-only file system: '/app/.cache/x'"}, "web writes to /app/.cache/x"),
        ({"web": "GET /read-only/ 200"}, None),
    ],
)
def test_files(logs, says):
    found = judge.files(logs)
    assert (says in found.says) if says else state(found) == report.PASSED
    assert state(judge.files({})) == report.SKIPPED


def listens(*pairs):
    return {"listening": [list(pair) for pair in pairs], "command": ""}


@pytest.mark.parametrize(
    ("found", "running", "expected", "says"),
    [
        (listens(("00000000", 8000)), True, report.PASSED, "every address"),
        (listens(("0" * 32, 8000)), True, report.PASSED, "every address"),
        (listens(("0100007F", 8000)), True, report.FAILED, "loopback"),
        (listens(("00000000", 8080)), True, report.FAILED, "listens on 8080 and not on 8000"),
        (None, True, report.FAILED, "nothing listens"),
        (None, False, report.SKIPPED, "does not run"),
        (listens(("0" * 24 + "01000000", 8000)), True, report.FAILED, "loopback"),
    ],
)
def test_address(found, running, expected, says):
    judged = judge.address(found, 8000, running)
    assert state(judged) == expected and says in judged.says


@pytest.mark.parametrize(
    ("status", "expected", "do"),
    [
        (200, report.PASSED, ""),
        (404, report.FAILED, "django_health_ready_path"),
        (301, report.FAILED, "SECURE_PROXY_SSL_HEADER"),
        (400, report.FAILED, "ALLOWED_HOSTS"),
        (503, report.FAILED, "REDIS_URL"),
        (500, report.FAILED, "must answer 200"),
        ("ConnectionRefusedError: x", report.FAILED, "200"),
        (None, report.SKIPPED, ""),
    ],
)
def test_health(status, expected, do):
    found = judge.health("/health/", status, "django_health_ready_path")
    assert state(found) == expected and do in found.do


def stop(**more):
    return {"code": 0, "seconds": 1.0, "limit": 20, "status": 200, "command": "gunicorn", **more}


@functools.cache
def policy():
    return handed_over()["wanted"]["policy"]


PAGE = {"where": "https://www.example.com/login/?next=/", "status": 200, "type": "text/html; charset=utf-8", "policy": "", "html": "<p>"}


STYLED = {**PAGE, "html": "<style>p {}</style>"}


@pytest.mark.parametrize(
    ("found", "expected", "says"),
    [
        ({}, report.SKIPPED, "does not run"),
        (PAGE, report.PASSED, "/login/"),
        (STYLED, report.FAILED, "/login/: inline style element (line 1), by default-src of nginx_content_security_policy"),
        ({**STYLED, "policy": "style-src 'unsafe-inline'"}, report.PASSED, ""),
        ({**STYLED, "policy": "style-src 'self'"}, report.FAILED, "the application's own Content-Security-Policy"),
        ({**STYLED, "status": 404}, report.SKIPPED, "answers 404 with text/html"),
        ({**STYLED, "status": "TimeoutError: timed out", "type": ""}, report.SKIPPED, "answers TimeoutError"),
        ({**STYLED, "type": "application/json"}, report.SKIPPED, "application/json"),
        ({**STYLED, "html": "<![x[ "}, report.SKIPPED, "cannot be looked through"),
    ],
)
def test_page(found, expected, says):
    said = judge.page(found, policy())
    assert state(said) == expected and says in said.says, said
    assert "style-src 'self' 'unsafe-inline'" in said.do or expected != report.FAILED, said


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (stop(), report.PASSED),
        (stop(status="RemoteDisconnected: x"), report.FAILED),
        (stop(status="RemoteDisconnected: x", command="/venv/bin/python daphne -b"), report.SKIPPED),
        (stop(status=404), report.SKIPPED),
        (stop(status=None), report.SKIPPED),
    ],
)
def test_requests(found, expected):
    assert state(judge.requests(found)) == expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (stop(), report.PASSED),
        (stop(code=143), report.PASSED),
        (stop(code=137, seconds=20.1), report.FAILED),
        (stop(seconds=31), report.FAILED),
        (stop(code=-1), report.SKIPPED),
    ],
)
def test_stops(found, expected):
    assert state(judge.stops(found)) == expected


def task(**more):
    return {"started": True, "finished": True, "kept": True, "code": 0, "seconds": 4.0, "limit": 30, **more}


def test_worker():
    assert judge.worker(False, False, 1, "", "").says == "the image has no Celery"
    assert judge.worker(None, False, 1, "", "").says == "not known without python3", "nobody knows whether it has"
    assert state(judge.worker(True, True, 0, "", "")) == report.PASSED
    assert judge.worker(True, True, 1, "health: x takes from none of its queues", "").says == "health: x takes from none of its queues"
    assert "senex_celery_app" in judge.worker(True, False, 1, "", "ModuleNotFoundError: No module named 'x'").do


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (task(), report.PASSED),
        (task(finished=False, code=137), report.FAILED),
        (task(finished=False, seconds=0.2), report.FAILED),
        (task(started=False), report.SKIPPED),
        (task(code=137, seconds=30.2), report.FAILED),
    ],
)
def test_worker_stop(found, expected):
    assert state(judge.worker_stop(True, found)) == expected
    assert state(judge.worker_stop(False, {})) == report.SKIPPED


def test_worker_late():
    assert [state(judge.worker_late(True, task(kept=kept))) for kept in (1, 0)] == [report.PASSED, report.FAILED]
    assert [state(judge.worker_late(*reading)) for reading in ((False, {}), (True, task(started=False)))] == [report.SKIPPED] * 2


def test_beat():
    good, bad = bench.Start(True), bench.Start(False, ENDED, "", "No module named 'django_celery_beat'")
    assert state(judge.beat(True, True, "database", {"start": good, "code": 0, "seconds": 1, "limit": 10})) == report.PASSED
    assert state(judge.beat(True, True, "database", {"start": good, "code": 137, "seconds": 10, "limit": 10})) == report.FAILED
    found = judge.beat(True, False, "database", {"start": bad})
    assert "django-celery-beat is not installed" in found.says and found.do.startswith("celery_beat_scheduler: file")
    for installed, wanted in ((True, "database"), (False, "file"), (False, "other")):
        assert "not installed" not in judge.beat(True, installed, wanted, {"start": bad}).says
    assert "database" not in judge.beat(True, False, "file", {"start": good, "code": 0, "seconds": 1, "limit": 10}).says
    assert state(judge.beat(False, False, "database", {})) == report.SKIPPED


def test_the_end_of_an_output_tells_of_trouble():
    """What Python buffers comes after what it says at once, so Beat's greeting stood where its error should."""
    greeting = "\n".join(["celery beat v5.7 is starting.", ". db -> celerybeat-schedule", ". logfile -> [stderr]@%WARNING", ". maxinterval -> 5.00 minutes"])
    assert judge.end_of(f"Traceback:\nOSError: [Errno 30] x\n{greeting}") == "OSError: [Errno 30] x"
    assert judge.end_of("a\nb\nValueError: x\nd") == "b | ValueError: x | d" and judge.end_of("a\nb\nc\nd") == "b | c | d"


def test_a_database_that_is_not_the_environments():
    log = "7 objects imported automatically\nrelease: migrate --noinput\nrelease: migrate --noinput failed: unable to open database file\n"
    found = judge.release(False, log, "")
    assert found.says == "migrate --noinput failed: unable to open database file" and "DB_HOST" in found.do


def test_logs():
    found = judge.logs({"web": "db at postgres://u:hunter2hunter2@db", "beat": "x"}, {"DB_PASSWORD": "hunter2hunter2"})
    assert found.says == "web prints DB_PASSWORD" and state(found) == report.FAILED
    assert [state(judge.logs(*reading)) for reading in (({"web": "x"}, {"A": "secret"}), ({}, {}))] == [report.PASSED, report.SKIPPED]


def test_the_words_of_an_image_are_one_printable_line():
    found = judge.release(False, "release: migrate failed: x\x1b]0;title\x07\x9b2J\u202e", "")
    assert found.says.isprintable() and "title" in found.says
    (line,) = report.lines([judge.python(True, {"django": "", "versions": {"django": "5.2\npassed  all  well"}}, "")])
    assert line.isprintable()


@pytest.mark.parametrize("text", ["a+" * 60_000, "[Errno 13]" * 12_000, "cannot create " * 9_000, 'a="' * 40_000, "-----BEGIN A" * 10_000])
def test_what_an_image_says_is_looked_through_in_time(text):
    began = time.process_time()
    judge.image_secrets([text], [text], [])
    judge.files({"web": text})
    assert time.process_time() - began < 1
