import json
from functools import wraps
from inspect import iscoroutinefunction

from django.http import JsonResponse
from django.views.decorators.csrf import csrf_exempt


class BadInput(ValueError):
    pass


def problem(message, status=400):
    return JsonResponse({"error": message}, status=status)


def body(request):
    """The request's JSON object; BadInput says what is wrong with it."""
    data = json.loads(request.body or b"{}")
    if not isinstance(data, dict):
        raise BadInput("a JSON object is expected")
    return data


def endpoint(*methods):
    """A JSON endpoint for programs: these methods only, no CSRF token, 400 with a sentence for bad input."""

    def decorate(view):
        if iscoroutinefunction(view):

            @wraps(view)
            async def wrapped(request, *args, **kwargs):
                if request.method not in methods:
                    return problem(f"use {' or '.join(methods)}", 405)
                try:
                    return await view(request, *args, **kwargs)
                except ValueError as error:
                    return problem(str(error))

        else:

            @wraps(view)
            def wrapped(request, *args, **kwargs):
                if request.method not in methods:
                    return problem(f"use {' or '.join(methods)}", 405)
                try:
                    return view(request, *args, **kwargs)
                except ValueError as error:
                    return problem(str(error))

        return csrf_exempt(wrapped)

    return decorate
