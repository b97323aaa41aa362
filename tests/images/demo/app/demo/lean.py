"""Answers without Django's middleware: what the way to the application costs, and a load that two cores can bear."""

import asyncio
import json
import os
from urllib.parse import parse_qs

PATH = "/lean/"


async def lean(scope, receive, send):
    """GET and POST; ?seconds= waits first."""
    while (await receive()).get("more_body"):
        pass
    seconds = float(parse_qs(scope["query_string"].decode()).get("seconds", ["0"])[0])
    await asyncio.sleep(min(max(seconds, 0), 300))
    body = json.dumps({"instance": os.environ.get("INSTANCE", ""), "version": os.environ.get("VERSION", "")}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def beside(django):
    """An application that answers PATH itself and hands everything else on."""

    async def application(scope, receive, send):
        await (lean if scope["path"] == PATH else django)(scope, receive, send)

    return application
