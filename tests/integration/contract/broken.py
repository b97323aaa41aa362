"""The demo's image, broken in one way each. Every file is new or no Python module, for the image's modules are compiled and not looked at again."""

from dataclasses import dataclass, field

PACKAGES = "/venv/lib/python3.11/site-packages"
ENTRY = "/usr/local/bin/entrypoint"
BEFORE = "/usr/local/bin/entrypoint-of-the-demo"
APART = "from demo.settings import *\n"


@dataclass(frozen=True)
class Case:
    """`points`: looked at. `failing`: those of them that have to fail, and no other."""

    points: str
    failing: set
    files: dict = field(default_factory=dict)
    lines: tuple = ()
    inputs: dict = field(default_factory=dict)
    says: str = ""
    released: bool = True  # the demo's release has been, and is not what this one is about


def entry(*lines):
    """An entry point that does something and goes on as the demo's, whose file is beside it."""
    return {ENTRY: "\n".join(["#!/bin/sh", "set -eu", *lines, f'exec {BEFORE} "$@"', ""])}


def settings(text, **more):
    """Settings of their own, and the inputs that name them."""
    inputs = {"senex_django_settings_module": "apart", "senex_celery_app": "demo"}
    return {"files": {"/app/apart.py": APART + text, **more}, "inputs": inputs}


STYLED = """
from django.http import HttpResponse
from demo.urls import urlpatterns as others
from django.urls import path
urlpatterns = [path("", lambda request: HttpResponse("<!doctype html><title>x</title><style>p { color: red }</style>")), *others]
"""
NO_HEALTH = 'from django.urls import path\nfrom probe import pages\nurlpatterns = [path("", pages.index)]\n'
DAPHNE = "daphne -b 0.0.0.0 -p 8000 --proxy-headers -v 0 demo.asgi:application"
LOOPBACK = "daphne -b 127.0.0.1 -p 8000 --proxy-headers -v 0 demo.asgi:application"
CASES = {
    "wrong user": Case("user", {"user"}, lines=("USER 1234:1234",), says="senex_image_user: 1234"),
    "needs root": Case(
        "user,release,starts",
        {"release", "starts"},
        entry('[ "$(id -u)" = 0 ] || { echo "run me as root" >&2; exit 1; }'),
        says="run me as root",
        released=False,
    ),
    "no health page": Case(
        "starts,alive,ready",
        {"starts", "alive", "ready"},
        **settings('ROOT_URLCONF = "apart_urls"\n', **{"/app/apart_urls.py": NO_HEALTH}),
        says="django_health_alive_path",
    ),
    "style in the page": Case(
        "starts,page", {"page"}, **settings('ROOT_URLCONF = "apart_urls"\n', **{"/app/apart_urls.py": STYLED}), says="style-src 'self' 'unsafe-inline'"
    ),
    "writes outside its volumes": Case("starts,files", {"starts", "files"}, entry("echo $$ >/app/web.pid"), says="/app/web.pid"),
    "ignores SIGTERM": Case(
        "starts,stops",
        {"stops"},
        entry(f'[ "$1" != web ] || {{ trap "" TERM; {DAPHNE}; exit; }}'),
        inputs={"django_stop_timeout": 3},
        says="did not stop within 3 s",
    ),
    "migrates at start": Case(
        "start-migrates", {"start-migrates"}, entry('[ "$1" != web ] || python /app/manage.py migrate --noinput -v 0'), says="take migrate out", released=False
    ),
    "old Daphne": Case(
        "versions",
        {"versions"},
        {f"{PACKAGES}/daphne-4.2.3.dist-info/METADATA": "Metadata-Version: 2.1\nName: daphne\nVersion: 4.1.2\n"},
        says="CVE-2026-44545",
    ),
    "secret baked in": Case("secrets", {"secrets"}, lines=("ENV STRIPE_API_KEY=rk_throwaway_0123456789",), says="STRIPE_API_KEY"),
    "no static files": Case("collectstatic", {"collectstatic"}, **settings('STATIC_ROOT = "/tmp/static"\n'), says="STATIC_ROOT", released=False),
    "listens on the loopback address": Case("starts,address,alive", {"address", "alive"}, entry(f'[ "$1" != web ] || exec {LOOPBACK}'), says="loopback"),
    "no python": Case("python,versions", {"python"}, entry("export PATH=/venv/bin:/usr/bin:/bin"), lines=("ENV PATH=/nowhere",), says="python3 does not run"),
    "worker that is killed": Case(
        "worker,worker-stop",
        {"worker-stop"},
        entry(f'if [ "$1" = celery-worker ]; then {BEFORE} "$@" & trap "kill -KILL $!; exit 1" TERM; wait; exit; fi'),
        says="did not finish",
    ),
    "worker that acknowledges early": Case("worker,worker-late", {"worker-late"}, **settings("CELERY_TASK_ACKS_LATE = False\n"), says="CELERY_TASK_ACKS_LATE"),
}
