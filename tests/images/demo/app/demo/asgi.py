import os

from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import OriginValidator
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.urls import path
from probe.consumers import BroadcastConsumer, EchoConsumer

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo.settings")
http = get_asgi_application()
sockets = URLRouter(
    [
        path("ws/echo/", EchoConsumer.as_asgi()),
        path("ws/broadcast/", BroadcastConsumer.as_asgi()),
    ]
)
application = ProtocolTypeRouter({"http": http, "websocket": OriginValidator(sockets, settings.WS_ALLOWED_ORIGINS)})
