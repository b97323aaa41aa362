import os

from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import OriginValidator
from daphne.ws_protocol import WebSocketProtocol
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.urls import path
from probe.consumers import BroadcastConsumer, EchoConsumer

from demo.lean import beside

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo.settings")
http = beside(get_asgi_application())
# Daphne's own way lets an application close with 1000 and 3000 to 4999 alone; 1012 says that the service restarts
WebSocketProtocol.serverClose = lambda self, code=None: self.sendCloseFrame(code=1000 if code is None else code)
sockets = URLRouter(
    [
        path("ws/echo/", EchoConsumer.as_asgi()),
        path("ws/broadcast/", BroadcastConsumer.as_asgi()),
    ]
)
application = ProtocolTypeRouter({"http": http, "websocket": OriginValidator(sockets, settings.WS_ALLOWED_ORIGINS)})
