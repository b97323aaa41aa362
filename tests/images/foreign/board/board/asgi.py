from django.core.asgi import get_asgi_application

http = get_asgi_application()

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402  (Django's applications must be loaded first)
from django.urls import path  # noqa: E402

from board.live import Live  # noqa: E402

application = ProtocolTypeRouter({"http": http, "websocket": URLRouter([path("live/", Live.as_asgi())])})
