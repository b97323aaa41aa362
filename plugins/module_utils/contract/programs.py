"""Programs that run inside the containers of a check, by the image's own Python."""

from __future__ import annotations

# What the image is like: printed as JSON
FACTS = """
import importlib.metadata as known, json, os
def version(name):
    try:
        return known.version(name)
    except known.PackageNotFoundError:
        return ""
names = ("django", "daphne", "gunicorn", "uvicorn", "hypercorn", "celery", "django-celery-beat", "channels")
with open("/proc/self/status", encoding="ascii") as handle:
    status = dict(line.split(":", 1) for line in handle)
try:
    import django
    broken = ""
except Exception as error:
    broken = f"{type(error).__name__}: {error}"
left = [name for name in (".env", "id_rsa", "id_ed25519", "vault-password") if os.path.exists(name)]
print("senex " + json.dumps({"uid": os.getuid(), "capabilities": status["CapEff"].strip(), "versions": {name: version(name) for name in names},
                             "django": broken, "files": left}))
"""

# LISTENING SECONDS: which addresses the container listens on, as soon as there is one, and the command of its first process
LISTENING = """
import json, sys, time
def listening():
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as lines:
                for words in (line.split() for line in list(lines)[1:]):
                    if words[3] == "0A":
                        address, _, port = words[1].rpartition(":")
                        found.append([address, int(port, 16)])
        except OSError:
            pass
    return found
end = time.monotonic() + float(sys.argv[1])
while not (found := listening()) and time.monotonic() < end:
    time.sleep(0.2)
with open("/proc/1/cmdline", "rb") as handle:
    command = handle.read().decode(errors="replace").replace("\\0", " ").strip()
print("senex " + json.dumps({"listening": found, "command": command}))
"""

# ASK ADDRESS PORT HOST PATH...: one request each, from another container
ASK = """
import http.client, json, sys
address, port, host, *paths = sys.argv[1:]
found = {}
for path in paths:
    connection = http.client.HTTPConnection(address, int(port), timeout=20)
    try:
        connection.request("GET", path, headers={"Host": host, "X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.7"})
        if path == paths[-1]:
            print("sent", flush=True)
        answer = connection.getresponse()
        answer.read(100000)
        found[path] = answer.status
    except (OSError, http.client.HTTPException) as error:
        found[path] = f"{type(error).__name__}: {error}"
    finally:
        connection.close()
print("senex " + json.dumps(found))
"""

# START ADDRESS PORT HOST: the start page, or where it leads within the site, as nginx would pass it on
START = """
import http.client, json, sys
from urllib.parse import urljoin, urlsplit
address, port, host = sys.argv[1:]
where = f"https://{host}/"
try:
    for _ in range(4):
        split = urlsplit(where)
        connection = http.client.HTTPConnection(address, int(port), timeout=20)
        path = (split.path or "/") + (f"?{split.query}" if split.query else "")
        connection.request("GET", path, headers={"Host": host, "X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.7", "Accept": "text/html"})
        answer = connection.getresponse()
        html = answer.read(32000).decode(errors="replace")
        connection.close()
        leads = urljoin(where, answer.headers.get("Location") or where)
        if answer.status not in (301, 302, 303, 307, 308) or urlsplit(leads).hostname != host:
            break
        where = leads
    print("senex " + json.dumps({"where": where, "status": answer.status, "type": answer.headers.get("Content-Type") or "",
                                 "policy": answer.headers.get("Content-Security-Policy") or "", "html": html}))
except (OSError, ValueError, http.client.HTTPException) as error:
    print("senex " + json.dumps({"where": where, "status": f"{type(error).__name__}: {error}", "type": "", "policy": "", "html": ""}))
"""

TASK_ID = "senex-check-"  # and the key
# SEND APP QUEUE KEY: the task that waits
SEND = f"""
import sys
from celery.app.utils import find_app
app, queue, key = sys.argv[1:]
find_app(app).send_task("senex_check.hold", args=(key,), task_id="{TASK_ID}" + key, queue=queue, ignore_result=True)
print("senex true")
"""

MODULES = "/run/senex/check"
SLOW_PATH = "/senex-check-slow/"
SLOW = 6  # seconds that the request takes which is under way when the container is told to stop
# Settings of the application and one more page, which waits
SETTINGS = """
import importlib, os
_real = importlib.import_module(os.environ["SENEX_CHECK_SETTINGS"])
globals().update({name: value for name, value in vars(_real).items() if not name.startswith("__")})
MIDDLEWARE = ["senex_check_page.Slow", *globals().get("MIDDLEWARE", [])]
"""
PAGE = f"""
import time
from django.http import HttpResponse
class Slow:
    def __init__(self, get_response):
        self.get_response = get_response
    def __call__(self, request):
        if request.path == "{SLOW_PATH}":
            time.sleep({SLOW})
            return HttpResponse("done")
        return self.get_response(request)
"""
# A task that says in Redis where it is, and ends when it is let go
TASKS = """
import os, time
import redis
from celery import shared_task
@shared_task(name="senex_check.hold", ignore_result=True)
def hold(key):
    say = redis.Redis.from_url(os.environ["SENEX_CHECK_BROKER"])
    say.set(f"senex-check:{key}", "started", ex=600)
    end = time.monotonic() + 120
    while not say.exists(f"senex-check:{key}:go") and time.monotonic() < end:
        time.sleep(0.2)
    say.set(f"senex-check:{key}", "finished", ex=600)
"""
FILES = {"senex_check_settings.py": SETTINGS, "senex_check_page.py": PAGE, "senex_check_tasks.py": TASKS}
