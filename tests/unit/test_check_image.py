"""The check of images against the contract: what it takes from the units, and what it makes of each reading."""

import base64
import json
import re
import time
from pathlib import Path
from unittest import mock

import pytest
import yaml
from ansible.errors import AnsibleActionFail
from ansible_collections.senex.trader.plugins.module_utils.contract import bench, judge, podman, points, programs, report, versions
from ansible_collections.senex.trader.plugins.module_utils.engine import unit_options
from ansible_collections.senex.trader.plugins.modules import check_image
from image_check import handed_over
from rendered import component, trusted
from test_input_checks import message_of

ROOT = Path(__file__).parents[2]


# -- What comes from the units


def test_the_containers_have_what_the_units_have():
    wanted = handed_over()["wanted"]
    web = unit_options.read(wanted["units"]["web"])
    assert {
        "--read-only",
        "--security-opt=no-new-privileges",
        "--cap-drop=all",
        "--user=1000",
        "--tmpfs=/tmp:rw,mode=1777,size=512m",
        "--env=PORT=8000",
        "--env=INSTANCE=web-1",
    } <= set(web.options)
    assert web.filtered and "clone" in wanted["seccomp"] and any(word.startswith("--memory=") for word in web.limits)
    assert web.words == ["web"] and web.health == ["python3", "/run/senex/health.py"] and (web.stop_timeout, web.start_timeout) == (20, 90)
    assert {(mount.source, mount.target, mount.read_only) for mount in web.mounts} >= {
        ("/senex-check/config/ca.crt", "/run/senex/ca.crt", True),
        ("/senex-check/data/static/2026.11.1", "/app/staticfiles", True),
        ("/senex-check/data/media", "/app/media", False),
    }
    worker = unit_options.read(wanted["units"]["worker"])
    assert worker.words[0] == "celery-worker" and "--concurrency=4" in worker.words and worker.stop_timeout == 300
    release = unit_options.read(wanted["units"]["release"])
    assert release.words == ["manage", "shell", "--command", "exec(open('/run/senex/release.py').read())"]


def test_every_file_that_a_unit_mounts_is_there():
    wanted = handed_over()["wanted"]
    sources = {mount.source.removeprefix("/senex-check/") for text in wanted["units"].values() for mount in unit_options.read(text).mounts}
    assert {source for source in sources if source.startswith("config/")} == set(wanted["files"]) & sources
    assert {source for source in sources if not source.startswith("config/")} == {"data/static/2026.11.1", "data/staticfiles", "data/media", "logs/application"}


def test_the_inventory_counts():
    commands = {"web": ["gunicorn", "shop.wsgi", 'a $b "c" 100%'], "celery-worker": ["celery", "worker"], "celery-beat": ["celery", "beat"], "manage": ["./m"]}
    wanted = handed_over(
        senex_image_commands=commands,
        senex_image_user=1234,
        django_health_alive_path="/up/",
        django_container_port=9000,
        senex_domain="shop.acme.io",
        senex_django_settings_module="shop.settings",
        celery_workers=[{"name": "celery-worker-mail", "queues": ["mail"]}],
        django_static_directory="/srv/static",
        senex_extra_environment={"FEATURE_X": "a=b"},
    )["wanted"]
    web = unit_options.read(wanted["units"]["web"])
    assert web.words == commands["web"] and "--user=1234" in web.options and (wanted["alive"], wanted["port"]) == ("/up/", 9000)
    assert wanted["queues"] == ["mail"] and wanted["celery_app"] == "shop" and wanted["static"] == "/srv/static"
    assert "\nDJANGO_SETTINGS_MODULE=shop.settings\n" in "\n" + wanted["environment"] and "FEATURE_X=a=b\n" in wanted["environment"]
    assert "ALLOWED_HOSTS=shop.acme.io\n" in wanted["environment"]


def test_no_secret_and_no_server_of_the_inventory_is_used():
    theirs = {
        "senex_database_password": "theirs-1",
        "senex_redis_password": "theirs-2",
        "senex_secret_key": "theirs-3",
        "senex_field_encryption_key": "theirs-4",
        "senex_secret_key_fallbacks": ["theirs-5"],
        "senex_ca_certificate": "theirs-6",
        "senex_database_host": "theirs-7",
        "senex_redis_host": "theirs-8",
        "vault_rotation": {"redis_password": {"stage": "accept", "other": "theirs-9"}},
    }
    one, other = (handed_over(**theirs)["wanted"] for _ in range(2))
    assert "theirs" not in json.dumps(one)
    for name in ("SECRET_KEY", "DB_PASSWORD", "FIELD_ENCRYPTION_KEY"):
        values = {re.search(rf"^{name}=(.+)$", wanted["environment"], re.MULTILINE)[1] for wanted in (one, other)}
        assert len(values) == 2 and min(map(len, values)) >= 32


