from django.apps import AppConfig
from django.core.checks import Error, register


class ProbeConfig(AppConfig):
    name = "probe"

    def ready(self):
        register(check_encryption_key)


def check_encryption_key(app_configs, **kwargs):
    from django.core.exceptions import ImproperlyConfigured

    from probe.sealed import box

    try:
        box()
    except ImproperlyConfigured as error:
        return [Error(str(error), id="probe.E001")]
    return []
