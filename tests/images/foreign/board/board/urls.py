import os
from pathlib import Path

import redis
from django.conf import settings
from django.db import connection
from django.http import HttpResponse, JsonResponse
from django.urls import path

from board.jobs import post
from board.models import Entry


def healthz(request):
    return HttpResponse("ok", content_type="text/plain")


def readyz(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    redis.Redis.from_url(settings.CELERY_BROKER_URL, socket_timeout=3).ping()
    return HttpResponse("ready", content_type="text/plain")


def start(request):
    return JsonResponse({"version": os.environ["VERSION"], "greeting": settings.GREETING})


def entries(request):
    """POST: through the worker."""
    if request.method == "POST":
        post.delay(request.body.decode())
        return JsonResponse({}, status=202)
    return JsonResponse({"entries": list(Entry.objects.order_by("pk").values_list("text", flat=True))})


def inbox(request):
    """POST: through the further process, which writes into the directory that this page reads."""
    if request.method == "POST":
        redis.Redis.from_url(settings.INBOX, socket_timeout=3).rpush("inbox", request.body)
        return JsonResponse({}, status=202)
    written = Path(settings.DATA, "inbox")
    return JsonResponse({"inbox": written.read_text(encoding="utf-8").splitlines() if written.exists() else []})


urlpatterns = [path("healthz", healthz), path("readyz", readyz), path("", start), path("entries", entries), path("inbox", inbox)]
