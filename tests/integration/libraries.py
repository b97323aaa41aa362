"""What the application's libraries do with Redis: cache, channels, and workers that answer."""

WORK = """
import asyncio
from channels.layers import get_channel_layer
from celery import current_app
from django.core.cache import cache
cache.set_many({"a": 1, "b": 2}, 60); cache.incr("a"); cache.add("c", 1); cache.touch("b", 60); cache.delete("b")
assert cache.get_many(["a", "b", "c"]) == {"a": 2, "c": 1}
cache.clear()
async def channels():
    layer = get_channel_layer()
    await layer.group_add("group", name := await layer.new_channel())
    await layer.group_send("group", {"type": "x"})
    assert (await layer.receive(name))["type"] == "x"
    await layer.group_discard("group", name)
asyncio.run(channels())
inspect = current_app.control.inspect(timeout=5)
assert inspect.ping() and inspect.active_queues()
print("worked")
"""