def test_no_word_of_the_vault_is_handed_to_an_image():
    theirs = {
        "vault_stripe_key": "sk_live_0123456789abcdef",
        "vault_mail": {"senders": ["theirs-and-theirs", "production"]},
        "vault_payments_key": "theirs-123456",
        "vault_broken": "{{ nowhere }}",
        "senex_extra_environment": {
            "PAYMENTS": "{{ vault_payments_key }}",
            "STRIPE_KEY": "{{ vault_stripe_key }}",
            "MAILER": "smtp://me:{{ vault_mail.senders[0] }}@mail.acme.io",
            "FERNET": "{{ vault_stripe_key }}=",
            "FEATURE": "sk_live_",
        },
    }
    environment = handed_over(**theirs)["wanted"]["environment"]
    given = dict(line.split("=", 1) for line in environment.splitlines())
    assert not [word for word in ("0123456789abcdef", "theirs") if word in environment]
    assert re.fullmatch(r"[g-z]{2}_[a-z]{4}_[0-9]{10}[a-f]{6}=", given["FERNET"]) and given["FERNET"] == f"{given['STRIPE_KEY']}=", "of the same form"
    assert given["MAILER"].startswith("smtp://me:") and given["MAILER"].endswith("@mail.acme.io") and given["FEATURE"] == "sk_live_"
    assert given["DJANGO_SETTINGS_MODULE"].endswith(".production")


def test_a_point_that_does_not_exist_is_named():
    assert handed_over({"points": "user, secrets"})["points"] == ["user", "secrets"]
    with pytest.raises(AnsibleActionFail, match="check_points: speed is no point; there are user, python"):
        handed_over({"points": ["speed"]})


@pytest.mark.parametrize("role", ["django", "celery"])
def test_no_key_of_a_unit_is_passed_over(role):
    secrets = {f"senex_{name}": "x" * 24 for name in ("database_password", "redis_password", "secret_key", "field_encryption_key")}
    files = component(role, senex_domain="a.io", senex_registry="r", senex_image_tag="1", senex_ca_certificate="x", **secrets)[0]
    read = [unit_options.read(text) for dest, (text, _) in files.items() if dest.endswith(".container")]
    assert len(read) >= 3
    with pytest.raises(ValueError, match="Rootfs= is in a unit and not known"):
        unit_options.read("[Container]\nImage=x\nRootfs=/x\n")


@pytest.mark.parametrize(
    ("text", "words"), [('a "b c" d', ["a", "b c", "d"]), (r'"q\"\\" "$$HOME" "100%%" "t\x09"', ['q"\\', "$HOME", "100%", "t\t"]), ('""', [""])]
)
def test_words_of_a_unit(text, words):
    assert unit_options.words(text) == words


# -- What a reading means


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
    said = judge.page(found, handed_over()["wanted"]["policy"])
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


# -- What is said, and what is left


def test_what_is_said():
    findings = [
        report.Finding(report.PASSED, "user 1000", point="user"),
        report.Finding(report.FAILED, "no page", "make one", "alive"),
        report.Finding(report.SKIPPED, "no Celery", point="worker"),
    ]
    assert report.summary("app:1", findings) == "app:1: 1 passed, 1 failed, 1 not applicable (alive)"
    said = report.lines(findings)
    assert len(said) == 4 and said[2].endswith("change: make one") and said[1].index("no page") == said[0].index("user 1000")


def test_each_point_is_in_the_docs():
    page = (ROOT / "docs/user/check-your-image.md").read_text()
    assert [name for name in points.NAMES if f"| `{name}` |" not in page] == []
    assert len(set(points.NAMES)) == len(points.NAMES)


@pytest.mark.parametrize("text", [programs.FACTS, programs.LISTENING, programs.ASK, programs.SEND, *programs.FILES.values()])
def test_programs_compile(text):
    compile(text, "program", "exec")


def test_what_a_program_printed():
    assert bench.answer('warning\nsenex {"a": 1}\nbye') == {"a": 1}
    assert bench.answer("senex broken{") is None and bench.answer("") is None


class Recorder(podman.Podman):
    """Podman that is not there."""

    def __init__(self, listed=()):
        super().__init__(600, [])
        self.calls, self.given, self.listed = [], [], listed

    def call(self, *words, data="", **_more):
        self.calls.append(words)
        self.given.append(data)
        return podman.Done(0, "\n".join(self.listed) if words[0] == "ps" else "")


