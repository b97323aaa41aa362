import os

from django.conf import settings
from django.db import connection
from django.http import HttpResponse, JsonResponse
from django.templatetags.static import static
from django.urls import path

from notes.models import Note


def up(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return HttpResponse("up", content_type="text/plain")


def start(request):
    return HttpResponse(f'<link rel="stylesheet" href="{static("notes.css")}"><img src="{settings.MEDIA_URL}logo.png">{settings.GREETING}')


def version(request):
    return JsonResponse({"version": os.environ["VERSION"], "greeting": settings.GREETING})


def notes(request):
    if request.method == "POST":
        note = Note.objects.create(text=request.body.decode())
        return JsonResponse({"id": note.pk}, status=201)
    return JsonResponse({"notes": list(Note.objects.order_by("pk").values_list("text", flat=True))})


urlpatterns = [path("up", up), path("", start), path("version", version), path("notes", notes)]
