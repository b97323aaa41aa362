"""Text at rest, readable with any key of FIELD_ENCRYPTION_KEY and written with its first."""

from functools import cache

from cryptography.fernet import Fernet, MultiFernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured


@cache
def box():
    try:
        return MultiFernet([Fernet(key) for key in settings.FIELD_ENCRYPTION_KEYS])
    except ValueError as error:
        raise ImproperlyConfigured(f"FIELD_ENCRYPTION_KEY: {error}") from None


def seal(text):
    return box().encrypt(text.encode()).decode()


def unseal(token):
    return box().decrypt(token.encode()).decode()
