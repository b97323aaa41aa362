import json

from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings

GROUP = "everyone"


SERVICE_RESTART = 1012


class Hello(AsyncWebsocketConsumer):
    groups = (f"instance.{settings.INSTANCE}",)

    async def connect(self):
        await self.accept()
        await self.tell(type="hello", instance=settings.INSTANCE, version=settings.VERSION)

    async def instance_drain(self, event):
        """This instance is about to stop: clients connect again, to another one."""
        await self.close(code=SERVICE_RESTART)

    async def tell(self, **message):
        await self.send(json.dumps(message))


class EchoConsumer(Hello):
    async def receive(self, text_data=None, bytes_data=None):
        await self.send(text_data=text_data, bytes_data=bytes_data)


class BroadcastConsumer(Hello):
    groups = (*Hello.groups, GROUP)

    async def receive(self, text_data=None, bytes_data=None):
        message = {"type": "broadcast.message", "text": text_data, "sender": settings.INSTANCE}
        await self.channel_layer.group_send(GROUP, message)

    async def broadcast_message(self, event):
        await self.tell(type="broadcast", text=event["text"], sender=event["sender"], instance=settings.INSTANCE)
