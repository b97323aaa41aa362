from django.conf import settings
from django.http import JsonResponse
from django.shortcuts import render

from probe.http import endpoint


def index(request):
    return render(request, "probe/index.html", {"version": settings.VERSION, "instance": settings.INSTANCE})


@endpoint("GET", "HEAD")
async def version(request):
    return JsonResponse({"version": settings.VERSION, "instance": settings.INSTANCE, "canary": settings.CANARY})
