import logging
from pathlib import Path

from django.conf import settings
from django.core.cache import cache
from django.db import DatabaseError, connection
from django.http import HttpResponse, JsonResponse
from redis.exceptions import RedisError

from probe.http import body, endpoint

log = logging.getLogger(__name__)
UNHEALTHY = Path("/tmp/unhealthy")  # of this instance alone, gone with the container
BROKEN = settings.BASE_DIR / "broken"  # part of the image whose health never comes up


@endpoint("GET", "HEAD")
async def simple(request):
    if BROKEN.exists() or UNHEALTHY.exists():
        return HttpResponse("unhealthy", status=503, content_type="text/plain")
    return HttpResponse("ok", content_type="text/plain")


def database():
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def redis():
    cache.set("health", "ok", 10)
    if cache.get("health") != "ok":
        raise OSError("what was written does not come back")


@endpoint("GET", "HEAD")
def full(request):
    found = {}
    for name, check in (("database", database), ("redis", redis)):
        try:
            check()
            found[name] = "ok"
        except (DatabaseError, RedisError, OSError) as error:
            # The kind alone: an error's text may hold an address or a password.
            found[name] = type(error).__name__
            log.warning("health of %s: %s", name, type(error).__name__)
    healthy = set(found.values()) == {"ok"}
    return JsonResponse({"status": "ok" if healthy else "failing", **found}, status=200 if healthy else 503)


@endpoint("POST")
def switch(request):
    state = body(request).get("state")
    if state not in ("on", "off"):
        raise ValueError("state must be on (healthy) or off (unhealthy)")
    UNHEALTHY.unlink(missing_ok=True) if state == "on" else UNHEALTHY.touch()
    return JsonResponse({"health": state, "instance": settings.INSTANCE})
