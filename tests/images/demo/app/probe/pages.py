import itertools

from django.conf import settings
from django.http import JsonResponse
from django.shortcuts import render

from probe.http import endpoint, problem

SICK = (settings.BASE_DIR / "sick").exists()  # part of the image that is healthy and soon has nothing but errors for people
WELL_FOR = 30
asked = itertools.count(1)


def fails():
    return SICK and next(asked) > WELL_FOR


def index(request):
    if fails():
        return problem("sick", 500)
    return render(request, "probe/index.html", {"version": settings.VERSION, "instance": settings.INSTANCE})


@endpoint("GET", "HEAD")
async def version(request):
    if fails():
        return problem("sick", 500)
    return JsonResponse({"version": settings.VERSION, "instance": settings.INSTANCE, "canary": settings.CANARY})
