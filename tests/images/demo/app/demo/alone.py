"""The settings of a site that has neither Redis nor Celery."""

import os

for name in ("REDIS_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"):
    if os.environ.get(name):
        raise RuntimeError(f"{name}: this site has none")
    os.environ[name] = "memory://"

from demo.settings import *  # noqa: E402, F403  (the rest is the same)

CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
