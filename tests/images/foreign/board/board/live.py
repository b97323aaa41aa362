import os

from channels.generic.websocket import AsyncWebsocketConsumer


class Live(AsyncWebsocketConsumer):
    groups = (f"instance.{os.environ.get('INSTANCE')}",)

    async def receive(self, text_data=None, bytes_data=None):
        await self.send(text_data)

    async def instance_drain(self, event):
        await self.close(code=1012)