def test_only_what_is_its_own_or_over_is_removed():
    over, others = "senex-check-10000-aabbccdd", "senex-check-ffffffff-aabbccdd"
    engine = Recorder()
    mine = f"{engine.name}-web"
    engine.listed = (mine, f"{over}-web", f"{others}-web", "web-1", "senex-checker", "senex-check-10000-aabbccdd-x.y")
    engine.begin("app:1")
    assert [words[-1] for words in engine.calls if words[0] == "rm"] == [f"{over}-web"]
    engine.calls.clear()
    engine.remove()
    assert [words[-1] for words in engine.calls if words[0] == "rm"] == [mine]


def test_a_container_is_bounded_and_has_no_port():
    engine = Recorder()
    engine.start("web", "app:1", ["web"], ["--read-only"])
    (words,) = engine.calls
    assert {"--timeout=600", "--pull=never", f"--network={engine.name}", "--log-opt=max-size=1mb"} <= set(words)
    assert not [word for word in words if word.startswith(("--publish", "-p"))]
    engine.begin("app:1")
    assert ("network", "create", "--internal", engine.name) in engine.calls


def test_a_check_has_an_end():
    engine = podman.Podman(0, [])
    with pytest.raises(podman.Broken, match="did not end within 0 s"):
        engine.call("ps")


def bench_of(wanted, engine):
    made = bench.Bench(engine, wanted | {"image": "app:1"})
    made.services = mock.Mock(addresses=lambda: {"postgres": "10.0.0.2", "redis": "10.0.0.3"})
    made.config = {"Config": {"Env": ["PATH=/venv/bin", "PYTHONPATH=/app/lib"]}}
    return made


def test_a_web_instance_is_started_as_its_unit_says():
    engine = Recorder()
    bench_of(handed_over()["wanted"], engine).begin("web", "web", modules=bench.PAGE)
    words, environment = engine.calls[-1], dict(line.split("=", 1) for line in engine.given[-1].splitlines())
    assert {"--read-only", "--cap-drop=all", "--user=1000", "--add-host=postgres:10.0.0.2"} <= set(words) and words[-2:] == ("app:1", "web")
    assert any(word.startswith("--security-opt=seccomp=/proc/self/fd/") for word in words)
    mounts = [word for word in words if word.startswith(("--volume=", "--secret="))]
    assert f"--volume={engine.name}-data-static-2026-11-1:/app/staticfiles:ro,nocopy" in mounts
    assert f"--volume={engine.name}-data-media:/app/media:U,nocopy" in mounts
    assert {word.partition("target=")[2].partition(",")[0] for word in mounts if word.startswith("--secret=")} == {
        "/run/senex/ca.crt",
        "/run/senex/health.py",
        "/run/senex/drain.py",
        "/run/senex/check/senex_check_settings.py",
        "/run/senex/check/senex_check_page.py",
    }
    assert environment["DJANGO_SETTINGS_MODULE"] == "senex_check_settings" and environment["PYTHONPATH"] == "/run/senex/check:/app/lib"
    assert environment["SENEX_CHECK_SETTINGS"] == "shop.settings.production"
    assert environment["DB_PASSWORD"] not in " ".join(words), "others can read a command line"


def test_a_container_without_the_checks_modules_has_the_environment_of_the_unit_alone():
    engine, wanted = Recorder(), handed_over()["wanted"]
    bench_of(wanted, engine).begin("release", "release")
    assert engine.given[-1] == wanted["environment"]


def test_a_machine_that_cannot_limit_runs_all_the_same():
    class Refusing(Recorder):
        def call(self, *words, **more):
            super().call(*words, **more)
            refused = words[0] == "run" and "--cgroups=disabled" not in words
            return podman.Done(126, "crun: setrlimit (RLIM_MEMLOCK): Operation not permitted") if refused else podman.Done(0, "")

    engine = Refusing()
    assert engine.start("web", "app:1", [], ["--memory=1m", "--pids-limit=9", "--read-only"]).code == 0
    assert "--read-only" in engine.calls[-1] and not {"--memory=1m", "--pids-limit=9"} & set(engine.calls[-1]) and not engine.limited


@pytest.mark.parametrize("path", ["/app/lib\n*", "/app/lib\nANSIBLE_VAULT_PASSWORD_FILE"])
def test_an_image_gets_no_variable_of_whoever_runs_the_check(path):
    """In Podman's file of variables a name without a value is taken from Podman's own environment, with * any that begins so."""
    engine = Recorder()
    made = bench_of(handed_over()["wanted"], engine)
    made.config["Config"]["Env"] = ["PATH=/venv/bin", "alone", f"PYTHONPATH={path}"]
    with pytest.raises(podman.Broken, match="PYTHONPATH of the image has a line break"):
        made.begin("web", "web", modules=bench.PAGE)
    made.begin("release", "release")
    assert not [line for line in engine.given[-1].splitlines() if "=" not in line]
    assert "--http-proxy=false" in engine.calls[-1]


