import os
from pathlib import Path
from urllib.parse import urlsplit

from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from demo import environment as env

env.require()

BASE_DIR = Path(__file__).resolve().parent.parent
VERSION = env.text("VERSION", "0")
INSTANCE = env.text("INSTANCE", os.uname().nodename)
CANARY = env.text("CANARY")

SECRET_KEY = env.text("SECRET_KEY")
SECRET_KEY_FALLBACKS = env.items("SECRET_KEY_FALLBACKS")
# Newest first; every further key is for reading what was written before a rotation.
FIELD_ENCRYPTION_KEYS = env.items("FIELD_ENCRYPTION_KEY")
DEBUG = env.flag("DEBUG")
ALLOWED_HOSTS = env.items("ALLOWED_HOSTS")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_celery_beat",
    "probe",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
ROOT_URLCONF = "demo.urls"
ASGI_APPLICATION = "demo.asgi.application"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/"
USE_I18N = False
TIME_ZONE = "UTC"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Security: nginx ends TLS in front of us.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_SSL_REDIRECT = env.flag("SECURE_SSL_REDIRECT", True)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
CSRF_TRUSTED_ORIGINS = [f"https://{'*' if host.startswith('.') else ''}{host}" for host in ALLOWED_HOSTS if host != "*"]
WS_ALLOWED_ORIGINS = env.items("WS_ALLOWED_ORIGINS") or CSRF_TRUSTED_ORIGINS
# HSTS has one home, nginx: two headers would make it void.
SILENCED_SYSTEM_CHECKS = ["security.W004"]
AUTH_PASSWORD_VALIDATORS = [{"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"}]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": env.text("DB_NAME"),
        "USER": env.text("DB_USER"),
        "PASSWORD": env.text("DB_PASSWORD"),
        "HOST": env.text("DB_HOST"),
        "PORT": env.number("DB_PORT", 5432),
        "CONN_MAX_AGE": env.number("CONN_MAX_AGE", 0),
        "CONN_HEALTH_CHECKS": True,
        "DISABLE_SERVER_SIDE_CURSORS": env.flag("DISABLE_SERVER_SIDE_CURSORS"),
        "OPTIONS": {"sslmode": env.text("DB_SSLMODE", "prefer"), "connect_timeout": 3},
    }
}
if env.text("DB_SSLROOTCERT"):
    DATABASES["default"]["OPTIONS"]["sslrootcert"] = env.text("DB_SSLROOTCERT")

REDIS_URL = env.text("REDIS_URL")
REDIS_CONNECTION = {"socket_keepalive": True, "socket_connect_timeout": 3, "health_check_interval": 25}
# Every pooled connection is dead after a restart of Redis: try again on a new one rather than fail the request.
BACKOFF = {"backoff": ExponentialBackoff(cap=1, base=0.1), "retries": 3}
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        "TIMEOUT": 300,
        "OPTIONS": {**REDIS_CONNECTION, "socket_timeout": 3, "retry": Retry(**BACKOFF)},
    }
}
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {
            # No short socket_timeout here: the layer waits for messages in blocking reads of 5 s.
            "hosts": [
                {
                    "address": env.text("CHANNELS_REDIS_URL", urlsplit(REDIS_URL)._replace(path="/1").geturl()),
                    **REDIS_CONNECTION,
                    "socket_timeout": 15,
                    "retry": AsyncRetry(**BACKOFF),
                }
            ],
            "capacity": 1500,
        },
    }
}

CELERY_BROKER_URL = env.text("CELERY_BROKER_URL")
CELERY_RESULT_BACKEND = env.text("CELERY_RESULT_BACKEND")
CELERY_RESULT_EXPIRES = 86400
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": env.number("CELERY_VISIBILITY_TIMEOUT", 3600),
    "socket_keepalive": True,
    "socket_connect_timeout": 3,
    "health_check_interval": 25,
}
CELERY_REDIS_SOCKET_KEEPALIVE = True
CELERY_REDIS_BACKEND_HEALTH_CHECK_INTERVAL = 25
CELERY_REDIS_RETRY_ON_TIMEOUT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_TRACK_STARTED = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_TASK_DEFAULT_QUEUE = "celery"
CELERY_TIMEZONE = "UTC"

STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
MEDIA_URL = "/media/"
MEDIA_ROOT = BASE_DIR / "media"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    # Hashed names keep the files of two releases side by side while both run.
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
}

EMAIL_HOST = env.text("EMAIL_HOST")
EMAIL_PORT = env.number("EMAIL_PORT", 587)
EMAIL_HOST_USER = env.text("EMAIL_HOST_USER")
EMAIL_HOST_PASSWORD = env.text("EMAIL_HOST_PASSWORD")
EMAIL_USE_TLS = env.flag("EMAIL_USE_TLS")
EMAIL_USE_SSL = env.flag("EMAIL_USE_SSL")
EMAIL_TIMEOUT = 10
EMAIL_BACKEND = f"django.core.mail.backends.{'smtp' if EMAIL_HOST else 'console'}.EmailBackend"
DEFAULT_FROM_EMAIL = env.text("DEFAULT_FROM_EMAIL", "webmaster@localhost")

LOG_DIR = Path(os.environ.get("LOG_DIR", "/var/log/app") or os.devnull)
LOG_HANDLERS = ["console"] + (["file"] if LOG_DIR.is_dir() and os.access(LOG_DIR, os.W_OK) else [])
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(levelname)s %(name)s %(message)s"}},
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "line"},
        # The host rotates this file: the handler opens it anew when it was moved.
        "file": {
            "class": "logging.handlers.WatchedFileHandler" if "file" in LOG_HANDLERS else "logging.NullHandler",
            **({"filename": LOG_DIR / "application.log", "formatter": "line"} if "file" in LOG_HANDLERS else {}),
        },
    },
    "root": {"handlers": LOG_HANDLERS, "level": env.text("LOG_LEVEL", "INFO")},
}
