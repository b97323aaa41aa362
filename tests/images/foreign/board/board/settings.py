import os

import dj_database_url

SECRET_KEY = os.environ["BOARD_SECRET"]
ALLOWED_HOSTS = os.environ["BOARD_HOSTS"].split(",")
GREETING = os.environ.get("BOARD_GREETING", "")
DEBUG = False
DATABASES = {"default": dj_database_url.config(conn_health_checks=True)}
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.staticfiles", "channels", "board"]
MIDDLEWARE = ["django.middleware.security.SecurityMiddleware", "django.middleware.common.CommonMiddleware"]
ROOT_URLCONF = "board.urls"
ASGI_APPLICATION = "board.asgi.application"
CHANNEL_LAYERS = {"default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [os.environ["BOARD_CHANNELS"]]}}}
CELERY_BROKER_URL = os.environ["BOARD_QUEUE"]
CELERY_TASK_DEFAULT_QUEUE = "jobs"
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BEAT_SCHEDULE = {"tick": {"task": "board.jobs.tick", "schedule": 5.0}}
INBOX = os.environ["BOARD_QUEUE"]
DATA = "/srv/data"
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_SSL_REDIRECT = True
SILENCED_SYSTEM_CHECKS = ["security.W003", "security.W004"]
STATIC_URL = "/static/"
STATIC_ROOT = "/srv/assets"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