def test_the_words_of_an_image_are_one_printable_line():
    found = judge.release(False, "release: migrate failed: x\x1b]0;title\x07\x9b2J\u202e", "")
    assert found.says.isprintable() and "title" in found.says
    (line,) = report.lines([judge.python(True, {"django": "", "versions": {"django": "5.2\npassed  all  well"}}, "")])
    assert line.isprintable()


@pytest.mark.parametrize("said", ["senex " + "[" * 100_000, "senex {"])
def test_an_answer_that_is_none(said):
    assert bench.answer(said) is None


@pytest.mark.parametrize("text", ["a+" * 60_000, "[Errno 13]" * 12_000, "cannot create " * 9_000, 'a="' * 40_000, "-----BEGIN A" * 10_000])
def test_what_an_image_says_is_looked_through_in_time(text):
    began = time.process_time()
    judge.image_secrets([text], [text], [])
    judge.files({"web": text})
    assert time.process_time() - began < 1


def test_an_answer_of_another_kind_ends_the_check_with_a_sentence(monkeypatch):
    """Whatever its python3 is."""
    monkeypatch.setattr(check_image, "look", lambda *_: {"versions": []}["django"])
    monkeypatch.setattr(check_image, "AnsibleModule", mock.Mock())
    module = check_image.AnsibleModule.return_value
    module.params = {"image": "app:1", "points": [], "time_limit": 1, "podman_options": [], "payload": base64.b64encode(b"{}").decode()}
    module.fail_json.side_effect = SystemExit
    with pytest.raises(SystemExit):
        check_image.main()
    assert "a program of the check gave another answer" in module.fail_json.call_args[1]["msg"]


def test_of_what_is_printed_without_end_the_end_is_kept(monkeypatch, tmp_path):
    (tmp_path / "podman").write_text("#!/bin/sh\nyes 0123456789 | head -c 50000000\necho last; exit 3\n")
    (tmp_path / "podman").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(podman.tempfile, "TemporaryFile", mock.Mock(side_effect=AssertionError("on the disk")))
    done = podman.Podman(60, []).call("exec", "x", check=False)
    assert (done.code, done.output[-5:], len(done.output)) == (3, "last\n", podman.OUTPUT)
    client, said = podman.Podman(60, []).talk("web", "python3")
    assert client.wait(30) == 3 and said.text().endswith("last\n") and len(said.kept) == podman.OUTPUT


def test_a_task_that_is_not_acknowledged_is_known_by_its_own_name():
    """Another one's, which a worker that was killed has left, or which waits behind it, says nothing of this worker."""
    made = bench.Bench(Recorder(), {**handed_over()["wanted"], "image": "image"})
    kept = {"unacked": '[{"headers": {"id": "senex-check-1"}}, "", "celery"]', "shop.unacked": '[{"properties": {"correlation_id": "senex-check-2"}}, "", ""]'}
    made.services = mock.Mock(redis=lambda *words: "\n".join(kept) if words[0] == "--scan" else kept[words[1]])
    assert [made._unacknowledged(f"senex-check-{number}") for number in (1, 2, 3)] == [True, True, False]


def test_the_program_that_names_the_user_is_bounded_too():
    """It is the image's own, and may not end."""

    class Answering(Recorder):
        def call(self, *words, **more):
            super().call(*words, **more)
            return podman.Done(0, {"inspect": '{"ExitCode": 0}', "logs": "1000\n"}.get(words[0], ""))

    engine = Answering()
    made = bench_of(handed_over()["wanted"], engine)
    made.config["Config"]["User"] = "app"
    assert points._user(made) == ("1000", "1000")
    (words,) = [words for words in engine.calls if words[0] == "run"]
    assert {f"--name={engine.name}-user", "--timeout=600", "--cap-drop=all", "--read-only", "--entrypoint=id"} <= set(words)
    assert not [word for word in words if word.startswith("--user")] and words[-2:] == ("app:1", "-u")
    assert ("rm", "--force", "--time=0", "--volumes", f"{engine.name}-user") in engine.calls


@pytest.mark.parametrize(
    ("limit", "says"), [("10m", "check_time_limit: is a text, and must be a whole number"), (0, "check_time_limit: 0 is too small"), ("900", "")]
)
def test_a_time_limit_is_a_number_of_seconds(limit, says):
    """Ansible takes 10m for 0, which was taken for the default."""
    (play,) = yaml.safe_load((ROOT / "playbooks/check_image.yml").read_text())
    (task,) = [task for task in play["tasks"] if "__check_limit" in task.get("vars", {})]
    said = message_of(task, trusted({"check_time_limit": limit}))
    assert said.startswith(says) and bool(said) == bool(says)
