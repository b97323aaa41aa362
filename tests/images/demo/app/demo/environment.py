"""The environment an application image gets (docs: the application image's contract).

Each variable may also be called OWN_NAME, and be a file that NAME_FILE or OWN_NAME_FILE names: applications have names of their own.
"""

import os
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

REQUIRED = (
    "SECRET_KEY",
    "FIELD_ENCRYPTION_KEY",
    "ALLOWED_HOSTS",
    "DB_NAME",
    "DB_USER",
    "DB_PASSWORD",
    "DB_HOST",
    "REDIS_URL",
    "CELERY_BROKER_URL",
    "CELERY_RESULT_BACKEND",
)


def require():
    missing = [name for name in REQUIRED if not text(name)]
    if missing:
        raise ImproperlyConfigured(f"Missing from the environment: {', '.join(missing)}")


def text(name, default=""):
    for variable in (f"OWN_{name}", name):
        if value := os.environ.get(variable):
            return value
        if path := os.environ.get(f"{variable}_FILE"):
            return Path(path).read_text(encoding="utf-8")
    return default


def flag(name, default=False):
    value = text(name, str(default)).strip().lower()
    if value in ("1", "true", "yes", "on"):
        return True
    if value in ("0", "false", "no", "off"):
        return False
    raise ImproperlyConfigured(f"{name} is {value!r}: it must be true or false")


def number(name, default):
    value = text(name, str(default))
    try:
        return int(value)
    except ValueError:
        raise ImproperlyConfigured(f"{name} is {value!r}: it must be a whole number") from None


def items(name):
    return [item.strip() for item in text(name).split(",") if item.strip()]
